"""What went wrong with a request or a stream, as a `ServiceError`; and when to try again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from maskwatch.errors import ServiceError
from maskwatch.net.addresses import without_credentials
from maskwatch.net.headers import retry_after_s

_BUSY = (429, 503)
_LONGEST_PAUSE_S = 60.0  # a longer `Retry-After` is the caller's decision, so the error is raised
_PROBLEM = "application/problem+json"


def problem(
    status: int, headers: Mapping[str, str], body: bytes, sources: Sequence[str] = ()
) -> ServiceError:
    """The error for a response that is not 200: the detail of RFC 9457, otherwise its first line."""
    failures: list[tuple[str, str]] = []
    try:
        if not headers.get("content-type", "").startswith(_PROBLEM):
            raise ValueError
        record = json.loads(body)
        detail = str(record["detail"])
        failures = [(_source_of(one, sources), str(one["reason"])) for one in record.get("failures", [])]
    except (ValueError, KeyError, TypeError, IndexError):
        lines = body.decode("utf-8", "replace").strip().splitlines()
        detail = f"the service answered {status} {lines[0][:200] if lines else ''}".rstrip()
        detail += "; look at its log, and at that of a proxy before it"
    after_s = retry_after_s(headers.get("retry-after"))
    return ServiceError(detail, status=status, retry_after_s=after_s, failures=failures)


def _source_of(record: Mapping[str, object], sources: Sequence[str]) -> str:
    index = record.get("index")
    return str(record["source"]) if index is None or not sources else sources[int(str(index))]


def unreachable(base_url: httpx2.URL, error: Exception) -> ServiceError:
    """The error for a request or stream that got no response."""
    reason, where = str(error) or type(error).__name__, without_credentials(str(base_url))
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return ServiceError(f"{where} did not answer in time ({reason}); ask again, or raise timeout_s")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return ServiceError(
            f"{where} has a certificate that is not trusted ({reason}); pass its issuer as tls"
        )
    return ServiceError(f"{where} cannot be reached ({reason}); start it with: maskwatch serve")


@contextmanager
def opening(base_url: httpx2.URL) -> Iterator[None]:
    """Turns the errors of opening a stream into `ServiceError`."""
    try:
        yield
    except InvalidStatus as error:
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        raise problem(response.status_code, headers, bytes(response.body or b"")) from error
    except (OSError, InvalidHandshake) as error:
        raise unreachable(base_url, error) from error


@contextmanager
def streaming(timeout_s: float | None = None) -> Iterator[None]:
    """Turns the errors of an open stream into `ServiceError`."""
    try:
        yield
    except TimeoutError as error:
        raise ServiceError(f"no answer on the stream within {timeout_s:g} s; send a frame first") from error
    except ConnectionClosed as error:
        close = error.rcvd
        reason = "the connection broke" if close is None else f"{int(close.code)} {close.reason}".rstrip()
        raise ServiceError(f"the stream has ended ({reason}); open it again") from error


def pause_s(error: ServiceError, tries: int, retries: int) -> float | None:
    """Seconds to wait before the next try; None where the error is raised instead.

    Args:
        error: what the last try raised.
        tries: tries so far, at least 1.
        retries: tries allowed after the first one.
    """
    if error.status not in _BUSY or tries > retries:
        return None
    wanted_s = 2.0 ** (tries - 1) if error.retry_after_s is None else error.retry_after_s
    if wanted_s > _LONGEST_PAUSE_S:
        return None
    # Jitter: clients that were rejected together must not come back together.
    return wanted_s + random.uniform(0, 0.25 * max(1.0, wanted_s))
