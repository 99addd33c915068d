"""`/v1/watch`: who is in front of the cameras, as numbers, pictures and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from maskwatch.live.events import Event
from maskwatch.serve.api.schemas import problems
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.service import Service, service_of
from maskwatch.serve.watching.views import View
from maskwatch.serve.watching.watcher import Watching

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(prefix="/v1/watch", tags=["watch"])

_QUIET_S = 10.0
"""After so long without news something is sent all the same, so that a client that has gone is noticed."""

_EDGE = "frame"
_ENDLESS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy passes it on at once


@router.get("", summary="Sources, people, counts and the last events", responses=problems(401, 403, 429, 503))
async def watch(request: Request) -> Response:
    """As of now; see docs/service.md."""
    _, watching = _both(request)
    document = await asyncio.to_thread(watching.describe)
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
    """JPEG after JPEG, the newest each time; faces blurred unless the service keeps them."""
    service, watching = _both(request)
    if not watching.has(source):
        raise Problem(404, f"no source {source!r} is watched; see /v1/watch")
    media_type = f"multipart/x-mixed-replace; boundary={_EDGE}"
    return _endless(service, lambda: _frames(service, watching, source), media_type)


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
    service, watching = _both(request)
    return _endless(service, lambda: _told(service, watching, last_event_id), "text/event-stream")


def _both(request: Request) -> tuple[Service, Watching]:
    service = service_of(request)
    assert service.watching is not None, "these routes are there with --watch only"
    return service, service.watching


def _endless(service: Service, parts: Callable[[], AsyncIterator[bytes]], media_type: str) -> Response:
    with _place(service):
        pass  # asked before the answer begins, since its status cannot change any more

    async def counted() -> AsyncIterator[bytes]:
        with _place(service):
            async for part in parts():
                yield part

    return StreamingResponse(counted(), media_type=media_type, headers=_ENDLESS)


@contextmanager
def _place(service: Service) -> Iterator[None]:
    with service.stream() as admitted:
        if not admitted:
            raise busy(f"{service.streams} streams are open, which is the limit; come back later", 5)
        yield


async def _frames(service: Service, watching: Watching, source: str) -> AsyncIterator[bytes]:
    shown: View | None = None
    while not service.stopping.is_set():
        news = watching.views.news.next()
        view = watching.views.newest(source)
        if view is shown and await _waited(service, news):
            continue
        if view is not None:
            shown = view
            part = _part(await service.in_thread(view.jpeg))
            # Browsers show a picture when the next one begins, for which a notice would wait.
            yield part * 2 if view.notice else part


def _part(jpeg: bytes) -> bytes:
    head = f"--{_EDGE}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"


async def _told(service: Service, watching: Watching, last_id: str | None) -> AsyncIterator[bytes]:
    views = watching.views
    told = views.told_before(last_id)
    yield b": events of maskwatch\n\n"  # so that the client sees at once that it is connected
    while not service.stopping.is_set():
        news = views.news.next()
        fresh, told = views.events(told)
        for event in fresh:
            yield _line(event)
        if not fresh and not await _waited(service, news):
            yield b": still here\n\n"


def _line(event: Event) -> bytes:
    return f"event: {event.kind}\nid: {event.id}\ndata: {event.to_json()}\n\n".encode()


async def _waited(service: Service, news: asyncio.Event) -> bool:
    """Whether there is news, or the end, before it has been quiet for too long."""
    both = [asyncio.ensure_future(event.wait()) for event in (news, service.stopping)]
    try:
        done, _ = await asyncio.wait(both, timeout=_QUIET_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in both:
            future.cancel()
    return bool(done)
