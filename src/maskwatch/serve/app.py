"""Settings → the app: routes, door and page, joined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from maskwatch._version import __version__
from maskwatch.serve.api import detect, health, models, stream
from maskwatch.serve.api.page import mount_page
from maskwatch.serve.api.schemas import add_problem_schema
from maskwatch.serve.core.problem import add_handlers
from maskwatch.serve.core.service import Service
from maskwatch.serve.middleware import Guard
from maskwatch.serve.settings import ServeSettings

_ABOUT = "Finds every face in a picture and says whether it wears a mask. See docs/service.md."


def _describe(app: FastAPI) -> None:
    """Makes /openapi.json; once, as FastAPI does."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            add_problem_schema(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def create_app(settings: ServeSettings) -> FastAPI:
    """The service as an ASGI app; it works within its lifespan.

    Raises:
        MaskwatchError: a model that cannot be loaded, or a source that cannot be watched.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with service.running():
            yield

    # Without FastAPI's /docs, which would load its scripts from someone else's server.
    app = FastAPI(
        title="Maskwatch", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    add_handlers(app)
    _describe(app)
    for router in (detect.router, stream.router, models.router, health.router):
        app.include_router(router)
    if settings.watch is not None:
        from maskwatch.serve.api.watch import router as watch_router  # needs the extra `live`

        app.include_router(watch_router)
    mount_page(app, settings)
    app.add_middleware(Guard, service=service)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["ETag", "Retry-After"],
        )  # fmt: skip
    return app
