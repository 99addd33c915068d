"""What the service reports about itself: models and their files, health, metrics; and tickets."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from maskwatch.serve.api.schemas import ServedModels, State, Ticket, problems
from maskwatch.serve.core.auth import URL_TOKEN_S
from maskwatch.serve.core.metrics import CONTENT_TYPE
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.service import service_of

router = APIRouter()

Admits = Annotated[
    bool, Query(description="Also 503 while the service is full, so that a further request would get 503.")
]

_IMMUTABLE = "private, max-age=31536000, immutable"
_REVALIDATE = "private, no-cache"


@router.get(
    "/v1/models",
    response_model=ServedModels,
    tags=["models"],
    summary="The models that are loaded, the default one first",
    responses=problems(401, 403, 429, 503),
)
async def models(request: Request) -> dict[str, Any]:
    """Name, version, classes, thresholds, size, and the address of its file."""
    served = service_of(request).registry.by_name.values()
    return {"models": [{**model.describe(), "default": index == 0} for index, model in enumerate(served)]}


@router.head("/v1/models/{name}.onnx", include_in_schema=False)
@router.get(
    "/v1/models/{name}.onnx",
    tags=["models"],
    summary="A model file",
    response_class=FileResponse,
    responses={
        200: {"description": "ONNX.", "content": {"application/octet-stream": {}}},
        304: {"description": "It is still the one of If-None-Match."},
        **problems(401, 403, 404, 429, 503),
    },
)
async def model_file(request: Request, name: str, v: str | None = None) -> Response:
    """The file that the service itself runs."""
    model = service_of(request).registry.by_name.get(name)
    if model is None:
        raise Problem(404, f"no model {name!r}; see /v1/models")
    etag = f'"{model.sha256}"'
    headers = {"ETag": etag, "Cache-Control": _IMMUTABLE if v == model.version_key else _REVALIDATE}
    given = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in given or given == ["*"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(model.path, headers=headers, media_type="application/octet-stream")


@router.get(
    "/healthz",
    response_model=State,
    tags=["service"],
    summary="The process is alive",
    responses=problems(403),
)
async def healthz() -> dict[str, str]:
    """Nothing more: a service that is stopping is alive as well."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=State,
    tags=["service"],
    summary="The service takes requests",
    responses=problems(403, 422, 503),
)
async def readyz(request: Request, admits: Admits = False) -> dict[str, str]:
    """503 while models load and while the service is stopping."""
    service = service_of(request)
    if not service.ready:
        raise busy("the service is starting or stopping; ask again", 1)
    if admits:
        service.capacity.check_admission()
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    tags=["service"],
    summary="Counters for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 403, 429)},
)
async def metrics(request: Request) -> Response:
    """Requests, times, pictures and faces of all workers; sources and sinks that are watched."""
    text = await asyncio.to_thread(service_of(request).metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


@router.post(
    "/v1/ticket",
    response_model=Ticket,
    tags=["service"],
    summary="A ticket for addresses that a browser opens without headers",
    responses=problems(401, 403, 429, 503),
)
async def ticket(request: Request) -> dict[str, Any]:
    """Add it as `?ticket=…` to the address of a stream, within a minute."""
    return {"ticket": service_of(request).auth.issue_url_token(), "expires_s": URL_TOKEN_S}
