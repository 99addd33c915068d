"""Downloads large files over http(s), and resumes after an interruption.

`NAME.part` holds the bytes so far, and `NAME.part.json` the version of the file (ETag or Last-Modified). The
next attempt requests the rest of exactly that version (RFC 9110, sections 13.1.5 and 14.2). A server that has
another version, or does not support ranges, sends the whole file again.
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
from maskwatch.outputs import output_errors
from maskwatch.text import reason_of

PAUSES_S = (1.0, 3.0, 9.0, 27.0)
"""Pauses between attempts; they start again after an attempt that received `_GOOD_BYTES`."""

_GOOD_BYTES = 1 << 20
_CHUNK = 1 << 18
_TRANSIENT = frozenset([408, 425, 429, 500, 502, 503, 504])

DownloadProgress: TypeAlias = Callable[[int, int | None], None]


class _TransientError(Exception):
    """A failure of the connection or the server that may be temporary."""


def fetch_file(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    progress: DownloadProgress | None = None,
    pauses_s: tuple[float, ...] = PAUSES_S,
    max_bytes: int | None = None,
) -> str:
    """Fetches a whole file, resuming that of an earlier call, and returns its SHA-256 in hexadecimal.

    Args:
        url: http or https.
        target: replaced at the end; `target.part` and `target.part.json` stay after a failure.
        sha256: the expected checksum; a file with another one is deleted.
        progress: called with the bytes so far and the bytes in total, if known.
        pauses_s: before the second attempt, the third and so on.
        max_bytes: limit of the file's size.

    Raises:
        SourceError: the server refuses or fails in all attempts, the file is too large, or its checksum is
            another.
        OutputError: the file cannot be written, or there is no room for it.
    """
    transfer = _Transfer(url, target, progress or (lambda done, total: None), max_bytes)
    _run_attempts(transfer, pauses_s)
    part = transfer.part
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    transfer.state.unlink(missing_ok=True)
    if sha256 is not None and found != sha256.lower():
        part.unlink()
        raise SourceError(
            f"{transfer.shown}: the SHA-256 is {found} and not {sha256.lower()}, so the file was deleted; "
            "check the checksum, and whether this is the file you want"
        )
    with output_errors(target):
        part.replace(target)
    return found


def _run_attempts(transfer: _Transfer, pauses_s: tuple[float, ...]) -> None:
    failed = 0
    while True:
        before = transfer.size()
        try:
            transfer.attempt()
            return
        except _TransientError as error:
            failed = 1 if transfer.size() - before >= _GOOD_BYTES else failed + 1
            if failed > len(pauses_s):
                raise SourceError(
                    f"{transfer.shown}: {error}, {failed} times in a row; {transfer.size()} bytes are saved: "
                    "run it again later to resume"
                ) from None
            time.sleep(pauses_s[failed - 1])


class _Transfer:
    """The download of one file into `part`, with its version in `state`."""

    def __init__(self, url: str, target: Path, progress: DownloadProgress, max_bytes: int | None) -> None:
        self.shown, self._url = without_credentials(url), url
        self.part = target.with_name(f"{target.name}.part")
        self.state = target.with_name(f"{target.name}.part.json")
        self._progress, self._max_bytes = progress, max_bytes

    def size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def attempt(self) -> None:
        """Sends one request and receives all of the answer; raises `_TransientError` to try again."""
        validator, have = self._validator(), self.size()
        headers: dict[str, str] = {}
        if validator and have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            with open_url(self._url, TIMEOUT_S, headers) as response:
                self._receive(response, have)
        except HTTPError as error:
            with error:
                self._refused(error, have)
        except (ValueError, http.client.InvalidURL) as error:
            raise SourceError(f"{self.shown}: cannot be fetched ({error}); check the URL") from None
        except URLError as error:
            if not have:  # probably a wrong address
                raise SourceError(
                    f"{self.shown}: cannot be fetched ({error.reason}); check the URL and the network"
                ) from None
            raise _TransientError(f"the server cannot be reached ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"the connection was cut ({reason_of(error)})") from None

    def _refused(self, error: HTTPError, have: int) -> None:
        if error.code == 416:  # the whole file was received before: the range begins at its end
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            self.part.unlink(missing_ok=True)
            raise _TransientError("the server has another file now")
        said = f"the server says {error.code} {error.reason}"
        if error.code in _TRANSIENT:
            raise _TransientError(said)
        raise SourceError(f"{self.shown}: {said}; check the URL")

    def _receive(self, response: http.client.HTTPResponse, have: int) -> None:
        resumes = response.status == 206
        if resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            self.part.unlink()
            raise _TransientError("the server sent another range than requested")
        have = have if resumes else 0
        total = None if response.length is None else have + response.length
        self._check_size(total or have)
        self._check_room(total, have)
        if not resumes:
            self._remember_version(response)
        with output_errors(self.part):
            file = self.part.open("ab" if resumes else "wb")
        with file:
            self._progress(have, total)
            while chunk := response.read1(_CHUNK):
                with output_errors(self.part):
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
        with output_errors(self.part):
            free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - have > free:
            raise OutputError(
                f"{self.part}: {(total - have) / 1e6:.0f} MB are missing and {free / 1e6:.0f} MB are free; "
                "make room, or write somewhere else with --out"
            )

    def _validator(self) -> str | None:
        """ETag or Last-Modified of the version in `part`; None where there is nothing to resume."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            state = json.loads(self.state.read_text("utf-8"))
            if state["url"] == self.shown and isinstance(state["validator"], str):
                return str(state["validator"])
        return None

    def _remember_version(self, response: http.client.HTTPResponse) -> None:
        etag = response.headers.get("ETag", "")
        if etag.startswith("W/"):  # a weak one may be equal for other bytes
            etag = ""
        state = {"url": self.shown, "validator": etag or response.headers.get("Last-Modified")}
        with output_errors(self.state):
            self.part.unlink(missing_ok=True)  # first, so that a crash leaves no old part with a new state
            self.state.write_text(json.dumps(state), "utf-8")
