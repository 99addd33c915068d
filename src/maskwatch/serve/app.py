"""Settings → the ASGI app: routes, middleware and page."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from maskwatch._version import __version__
from maskwatch.errors import MissingExtraError
from maskwatch.serve.api import detect, info, stream
from maskwatch.serve.api.feedback import feedback_router
from maskwatch.serve.api.page import mount_page
from maskwatch.serve.api.schemas import add_problem_schema
from maskwatch.serve.core.problem import add_handlers
from maskwatch.serve.core.service import Service
from maskwatch.serve.middleware import ServiceMiddleware
from maskwatch.serve.settings import ServeSettings

if TYPE_CHECKING:
    from maskwatch.serve.watcher import Watcher

_ABOUT = "Finds every face in a picture and says whether it wears a mask. See docs/service.md."


def create_app(
    settings: ServeSettings, around: Callable[[Service], AbstractContextManager[object]] = nullcontext
) -> FastAPI:
    """The service as an ASGI app; it works within its lifespan.

    Args:
        settings: of the service.
        around: entered within the lifespan, in the thread of the event loop.

    Raises:
        MaskwatchError: a model that cannot be loaded, or a source that cannot be watched.
    """
    service = Service(settings)
    watcher = _open_watcher(settings, service)
    retention = _retention(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(service.running())
            if watcher is not None:
                await stack.enter_async_context(watcher.running())
            stack.enter_context(retention)
            stack.enter_context(around(service))
            yield

    # Without FastAPI's /docs, which loads its scripts from another server.
    app = FastAPI(
        title="Maskwatch", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.service, app.state.watcher = service, watcher
    add_handlers(app)
    for router in _routers(settings):
        app.include_router(router)
    mount_page(app)
    add_problem_schema(app.openapi())  # which FastAPI makes once, and keeps
    app.add_middleware(ServiceMiddleware, service=service)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["ETag", "Retry-After"],
        )  # fmt: skip
    return app


def _open_watcher(settings: ServeSettings, service: Service) -> Watcher | None:
    if settings.watch is None:
        return None
    from maskwatch.serve.watcher import Watcher, WatchMetrics  # needs the extra `live`

    watcher = Watcher(settings.watch, service.registry.detector_of, keep_faces=settings.keep_faces)
    service.metrics.add(WatchMetrics(watcher.sources, watcher.sinks))
    return watcher


def _retention(settings: ServeSettings) -> AbstractContextManager[None]:
    """Deletes old hard cases within its block; where cameras are watched, the watcher does it."""
    if settings.keep_hard is None or settings.retain_days is None or settings.watch is not None:
        return nullcontext()
    try:
        from maskwatch.live.run import hard_case_retention
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--retain (module {error.name})", "live") from None
    return hard_case_retention(settings.retain_days, settings.keep_hard, _say)


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)


def _routers(settings: ServeSettings) -> Iterator[APIRouter]:
    yield from (detect.router, stream.router, info.router)
    if settings.keep_hard is not None:
        yield feedback_router(settings.keep_hard)
    if settings.watch is not None:
        from maskwatch.serve.api import watch  # needs the extra `live`

        yield watch.router
