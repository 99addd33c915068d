"""`WS /v1/stream`: frames in, records out; always the newest frame, however long inference takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from time import perf_counter
from typing import Any

import anyio
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from maskwatch.errors import ImageError
from maskwatch.records import to_records
from maskwatch.serve.core.limits import StreamSlot
from maskwatch.serve.core.prediction import PredictionOptions, find_faces
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.service import Service, service_of

router = APIRouter()

_HEADER = 8  # bytes of the sequence number, big-endian, before the picture

_GOING_AWAY, _BAD_DATA, _TOO_LARGE, _TRY_LATER = 1001, 1003, 1009, 1013  # RFC 6455, section 7.4.1, and IANA
_EVICTED = "no frame came for a long time while others waited; open it again"
_LONGEST_TEXT = 10_000


class _Closed(Exception):
    """The stream ends, with this code and reason."""


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Binary messages: a sequence number of 8 bytes, then a picture. See docs/service.md."""
    service, query = service_of(socket), socket.query_params
    try:
        options = PredictionOptions.from_query(
            service.registry, query.get("model"), query.get("threshold"), query.get("classes")
        )
    except Problem as problem:
        await socket.send_denial_response(problem.to_response(socket.url.path))
        return
    await socket.accept()
    try:
        with service.streams.slot(receives=True) as slot:
            await _Stream(service, socket, options, slot).run()
    except Problem as problem:
        await socket.close(_TRY_LATER, problem.detail)


class _Stream:
    """One client: a task that receives, a task that detects, and the newest frame between them."""

    def __init__(
        self, service: Service, socket: WebSocket, options: PredictionOptions, slot: StreamSlot
    ) -> None:
        self._service, self._socket, self._options, self._slot = service, socket, options, slot
        self._newest: bytes | None = None
        self._dropped = 0
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Until the client disconnects or the service stops."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._receive)
                group.start_soon(self._answer)
                group.start_soon(_end_on, self._service.stopping, _GOING_AWAY, "the service stops")
                group.start_soon(_end_on, self._slot.evicted, _TRY_LATER, _EVICTED)
        except* WebSocketDisconnect:
            pass
        except* _Closed as closed:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client was faster
                await self._socket.close(*closed.exceptions[0].args)

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
            self._service.metrics.frames_dropped.inc()
        self._slot.touch()
        self._newest = data
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
            message, self._newest = self._newest, None
            dropped, self._dropped = self._dropped, 0
            if message is not None:
                seq = int.from_bytes(message[:_HEADER], "big")
                await self._send({"seq": seq, "dropped": dropped, **await self._detect(message[_HEADER:])})

    async def _detect(self, data: bytes) -> dict[str, Any]:
        service, began_s = self._service, perf_counter()
        try:
            with service.capacity.reserve_frame():
                result, _ = await find_faces(service, data, "frame", self._options)
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


async def _end_on(event: asyncio.Event, code: int, reason: str) -> None:
    await event.wait()
    raise _Closed(code, reason)


def _changed(options: PredictionOptions, text: str) -> PredictionOptions:
    """The options after a text message that changes some of them; `Problem` 422 for an unusable message."""
    hint = 'send {"threshold": 0.4} or {"classes": ["no_mask"]}'
    if len(text) > _LONGEST_TEXT:
        raise Problem(422, f"a text of {len(text)} characters; {hint}")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not message or not message.keys() <= {"threshold", "classes"}:
        raise Problem(422, f"{text[:200]!r} is not a setting; {hint}")
    names = [name for i, name in enumerate(options.model.detector.class_names) if i in options.class_ids]
    threshold = message.get("threshold", dict(options.threshold))
    return PredictionOptions.from_json(options.model, threshold, message.get("classes", names))
