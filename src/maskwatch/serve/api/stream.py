"""`WS /v1/stream`: frames in, records out; always the newest frame, however long inference takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import anyio
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from maskwatch.errors import ImageError
from maskwatch.records import to_records
from maskwatch.serve.core.prediction import DetectOptions, find_faces
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.service import Service, service_of

router = APIRouter()

_HEADER = 8
"""Bytes of the sequence number, big-endian, before the picture."""

_GOING_AWAY, _BAD_DATA, _TOO_LARGE, _TRY_LATER = 1001, 1003, 1009, 1013  # RFC 6455, section 7.4.1, and IANA
_LONGEST_TEXT = 10_000


@dataclass(frozen=True)
class _Frame:
    seq: int
    data: bytes


class _Closed(Exception):
    """The stream ends with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Binary messages: a sequence number of 8 bytes, then a picture. See docs/service.md."""
    service, query = service_of(socket), socket.query_params
    try:
        options = DetectOptions.from_query(
            service.registry, query.get("model"), query.get("threshold"), query.get("classes")
        )
    except Problem as problem:
        await socket.send_denial_response(problem.to_response(socket.url.path))
        return
    await socket.accept()
    frames = _Stream(service, socket, options)
    try:
        with service.open_stream(frames):
            await frames.run()
    except Problem as problem:
        await socket.close(_TRY_LATER, problem.detail)


class _Stream:
    """One client: a task that receives, a task that detects, and the newest frame between them."""

    def __init__(self, service: Service, socket: WebSocket, options: DetectOptions) -> None:
        self._service, self._socket, self._options = service, socket, options
        self._newest: _Frame | None = None
        self._dropped = 0
        self._arrived, self._evicted = asyncio.Event(), asyncio.Event()
        self._last_s = perf_counter()

    @property
    def idle_s(self) -> float:
        return perf_counter() - self._last_s

    def end(self) -> None:
        self._evicted.set()

    async def run(self) -> None:
        """Until the client disconnects or the service stops."""
        try:
            async with anyio.create_task_group() as group:
                for work in (self._receive, self._answer, self._end_on_stop, self._end_on_eviction):
                    group.start_soon(work)
        except* WebSocketDisconnect:
            pass
        except* _Closed as closed:
            reason = closed.exceptions[0]
            assert isinstance(reason, _Closed)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
                await self._socket.close(reason.code, reason.reason)

    async def _end_on_stop(self) -> None:
        await self._service.stopping.wait()
        raise _Closed(_GOING_AWAY, "the service stops")

    async def _end_on_eviction(self) -> None:
        await self._evicted.wait()
        raise _Closed(_TRY_LATER, "no frame came for long while others waited; open it again")

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1000)
            if (text := message.get("text")) is not None:
                await self._change(text)
            else:
                self._keep_newest(message.get("bytes") or b"")

    def _keep_newest(self, data: bytes) -> None:
        if len(data) <= _HEADER:
            raise _Closed(_BAD_DATA, f"a message of {len(data)} bytes; send 8 of a number, then a picture")
        if len(data) - _HEADER > self._service.settings.limits.max_bytes:
            raise _Closed(_TOO_LARGE, f"a message of {len(data)} bytes; send smaller pictures")
        if self._newest is not None:
            self._dropped += 1
            self._service.metrics.dropped(1)
        self._last_s = perf_counter()
        self._newest = _Frame(int.from_bytes(data[:_HEADER], "big"), data[_HEADER:])
        self._arrived.set()

    async def _change(self, text: str) -> None:
        try:
            self._options = _changed(self._options, text)
        except Problem as problem:
            await self._send({"problem": problem.to_dict(self._socket.url.path)})

    async def _answer(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            frame, self._newest = self._newest, None
            dropped, self._dropped = self._dropped, 0
            if frame is not None:
                await self._send({"seq": frame.seq, "dropped": dropped, **await self._detect(frame)})

    async def _detect(self, frame: _Frame) -> dict[str, Any]:
        service, began_s = self._service, perf_counter()
        try:
            with service.capacity.reserve_frame():
                result, _ = await find_faces(service, frame.data, "frame", self._options)
        except ImageError as error:
            service.metrics.failed()
            return {"problem": Problem(422, str(error)).to_dict(self._socket.url.path)}
        except Problem as problem:
            return {"problem": problem.to_dict(self._socket.url.path)}
        return {
            "width": result.width,
            "height": result.height,
            "detections": to_records(result.detections),
            "detect_ms": round(1000 * (perf_counter() - began_s), 1),
        }

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message))


def _changed(options: DetectOptions, text: str) -> DetectOptions:
    """The options after a text message that changes some of them.

    Raises:
        Problem: 422, the message cannot be used.
    """
    hint = 'send {"threshold": 0.4} or {"classes": ["no_mask"]}'
    if len(text) > _LONGEST_TEXT:
        raise Problem(422, f"a text of {len(text)} characters; {hint}")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not message or not message.keys() <= {"threshold", "classes"}:
        raise Problem(422, f"{text[:200]!r} is no setting; {hint}")
    names = [name for i, name in enumerate(options.model.detector.class_names) if i in options.class_ids]
    threshold = message.get("threshold", dict(options.threshold))
    return DetectOptions.from_json(options.model, threshold, message.get("classes", names))
