"""A large file over http(s), in as many attempts as the connection needs.

What has come so far lies in `NAME.part`, and beside it in `NAME.part.json` what the server called that
version of the file (ETag or Last-Modified). The next attempt asks for the rest of exactly that version
(RFC 9110, sections 13.1.5 and 14.2); a server that has another one, or knows no ranges, sends the whole file,
and it starts again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.error import HTTPError, URLError

from maskwatch.errors import OutputError, SourceError
from maskwatch.net.addresses import without_credentials
from maskwatch.net.fetch import TIMEOUT_S, open_url
from maskwatch.outputs import writing
from maskwatch.text import reason_of

PAUSES_S = (1.0, 3.0, 9.0, 27.0)
"""Waits between one attempt and the next. The count starts again after an attempt that brought a megabyte."""

_GOOD_ATTEMPT = 1 << 20
_CHUNK = 1 << 18
_TRANSIENT = frozenset([408, 425, 429, 500, 502, 503, 504])

Progress: TypeAlias = Callable[[int, int | None], None]


class _TransientError(Exception):
    """The connection or the server failed in a way that may pass."""


def fetch_file(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    pauses_s: tuple[float, ...] = PAUSES_S,
    timeout_s: float = TIMEOUT_S,
    max_bytes: int | None = None,
) -> str:
    """Fetches a whole file, resuming what an earlier call left, and gives its SHA-256 in hexadecimal.

    Args:
        url: http or https.
        target: is replaced when all has come; `target.part` and `target.part.json` stay after a failure.
        sha256: what the file must have; another one is deleted.
        progress: called with the bytes so far and the bytes of all, if known.
        pauses_s: waits before the second attempt, the third and so on.
        timeout_s: longest silence of the server.
        max_bytes: a larger file is refused; None for any size.

    Raises:
        SourceError: the server refuses, is not there after all attempts, the file is too large, or the
            checksum is another.
        OutputError: the file cannot be written, or there is no room for it.
    """
    shown = without_credentials(url)
    part = target.with_name(f"{target.name}.part")
    state = part.with_name(f"{part.name}.json")
    transfer = _Transfer(url, part, state, progress or (lambda done, total: None), timeout_s, max_bytes)
    _in_attempts(transfer, pauses_s)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    state.unlink(missing_ok=True)
    if sha256 is not None and found != sha256.lower():
        part.unlink()
        raise SourceError(
            f"{shown}: the SHA-256 is {found} and not {sha256.lower()}, so the file was deleted; "
            "check the checksum, and whether this is the file you want"
        )
    with writing(target):
        part.replace(target)
    return found


def _in_attempts(transfer: _Transfer, pauses_s: tuple[float, ...]) -> None:
    failed = 0
    while True:
        before = transfer.size()
        try:
            transfer.attempt()
            return
        except _TransientError as error:
            failed = 1 if transfer.size() - before >= _GOOD_ATTEMPT else failed + 1
            if failed > len(pauses_s):
                raise SourceError(
                    f"{transfer.shown}: {error}, {failed} times in a row; {transfer.size()} bytes have come: "
                    "run it again later to go on from there"
                ) from None
            time.sleep(pauses_s[failed - 1])


class _Transfer:
    """The file on its way into its part."""

    def __init__(
        self,
        url: str,
        part: Path,
        state: Path,
        progress: Progress,
        timeout_s: float,
        max_bytes: int | None,
    ) -> None:
        self.shown, self._url = without_credentials(url), url
        self._part, self._state = part, state
        self._progress, self._timeout_s, self._max_bytes = progress, timeout_s, max_bytes

    def size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def attempt(self) -> None:
        """One request; returns when all has come.

        Raises:
            _TransientError: it may go better next time.
        """
        validator, have = self._validator(), self.size()
        headers: dict[str, str] = {}
        if validator and have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            with open_url(self._url, self._timeout_s, headers) as response:
                self._receive(response, have)
        except HTTPError as error:
            with error:
                self._refused(error, have)
        except (ValueError, http.client.InvalidURL) as error:
            raise SourceError(f"{self.shown}: cannot be fetched ({error}); check the URL") from None
        except URLError as error:
            if not have:  # more likely a wrong address than bad luck
                raise SourceError(
                    f"{self.shown}: cannot be fetched ({error.reason}); check the URL and the network"
                ) from None
            raise _TransientError(f"the server cannot be reached ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"the connection was cut ({reason_of(error)})") from None

    def _refused(self, error: HTTPError, have: int) -> None:
        if error.code == 416:  # the range begins at the end when all has come, and no one has looked yet
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            self._part.unlink(missing_ok=True)
            raise _TransientError("the server has another file now")
        said = f"the server says {error.code} {error.reason}"
        if error.code in _TRANSIENT:
            raise _TransientError(said)
        raise SourceError(f"{self.shown}: {said}; check the URL")

    def _receive(self, response: http.client.HTTPResponse, have: int) -> None:
        resumes = response.status == 206
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            self._part.unlink()
            raise _TransientError("the server sent another part than asked for")
        have = have if resumes else 0
        total = None if response.length is None else have + response.length
        self._check_size(total or have)
        self._check_room(total, have)
        if not resumes:
            self._remember(response, total)
        with writing(self._part):
            file = self._part.open("ab" if resumes else "wb")
        with file:
            self._progress(have, total)
            while chunk := response.read1(_CHUNK):
                with writing(self._part):
                    file.write(chunk)
                have += len(chunk)
                self._check_size(have)
                self._progress(have, total)
        if total is not None and have < total:
            raise _TransientError(f"the connection was cut after {have} of {total} bytes")

    def _check_size(self, count: int) -> None:
        if self._max_bytes is not None and count > self._max_bytes:
            most = f"{self._max_bytes / (1 << 20):g} MiB"
            raise SourceError(f"{self.shown}: more than {most}; check the URL, or download the file yourself")

    def _check_room(self, total: int | None, have: int) -> None:
        with writing(self._part):
            free = shutil.disk_usage(self._part.parent).free
        if total is not None and total - have > free:
            raise OutputError(
                f"{self._part}: {(total - have) / 1e6:.0f} MB are to come and {free / 1e6:.0f} MB are free; "
                "make room, or write somewhere else with --out"
            )

    def _validator(self) -> str | None:
        """What the server called the version that the part is of; None where there is nothing to resume."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            state = json.loads(self._state.read_text("utf-8"))
            if state["url"] == self.shown and isinstance(state["validator"], str):
                return str(state["validator"])
        return None

    def _remember(self, response: http.client.HTTPResponse, total: int | None) -> None:
        etag = response.headers.get("ETag")
        if etag and etag.startswith("W/"):  # a weak one may be equal for other bytes
            etag = None
        validator = etag or response.headers.get("Last-Modified")
        state = {"url": self.shown, "validator": validator, "total": total}  # no user and password
        with writing(self._state):
            self._part.unlink(missing_ok=True)  # no old part beside a new state, even after a crash
            self._state.write_text(json.dumps(state), "utf-8")
