"""Frames over a WebSocket: what is said on it; nothing here sends anything."""

from __future__ import annotations

import json
import ssl
import struct
from collections.abc import Mapping
from typing import Any

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidStatus

from maskwatch.client.answers import FrameAnswer
from maskwatch.client.protocol import Classes, Threshold, frame_bytes, problem, unreachable
from maskwatch.errors import ServiceError
from maskwatch.media.images import ImageInput

AHEAD = 2
"""Frames on their way at once: one is looked at while the next one travels."""

_SEQUENCE = struct.Struct(">Q")


def address(base_url: httpx2.URL, params: Mapping[str, str]) -> str:
    """The WebSocket's address."""
    scheme = "wss" if base_url.scheme == "https" else "ws"
    path = base_url.path.rstrip("/") + "/v1/stream"
    return str(base_url.copy_with(scheme=scheme, path=path, params=dict(params)))


def connecting(
    http: httpx2.Client | httpx2.AsyncClient, timeout_s: float, tls: ssl.SSLContext | None
) -> dict[str, Any]:
    """Arguments for either of websockets' `connect`: what holds for requests holds for the stream."""
    token = http.headers.get("authorization")
    return {
        "additional_headers": {} if token is None else {"Authorization": token},
        "user_agent_header": http.headers["user-agent"],
        "open_timeout": timeout_s,
        "compression": None,  # a JPEG gets no smaller
        "proxy": True if http.trust_env else None,
        "ssl": tls if http.base_url.scheme == "https" else None,
    }


def refused(base_url: httpx2.URL, error: Exception) -> ServiceError:
    """A stream that could not be opened, as an error."""
    if not isinstance(error, InvalidStatus):
        return unreachable(base_url, error)
    response = error.response
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return problem(response.status_code, headers, bytes(response.body or b""))


def ended(error: ConnectionClosed) -> ServiceError:
    """A stream that was closed by the service, or broke, as an error."""
    closed = error.rcvd
    why = "the connection broke" if closed is None else f"{int(closed.code)} {closed.reason}".rstrip()
    return ServiceError(f"the stream has ended ({why}); open it again")


class Ledger:
    """Numbers the frames of a stream, and knows how many of them are still unanswered."""

    def __init__(self) -> None:
        self._sent = self._settled = 0

    @property
    def open(self) -> int:
        """Frames that were sent and neither answered nor passed over."""
        return self._sent - self._settled

    def pack(self, image: ImageInput) -> tuple[int, bytes]:
        """Number of a frame, from 1, and the message that carries it."""
        file = frame_bytes(image)
        self._sent += 1
        return self._sent, _SEQUENCE.pack(self._sent) + file

    def read(self, message: str | bytes) -> FrameAnswer:
        """An answer.

        Raises:
            ServiceError: a setting was refused, or the message is none of a Maskwatch service.
        """
        try:
            record = json.loads(message)
            if "seq" not in record:
                raise ServiceError(str(record["problem"]["detail"]), status=record["problem"].get("status"))
            answer = FrameAnswer.from_record(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"the stream gave no answer of a Maskwatch service ({message[:80]!r}); check the address"
            ) from error
        self._settled = max(self._settled, answer.seq)
        return answer


def threshold_message(threshold: Threshold | None) -> str:
    """The message that changes the threshold from the next frame on."""
    return json.dumps({"threshold": dict(threshold) if isinstance(threshold, Mapping) else threshold})


def classes_message(classes: Classes | None) -> str:
    """The message that changes which classes are told of."""
    if isinstance(classes, str):
        classes = [name.strip() for name in classes.split(",")]
    return json.dumps({"classes": None if classes is None else list(classes)})
