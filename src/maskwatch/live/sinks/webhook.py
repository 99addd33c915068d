"""Events by HTTP: signed, in order, at least once, and kept on disk while the receiver is away.

Headers and signature are those of the Standard Webhooks specification, version 1
(https://www.standardwebhooks.com): a receiver may verify them with a library for it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import socket
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

import requests
import urllib3

from maskwatch._version import __version__
from maskwatch.errors import OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink, SinkState, TryLater
from maskwatch.live.sinks.courier import FIRST_RETRY_S, Courier, Refused
from maskwatch.live.sinks.outbox import MAX_OUTBOX_BYTES, Letter, Outbox
from maskwatch.net.addresses import Address, shown_argument, without_credentials

TIMEOUT_S = (5.0, 10.0)
"""For the connection, and for the answer."""

_SECRET_PREFIX = "whsec_"
_LEAST_SECRET_BYTES = 16

REFUSED_STATUS = frozenset([400, 410, 413, 422])
"""The receiver has read the event, or is gone for good: it will say the same the next time."""

REFUSED_S = 24 * 3600.0
"""So long an event is tried again that is refused otherwise, as by a receiver that is being changed (404)."""

_DOWN_STATUS = frozenset([408, 425, 429])
_READ_BYTES = 4096
_SHOWN_CHARACTERS = 120
_SECRET_CHARACTERS = 6  # what is shorter is a word, and no secret


class WebhookSink(Sink):
    """Posts each event as JSON. An event counts as stored once it is in the outbox.

    Args:
        url: http(s); certificates are verified.
        outbox: file of the events that the receiver has not got yet.
        refused_s: see `REFUSED_S`.
        secret: text that the receiver knows too; None sends without a signature.

    Raises:
        OptionError: a URL or a secret that cannot be used.
        EventError: the outbox cannot be used.
    """

    name = "webhook"
    durable = True

    def __init__(
        self,
        url: str,
        outbox: Path,
        secret: str | None = None,
        *,
        max_outbox_bytes: int = MAX_OUTBOX_BYTES,
        first_retry_s: float = FIRST_RETRY_S,
        refused_s: float = REFUSED_S,
    ) -> None:
        check_url(url)
        self._url, self._where = url, where(url)
        self._key = None if secret is None else key_of(secret)
        self._refused_s = refused_s
        self._refused: tuple[int, float] | None = None
        """Which event the receiver refuses at the moment, and since when."""
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"maskwatch/{__version__}"
        self._courier = Courier(
            self.name, Outbox(outbox, max_bytes=max_outbox_bytes), self._post, first_retry_s=first_retry_s
        )
        self._courier.start()

    def send(self, event: Event) -> None:
        self._courier.add(event)

    def delete_before(self, when: datetime) -> int:
        return self._courier.delete_before(when)

    def state(self) -> SinkState:
        return self._courier.state()

    def close(self, timeout_s: float) -> None:
        self._courier.close(timeout_s)
        self._session.close()

    def _post(self, letter: Letter) -> None:
        body = letter.body.encode()
        try:
            answer = self._session.post(
                self._url,
                data=body,
                headers=self._headers(letter, body),
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise TryLater(f"{self._where}: {_reason(error)}") from None
        with answer:
            self._judge(letter, answer)

    def _headers(self, letter: Letter, body: bytes) -> dict[str, str]:
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": letter.id,
            "webhook-id": letter.id,
            "webhook-timestamp": stamp,
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, letter.id, stamp, body)
        return headers

    def _judge(self, letter: Letter, answer: requests.Response) -> None:
        text = b""
        # The status is the answer; the rest is read for its words, and so that the connection can go on.
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
            text = answer.raw.read(_READ_BYTES)
        status = answer.status_code
        if 200 <= status < 300:
            self._refused = None
            return
        told = _without_path(text.decode("utf-8", "replace"), self._url)
        words = " ".join(told.split())[:_SHOWN_CHARACTERS]
        said = f"{self._where}: the receiver says {status} {answer.reason}" + (f" ({words})" if words else "")
        if status in REFUSED_STATUS or self._is_tired_of(letter, status):
            self._refused = None
            raise Refused(f"{said}; mend address, secret or receiver, then: maskwatch events parked --retry")
        step = "mend the receiver"
        if status < 500 and status not in _DOWN_STATUS:
            redirected = 300 <= status < 400
            step = (
                "give the address that it redirects to" if redirected else "mend address, secret or receiver"
            )
        raise TryLater(f"{said}; {step}", _retry_after(answer))

    def _is_tired_of(self, letter: Letter, status: int) -> bool:
        """Whether an event has been refused for too long, so that the next one shall have its turn.

        Only where it is refused: while a receiver is down, none is better off than the other.
        """
        if status in _DOWN_STATUS or status >= 500:
            return False
        if self._refused is None or self._refused[0] != letter.seq:
            self._refused = (letter.seq, time.monotonic())
        return time.monotonic() - self._refused[1] >= self._refused_s


def sign(key: bytes, id: str, stamp: str, body: bytes) -> str:
    """The value of the header `webhook-signature`: HMAC-SHA256 over id, time and body."""
    digest = hmac.new(key, b".".join((id.encode(), stamp.encode(), body)), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: base64 after `whsec_`, any other text as it is.

    Raises:
        OptionError: too short, or no base64.
    """
    name = "the webhook's secret"
    try:
        key = secret.encode()
        if secret.startswith(_SECRET_PREFIX):
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise OptionError(
            f"{name} is no base64 after {_SECRET_PREFIX!r}; make one with: "
            "echo whsec_$(openssl rand -base64 32)"
        ) from None
    if len(key) < _LEAST_SECRET_BYTES:
        raise OptionError(
            f"{name} has {len(key)} bytes, {_LEAST_SECRET_BYTES} are the least; make one with: "
            "echo whsec_$(openssl rand -base64 32)"
        )
    return key


def check_url(url: str) -> None:
    """Makes sure that events can be posted to an address.

    Raises:
        OptionError: they cannot.
    """
    try:
        address = Address.parse(url)
        usable = address.scheme in ("http", "https")
        if usable:
            requests.Request("POST", address.url).prepare()
    except (ValueError, requests.RequestException):
        usable = False
    if not usable:
        raise OptionError(f"--webhook {shown_argument(url)!r} is no address; write https://host/path")
    if address.user is not None:
        raise OptionError(
            f"--webhook {where(without_credentials(url))} has a user or a password in it, which every user "
            "of this machine could read; use MASKWATCH_WEBHOOK_SECRET instead"
        )


def where(url: str) -> str:
    """Scheme and host of an address, without what may be secret in it."""
    address = Address.parse(url)
    return f"{address.scheme}://{address.server}"


def _without_path(text: str, url: str) -> str:
    """A text of a receiver without the path of its address: many repeat it, and it may be a secret."""
    rest = Address.parse(url).rest
    known = {rest, rest.partition("?")[0], *re.split("[/?&=;#]", rest)}
    known |= {unquote(one) for one in known}
    for one in sorted(known, key=len, reverse=True):
        if len(one) >= _SECRET_CHARACTERS:
            text = text.replace(one, "***")
    return text


def _reason(error: requests.RequestException) -> str:
    """Short, and without the address, which may hold a secret."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted; mend it, or name its authority in REQUESTS_CA_BUNDLE"
    if isinstance(error, requests.Timeout):
        return "does not answer in time; check the receiver"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "there is no such host; check the address"
        if isinstance(cause, ConnectionError):
            return f"{cause.strerror or 'hung up'}; check the receiver".lower()
        cause = cause.__cause__ or cause.__context__
    return f"cannot be reached ({type(error).__name__}); check the receiver"


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds that the receiver asks for, as a number or as a date; None where it asks for none."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text) or None
    try:
        when = parsedate_to_datetime(text)
        seconds = when.timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if seconds > 0 else None
