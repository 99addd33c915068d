"""`POST /v1/detect`: pictures in; records and drawn pictures out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from maskwatch._version import __version__
from maskwatch.records import JSON_SCHEMA, to_record
from maskwatch.serve.api.schemas import Records, detect_body, problems
from maskwatch.serve.core.bodies import pictures_of, read_body
from maskwatch.serve.core.picture_file import NAME_LENGTH, PictureFile
from maskwatch.serve.core.prediction import Drawing, Failed, Looked, PictureType, fetch_all, look
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.query import Wish
from maskwatch.serve.core.service import Service, service_of
from maskwatch.serve.core.upload_limiter import IncomingBody

router = APIRouter(prefix="/v1", tags=["detect"])

ModelName = Annotated[str | None, Query(max_length=200, description="A name of /v1/models.")]
ThresholdText = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Scores above it count: 0.5, or mask=0.6,no_mask=0.3.",
        openapi_examples={"all": {"value": "0.5"}, "some": {"value": "mask=0.6,no_mask=0.3"}},
    ),
]
ClassNames = Annotated[
    str | None,
    Query(max_length=500, description="Only these classes.", openapi_examples={"one": {"value": "no_mask"}}),
]
Annotate = Annotated[bool, Query(description="Also the drawn picture.")]
Blur = Annotated[bool, Query(description="Faces in the drawn picture are blurred; goes with annotate.")]
SourceName = Annotated[
    str | None, Query(max_length=NAME_LENGTH, description="What a picture sent as it is is called.")
]

_PICTURES: dict[str, PictureType] = {"image/jpeg": "jpeg", "image/png": "png"}


@router.post(
    "/detect",
    summary="Find the faces in pictures, and say whether they wear masks",
    response_class=Response,
    responses={
        200: {
            "description": "Records; the drawn picture where it is one and Accept asks for it.",
            "model": Records,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _PICTURES},
        },
        **problems(400, 401, 403, 408, 413, 414, 415, 422, 429, 431, 500, 503),
    },
    openapi_extra=detect_body(),
)
async def detect(
    request: Request,
    model: ModelName = None,
    threshold: ThresholdText = None,
    classes: ClassNames = None,
    annotate: Annotate = False,
    blur: Blur = False,
    name: SourceName = None,
) -> Response:
    """Send multipart/form-data with `images`, one picture as it is, or JSON with Base64.

    What is inside counts, not the name of a field or file, nor a declared type.
    """
    service = service_of(request)
    if blur and not annotate:
        raise Problem(422, "blur=1 changes the drawn picture; add annotate=1")
    wish = Wish.parse(service.shelf, model, threshold, classes)
    with service.uploads.body() as incoming:
        files = await _read(service, request, incoming, name)
        wanted = _wanted_type(request.headers.get("accept", "")) if annotate and len(files) == 1 else None
        drawing = Drawing(wanted or "jpeg", blur) if annotate else None
        outcomes = await _answered(service, files, incoming, wish, drawing)
    _check_any(outcomes)
    first = outcomes[0]
    if wanted and isinstance(first, Looked) and first.drawn is not None:
        return Response(first.drawn, media_type=f"image/{first.drawn_type}")
    body = json.dumps(_document(wish, outcomes)).encode("ascii")
    return Response(body, media_type="application/json")


async def _read(
    service: Service, request: Request, incoming: IncomingBody, name: str | None
) -> list[PictureFile]:
    """The pictures of a body, before any place is taken: it comes as fast as the client sends it."""
    limits, allow_urls = service.settings.limits, service.settings.allow_urls
    body = await read_body(request, limits, incoming)
    if problem := service.capacity.closed():
        raise problem  # others were faster, so that the body need not be looked at
    kind = request.headers.get("content-type", "")
    return await service.in_thread(partial(pictures_of, kind, name, body, limits, allow_urls=allow_urls))


async def _answered(
    service: Service,
    files: Sequence[PictureFile],
    incoming: IncomingBody,
    wish: Wish,
    drawing: Drawing | None,
) -> list[Looked | Failed]:
    seconds = service.settings.limits.timeout_s
    try:
        async with asyncio.timeout(seconds):
            fetched = await fetch_all(service, files, incoming)
            with service.capacity.hold(len(fetched)):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(look(service, file, wish, drawing)) for file in fetched]
    except TimeoutError:
        raise busy(f"not done within {seconds:g} s; send fewer or smaller pictures, or later", 5) from None
    return [task.result() for task in tasks]


def _check_any(outcomes: Sequence[Looked | Failed]) -> None:
    """A request of which nothing could be read is an error."""
    failures = _failures(outcomes)
    if len(failures) == len(outcomes):
        head = f"{failures[0]['source']}: {failures[0]['reason']}"
        more = "" if len(failures) == 1 else f" (and {len(failures) - 1} more, see failures)"
        raise Problem(422, head + more, failures=failures)


def _document(wish: Wish, outcomes: Sequence[Looked | Failed]) -> dict[str, Any]:
    """The document that `maskwatch detect --json` writes, with the place of each picture in the request."""
    return {
        "schema": JSON_SCHEMA,
        "maskwatch": __version__,
        "model": wish.model.head(dict(wish.threshold)),
        "results": [_record(one, index) for index, one in enumerate(outcomes) if isinstance(one, Looked)],
        "failures": _failures(outcomes),
    }


def _record(looked: Looked, index: int) -> dict[str, Any]:
    record = {"index": index, **to_record(looked.result)}
    if looked.drawn is not None:
        text = base64.b64encode(looked.drawn).decode("ascii")
        record["annotated"] = f"data:image/{looked.drawn_type};base64,{text}"
    return record


def _failures(outcomes: Sequence[Looked | Failed]) -> list[dict[str, Any]]:
    return [
        {"index": index, "source": one.source, "reason": one.reason}
        for index, one in enumerate(outcomes)
        if isinstance(one, Failed)
    ]


def _wanted_type(accept: str) -> PictureType | None:
    """The kind of picture that `Accept` puts before JSON; None for JSON."""
    ranked = sorted((_ranked(part) for part in accept.split(",")), key=lambda pair: -pair[0])
    kinds = [kind for rank, kind in ranked if rank > 0 and kind in (*_PICTURES, "application/json", "*/*")]
    return _PICTURES.get(kinds[0]) if kinds else None


def _ranked(part: str) -> tuple[float, str]:
    """Quality and type of a part of `Accept` (RFC 9110, section 12.5.1)."""
    kind, _, rest = part.partition(";")
    quality = rest.strip().removeprefix("q=")
    try:
        return float(quality) if quality else 1.0, kind.strip().lower()
    except ValueError:
        return 0.0, kind.strip().lower()
