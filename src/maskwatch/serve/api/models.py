"""`/v1/models`: which models there are, and their files for whoever runs them elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from maskwatch.serve.api.schemas import ServedModels, problems
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.service import service_of

router = APIRouter(prefix="/v1/models", tags=["models"])

_FOR_EVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"


@router.get(
    "",
    response_model=ServedModels,
    summary="The models that are loaded, the default one first",
    responses=problems(401, 403, 429, 503),
)
async def models(request: Request) -> dict[str, Any]:
    """Name, version, classes, thresholds, size, and where its file is."""
    shelf = service_of(request).shelf
    return {"models": [{**model.describe(), "default": model is shelf.default} for model in shelf]}


@router.head("/{name}.onnx", include_in_schema=False)
@router.get(
    "/{name}.onnx",
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
    model = service_of(request).shelf.find(name)
    if model is None:
        raise Problem(404, f"no model {name!r}; see /v1/models")
    etag = f'"{model.sha256}"'
    headers = {"ETag": etag, "Cache-Control": _FOR_EVER if v == model.version_key else _ASK_AGAIN}
    given = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in given or given == ["*"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(model.path, headers=headers, media_type="application/octet-stream")
