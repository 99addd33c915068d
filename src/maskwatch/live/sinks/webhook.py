"""Events by HTTP: signed, in order, at least once, on disk while the receiver is unreachable.

Headers and signature are those of the Standard Webhooks specification, version 1
(https://www.standardwebhooks.com); its libraries verify them in a receiver.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import requests
import urllib3
from standardwebhooks import Webhook

from maskwatch._version import __version__
from maskwatch.errors import EventError, OptionError
from maskwatch.live.sinks import RetryableError
from maskwatch.live.sinks.outbox import OutboxSink, QueuedEvent
from maskwatch.net.addresses import Address, shown_argument, without_credentials
from maskwatch.net.headers import retry_after_s

TIMEOUT_S = (5.0, 10.0)
"""For the connection, and for the answer."""

_SECRET_PREFIX = "whsec_"
_LEAST_SECRET_BYTES = 16

REFUSED_STATUS = frozenset([400, 410, 413, 422])
"""The receiver has read the event, or is gone for good: its next answer would be the same."""

REFUSED_S = 24 * 3600.0
"""How long an event is retried that gets another 3xx or 4xx, such as 404 during a deployment."""

_DOWN_STATUS = frozenset([408, 425, 429])
_READ_BYTES = 4096
_SHOWN_CHARACTERS = 120
_SECRET_CHARACTERS = 6  # a shorter part of an address is a word and no secret


class WebhookSink(OutboxSink):
    """Posts each event as JSON. An event counts as stored once it is in the outbox.

    Args:
        url: http(s); certificates are verified.
        outbox: file of the events that the receiver has not taken yet.
        secret: shared with the receiver; None sends without a signature.

    Raises:
        OptionError: a URL or a secret that cannot be used.
        EventError: the outbox cannot be used.
    """

    name = "webhook"

    def __init__(self, url: str, outbox: Path, secret: str | None = None) -> None:
        check_url(url)
        self._url, self._server = url, server_of(url)
        self._signer = None if secret is None else Webhook(key_of(secret))
        self._refused: tuple[int, float] | None = None
        """Number of the event that the receiver currently refuses, and since when."""
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"maskwatch/{__version__}"
        super().__init__(outbox)
        self.start()

    def close(self, timeout_s: float) -> None:
        super().close(timeout_s)
        self._session.close()

    def deliver(self, event: QueuedEvent) -> None:
        try:
            answer = self._session.post(
                self._url,
                data=event.body.encode(),
                headers=self._headers(event),
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise RetryableError(f"{self._server}: {_reason(error)}") from None
        with answer:
            self._check_answer(event, answer)

    def _headers(self, event: QueuedEvent) -> dict[str, str]:
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": event.id,
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self._signer is not None:
            headers["webhook-signature"] = self._signer.sign(event.id, now, event.body)
        return headers

    def _check_answer(self, event: QueuedEvent, answer: requests.Response) -> None:
        text = b""
        # The body only explains the status; reading it lets the connection be reused.
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
            text = answer.raw.read(_READ_BYTES)
        status = answer.status_code
        if 200 <= status < 300:
            self._refused = None
            return
        words = " ".join(_without_path(text.decode("utf-8", "replace"), self._url).split())
        said = f"{self._server}: the receiver says {status} {answer.reason}"
        said += f" ({words[:_SHOWN_CHARACTERS]})" if words else ""
        if status in REFUSED_STATUS or self._refused_too_long(event, status):
            self._refused = None
            raise EventError(
                f"{said}; correct address, secret or receiver, then: maskwatch events dead-letters --retry"
            )
        step = "repair the receiver"
        if 300 <= status < 400:
            step = "give the address that it redirects to"
        elif status < 500 and status not in _DOWN_STATUS:
            step = "correct address, secret or receiver"
        raise RetryableError(f"{said}; {step}", retry_after_s(answer.headers.get("Retry-After")) or None)

    def _refused_too_long(self, event: QueuedEvent, status: int) -> bool:
        """Whether an event has been refused for so long that the next one should be sent.

        Not while the receiver is down: the next event would fail as well.
        """
        if status in _DOWN_STATUS or status >= 500:
            return False
        if self._refused is None or self._refused[0] != event.seq:
            self._refused = (event.seq, time.monotonic())
        return time.monotonic() - self._refused[1] >= REFUSED_S


def key_of(secret: str) -> bytes:
    """The key of a secret: base64 after `whsec_`, any other text as it is.

    Raises:
        OptionError: too short, or not valid Base64.
    """
    name, step = "the webhook's secret", "make one with: echo whsec_$(openssl rand -base64 32)"
    try:
        key = secret.encode()
        if secret.startswith(_SECRET_PREFIX):
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise OptionError(f"{name} is not valid Base64 after {_SECRET_PREFIX!r}; {step}") from None
    if len(key) < _LEAST_SECRET_BYTES:
        raise OptionError(f"{name} has {len(key)} bytes, {_LEAST_SECRET_BYTES} are the least; {step}")
    return key


def check_url(url: str) -> None:
    """Makes sure that events can be posted to an address.

    Raises:
        OptionError: it is not a valid http(s) URL, or has a user or a password in it.
    """
    try:
        address = Address.parse(url)
        usable = address.scheme in ("http", "https")
        if usable:
            requests.Request("POST", address.url).prepare()
    except (ValueError, requests.RequestException):
        usable = False
    if not usable:
        raise OptionError(f"--webhook {shown_argument(url)!r} is not a valid URL; write https://host/path")
    if address.user is not None:
        raise OptionError(
            f"--webhook {server_of(without_credentials(url))} has a user or a password in it, which every "
            "user of this machine could read; use MASKWATCH_WEBHOOK_SECRET instead"
        )


def server_of(url: str) -> str:
    """Scheme and host of an address; the rest may hold a secret."""
    address = Address.parse(url)
    return f"{address.scheme}://{address.server}"


def _without_path(text: str, url: str) -> str:
    """An answer without the path of the address: receivers repeat it, and it may be a secret."""
    rest = Address.parse(url).rest
    known = {rest, rest.partition("?")[0], *re.split("[/?&=;#]", rest)}
    known |= {unquote(one) for one in known}
    for one in sorted(known, key=len, reverse=True):
        if len(one) >= _SECRET_CHARACTERS:
            text = text.replace(one, "***")
    return text


def _reason(error: requests.RequestException) -> str:
    """Why the receiver was not reached; without its address, which may hold a secret."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted; replace it, or name its authority in REQUESTS_CA_BUNDLE"
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
