"""`WS /v1/stream`: frames in, records out; the newest frame only, whatever the network takes."""

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
from maskwatch.serve.core.prediction import prepare
from maskwatch.serve.core.problem import Problem, of_error
from maskwatch.serve.core.query import Wish
from maskwatch.serve.core.service import Service, service_of

router = APIRouter()

_HEAD = 8
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
        wish = Wish.parse(service.shelf, query.get("model"), query.get("threshold"), query.get("classes"))
    except Problem as problem:
        await socket.send_denial_response(problem.to_response(socket.url.path))
        return
    await socket.accept()
    frames = _Stream(service, socket, wish)
    with service.stream(frames) as admitted:
        if not admitted:
            reason = f"{service.streams} streams are open, which is the limit; come back later"
            await socket.close(_TRY_LATER, reason)
            return
        await frames.run()


class _Stream:
    """One client: a task that receives, a task that looks, and the newest frame between them."""

    def __init__(self, service: Service, socket: WebSocket, wish: Wish) -> None:
        self._service, self._socket, self._wish = service, socket, wish
        self._newest: _Frame | None = None
        self._dropped = 0
        self._came, self._over = asyncio.Event(), asyncio.Event()
        self._last_s = perf_counter()

    @property
    def idle_s(self) -> float:
        return perf_counter() - self._last_s

    def end(self) -> None:
        self._over.set()

    async def run(self) -> None:
        """Until the client goes or the service stops."""
        try:
            async with anyio.create_task_group() as group:
                for work in (self._receive, self._answer, self._stopped, self._ended):
                    group.start_soon(work)
        except* WebSocketDisconnect:
            pass
        except* _Closed as closed:
            reason = closed.exceptions[0]
            assert isinstance(reason, _Closed)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
                await self._socket.close(reason.code, reason.reason)

    async def _stopped(self) -> None:
        await self._service.stopping.wait()
        raise _Closed(_GOING_AWAY, "the service stops")

    async def _ended(self) -> None:
        await self._over.wait()
        raise _Closed(_TRY_LATER, "no frame came for long while others waited; open it again")

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1000)
            if (text := message.get("text")) is not None:
                await self._set(text)
            else:
                self._take(message.get("bytes") or b"")

    def _take(self, data: bytes) -> None:
        if len(data) <= _HEAD:
            raise _Closed(_BAD_DATA, f"a message of {len(data)} bytes; send 8 of a number, then a picture")
        if len(data) - _HEAD > self._service.settings.limits.max_bytes:
            raise _Closed(_TOO_LARGE, f"a message of {len(data)} bytes; send smaller pictures")
        if self._newest is not None:
            self._dropped += 1
            self._service.metrics.dropped(1)
        self._last_s = perf_counter()
        self._newest = _Frame(int.from_bytes(data[:_HEAD], "big"), data[_HEAD:])
        self._came.set()

    async def _set(self, text: str) -> None:
        try:
            self._wish = _changed(self._wish, text)
        except Problem as problem:
            await self._send({"problem": problem.to_dict(self._socket.url.path)})

    async def _answer(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            frame, self._newest = self._newest, None
            dropped, self._dropped = self._dropped, 0
            if frame is not None:
                await self._send({"seq": frame.seq, "dropped": dropped, **await self._look(frame)})

    async def _look(self, frame: _Frame) -> dict[str, Any]:
        service, wish = self._service, self._wish
        detector, limit, began = wish.model.detector, service.settings.limits.max_pixels, perf_counter()
        try:
            with service.capacity.hold_frame():
                with service.metrics.timed("decode"):
                    canvas, place = await service.in_thread(prepare, detector, frame.data, "frame", limit)
                found = wish.kept(await service.batcher(detector, canvas, place, wish.threshold))
        except ImageError as error:
            service.metrics.failed()
            return {"problem": of_error(error).to_dict(self._socket.url.path)}
        except Problem as problem:
            return {"problem": problem.to_dict(self._socket.url.path)}
        service.metrics.picture(wish.model.name, found.data.get("class_name", ()))
        return {
            "width": place.width,
            "height": place.height,
            "detections": to_records(found),
            "detect_ms": round(1000 * (perf_counter() - began), 1),
        }

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message))


def _changed(wish: Wish, text: str) -> Wish:
    """The wish with what a text message changes.

    Raises:
        Problem: the message cannot be understood.
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
    told = [name for i, name in enumerate(wish.model.detector.class_names) if i in wish.class_ids]
    threshold = message.get("threshold", dict(wish.threshold))
    return Wish.of(wish.model, threshold, message.get("classes", told))
