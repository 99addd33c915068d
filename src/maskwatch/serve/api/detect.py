"""`POST /v1/detect`: pictures in; records and annotated pictures out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from maskwatch._version import __version__
from maskwatch.records import JSON_SCHEMA, to_record
from maskwatch.serve.api.schemas import Records, detect_body, problems
from maskwatch.serve.core.bodies import parse_body, read_body
from maskwatch.serve.core.prediction import (
    FailedImage,
    ImageType,
    Prediction,
    PredictionOptions,
    fetch_urls,
    predict_image,
)
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.service import Service, service_of
from maskwatch.serve.core.upload_limits import IncomingBody
from maskwatch.serve.core.uploads import NAME_LENGTH, UploadedImage

ImageResult: TypeAlias = Prediction | FailedImage

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
Annotate = Annotated[bool, Query(description="Also the annotated picture.")]
Blur = Annotated[bool, Query(description="Blur the faces in the annotated picture; needs annotate.")]
SourceName = Annotated[
    str | None,
    Query(max_length=NAME_LENGTH, description="Name of the picture, where the body is one picture."),
]

_IMAGES: dict[str, ImageType] = {"image/jpeg": "jpeg", "image/png": "png"}


@router.post(
    "/detect",
    summary="Find the faces in pictures, and say whether they wear masks",
    response_class=Response,
    responses={
        200: {
            "description": "Records; or the annotated picture, for one picture whose Accept asks for it.",
            "model": Records,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _IMAGES},
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
    """Send multipart/form-data with `images`, one picture file, or JSON with Base64.

    The content decides, not the name of a field or file, nor a declared type.
    """
    service = service_of(request)
    if blur and not annotate:
        raise Problem(422, "blur=1 changes the annotated picture; add annotate=1")
    options = PredictionOptions.from_query(service.registry, model, threshold, classes)
    with service.uploads.body() as incoming:
        images = await _receive(service, request, incoming, name)
        single = annotate and len(images) == 1
        accepted = _accepted_type(request.headers.get("accept", "")) if single else None
        if annotate:
            options = replace(options, annotate=accepted or "jpeg", blur=blur)
        outcomes = await _predict_all(service, images, incoming, options)
    first = outcomes[0]
    if accepted and isinstance(first, Prediction) and first.annotated is not None:
        return Response(first.annotated, media_type=f"image/{first.annotated_type}")
    body = json.dumps(_document(options, outcomes)).encode("ascii")
    return Response(body, media_type="application/json")


async def _receive(
    service: Service, request: Request, incoming: IncomingBody, name: str | None
) -> list[UploadedImage]:
    """The pictures of a body. Nothing is reserved before it is complete: clients may be slow."""
    limits, allow_urls = service.settings.limits, service.settings.allow_urls
    body = await read_body(request, limits, incoming)
    service.capacity.check_admission()  # others were faster, so parsing the body would be wasted
    kind = request.headers.get("content-type", "")
    return await service.in_thread(partial(parse_body, kind, name, body, limits, allow_urls=allow_urls))


async def _predict_all(
    service: Service, images: Sequence[UploadedImage], incoming: IncomingBody, options: PredictionOptions
) -> list[ImageResult]:
    seconds = service.settings.limits.timeout_s
    try:
        async with asyncio.timeout(seconds):
            fetched = await fetch_urls(service, images, incoming)
            with service.capacity.reserve(len(fetched)):
                return await _predicted(service, fetched, options)
    except TimeoutError:
        raise busy(f"not done within {seconds:g} s; send fewer or smaller pictures, or later", 5) from None


async def _predicted(
    service: Service, images: Sequence[UploadedImage | FailedImage], options: PredictionOptions
) -> list[ImageResult]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(predict_image(service, one, options)) for one in images]
    except* Problem as problems:
        raise problems.exceptions[0] from None
    return [task.result() for task in tasks]


def _document(options: PredictionOptions, outcomes: Sequence[ImageResult]) -> dict[str, Any]:
    """The document that `maskwatch detect --json` writes, with the index of each picture in the request.

    Raises:
        Problem: 422, no picture is readable.
    """
    failures = [
        {"index": index, "source": one.source, "reason": one.reason}
        for index, one in enumerate(outcomes)
        if isinstance(one, FailedImage)
    ]
    if len(failures) == len(outcomes):
        head = f"{failures[0]['source']}: {failures[0]['reason']}"
        more = "" if len(failures) == 1 else f" (and {len(failures) - 1} more, see failures)"
        raise Problem(422, head + more, failures=failures)
    return {
        "schema": JSON_SCHEMA,
        "maskwatch": __version__,
        "model": options.model.summary(dict(options.threshold)),
        "results": [_record(one, index) for index, one in enumerate(outcomes) if isinstance(one, Prediction)],
        "failures": failures,
    }


def _record(prediction: Prediction, index: int) -> dict[str, Any]:
    record = {"index": index, **to_record(prediction.result)}
    if prediction.annotated is not None:
        text = base64.b64encode(prediction.annotated).decode("ascii")
        record["annotated"] = f"data:image/{prediction.annotated_type};base64,{text}"
    return record


def _accepted_type(accept: str) -> ImageType | None:
    """The picture type that `Accept` prefers to JSON; None for JSON."""
    ranked = sorted((_quality(part) for part in accept.split(",")), key=lambda pair: -pair[0])
    kinds = [kind for rank, kind in ranked if rank > 0 and kind in (*_IMAGES, "application/json", "*/*")]
    return _IMAGES.get(kinds[0]) if kinds else None


def _quality(part: str) -> tuple[float, str]:
    """Quality and type of a part of `Accept` (RFC 9110, section 12.5.1)."""
    kind, _, rest = part.partition(";")
    quality = rest.strip().removeprefix("q=")
    try:
        return float(quality) if quality else 1.0, kind.strip().lower()
    except ValueError:
        return 0.0, kind.strip().lower()
