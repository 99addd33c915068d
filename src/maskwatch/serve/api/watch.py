"""`/v1/watch`: who is in front of the cameras, as numbers, pictures and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from maskwatch.serve.api.schemas import WatchDocument, problems
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.service import Service, service_of
from maskwatch.serve.live_state import AnnotatedFrame
from maskwatch.serve.watcher import Watcher

router = APIRouter(prefix="/v1/watch", tags=["watch"])

# A stream without changes sends something this often, which detects clients that have disconnected.
_KEEP_ALIVE_S = 10.0

_BOUNDARY = "frame"
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies must not buffer it


@router.get(
    "",
    summary="Sources, people, counts and the last events",
    response_class=Response,
    responses={200: {"model": WatchDocument}, **problems(401, 403, 429, 503)},
)
async def watch(request: Request) -> Response:
    """The current state; see docs/service.md."""
    document = await asyncio.to_thread(_watcher_of(request).describe)
    return Response(json.dumps(document), media_type="application/json")


@router.get(
    "/{source:path}.mjpg",
    summary="The drawn stream of a source",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string"}}}},
        **problems(401, 403, 404, 429, 503),
    },
)
async def pictures(request: Request, source: str) -> Response:
    """JPEG after JPEG, always the newest; faces blurred unless the service keeps them."""
    service, watcher = service_of(request), _watcher_of(request)
    if not watcher.has(source):
        raise Problem(404, f"no source {source!r} is watched; see /v1/watch")
    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    return _stream(service, lambda: _frames(service, watcher, source), media_type)


@router.get(
    "/events",
    summary="Events as they happen",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problems(401, 403, 429, 503),
    },
)
async def events(
    request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> Response:
    """Server-sent events, each a record of docs/events.md."""
    service, watcher = service_of(request), _watcher_of(request)
    return _stream(service, lambda: _events(service, watcher, last_event_id), "text/event-stream")


def _watcher_of(request: Request) -> Watcher:
    watcher = request.app.state.watcher
    assert isinstance(watcher, Watcher), "these routes exist with --watch only"
    return watcher


def _stream(service: Service, parts: Callable[[], AsyncIterator[bytes]], media_type: str) -> Response:
    with service.streams.slot(receives=False):
        pass  # checked before the response begins, after which its status is fixed

    async def counted() -> AsyncIterator[bytes]:
        with service.streams.slot(receives=False):
            async for part in parts():
                yield part

    return StreamingResponse(counted(), media_type=media_type, headers=_STREAM_HEADERS)


async def _frames(service: Service, watcher: Watcher, source: str) -> AsyncIterator[bytes]:
    state = watcher.state
    sent: AnnotatedFrame | None = None
    while not service.stopping.is_set():
        change = state.notifier.next_change()
        frame = state.newest(source)
        if frame is sent and await _changed(service, change):
            continue
        if frame is not None:
            sent = frame
            jpeg = await service.in_thread(frame.jpeg)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            part = head.encode() + jpeg + b"\r\n"
            # Browsers show a picture only when the next one begins, and nothing follows a notice.
            yield part * 2 if frame.notice else part


async def _events(service: Service, watcher: Watcher, last_id: str | None) -> AsyncIterator[bytes]:
    state = watcher.state
    cursor = state.cursor_after(last_id)
    yield b": events of maskwatch\n\n"  # so that the client knows that it is connected
    while not service.stopping.is_set():
        change = state.notifier.next_change()
        new, cursor = state.events(cursor)
        for event in new:
            yield f"event: {event.kind}\nid: {event.id}\ndata: {event.to_json()}\n\n".encode()
        if not new and not await _changed(service, change):
            yield b": still here\n\n"


async def _changed(service: Service, change: asyncio.Event) -> bool:
    """Waits for a change, or the end of the service; False when neither comes in time."""
    waits = [asyncio.ensure_future(event.wait()) for event in (change, service.stopping)]
    try:
        done, _ = await asyncio.wait(waits, timeout=_KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)
