"""`/v1/feedback`: pictures whose answer is wrong; only where the service was started with --keep-hard."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from maskwatch.errors import ImageError, OutputError
from maskwatch.hard_cases import HardCase, HardCaseStore
from maskwatch.labels import find_class
from maskwatch.media.images import read_image
from maskwatch.serve.api.schemas import FeedbackKept, FeedbackOffered, problems
from maskwatch.serve.core.bodies import check_delimiters, read_body
from maskwatch.serve.core.limits import RateLimiter
from maskwatch.serve.core.problem import Problem, describe_errors
from maskwatch.serve.core.registry import LoadedModel
from maskwatch.serve.core.service import Service, service_of
from maskwatch.serve.core.uploads import NAME_LENGTH, clean_name, decode_base64

_MOST_DETECTIONS = 1000
_A_SECOND = 1.0  # stored pictures of one client


class FeedbackDetection(BaseModel):
    """A face of an answer, as `POST /v1/detect` gives it; other members are allowed and not used."""

    class_: Annotated[str, Field(alias="class", max_length=200, examples=["no_mask"])]
    score: Annotated[float, Field(ge=0, le=1, examples=[0.5312])]
    box: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]],
        Field(min_length=4, max_length=4, examples=[[411.2, 96.05, 502.71, 210.4]]),
    ]


class FeedbackBody(BaseModel):
    """The body of `POST /v1/feedback`: a picture and the answer that is wrong."""

    model_config = ConfigDict(extra="forbid")
    data: Annotated[
        str,
        Field(
            description="The picture file in Base64; a data: address too.",
            json_schema_extra={"format": "byte"},
        ),
    ]
    name: Annotated[str, Field(max_length=NAME_LENGTH)] | None = Field(None, examples=["door.jpg"])
    model: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="A name of /v1/models; the default one without it."
    )
    detections: Annotated[list[FeedbackDetection], Field(max_length=_MOST_DETECTIONS)]


def feedback_router(folder: Path) -> APIRouter:
    """The routes that put pictures into a folder.

    Raises:
        OutputError: the folder cannot be made.
    """
    router = APIRouter(prefix="/v1", tags=["feedback"])
    store, rates = HardCaseStore(folder), RateLimiter(_A_SECOND)

    @router.get(
        "/feedback",
        response_model=FeedbackOffered,
        summary="Whether the service keeps pictures whose answer is wrong",
        responses=problems(401, 403, 429, 503),
    )
    async def offered() -> dict[str, bool]:
        """404 where the service was started without --keep-hard."""
        return {"kept": True}

    @router.post(
        "/feedback",
        response_model=FeedbackKept,
        summary="Keep a picture whose answer is wrong, for labelling",
        responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 431, 500, 503, 507),
        openapi_extra=_body_schema(),
    )
    async def keep(request: Request) -> dict[str, bool]:
        """Stores the picture with its faces shown; `kept` is false for one that is stored already."""
        service = service_of(request)
        rates.check(request.client.host if request.client else "unknown")
        with service.uploads.body() as incoming:
            body = await read_body(request, service.settings.limits, incoming)
            with service.capacity.reserve(1):
                return {"kept": await service.in_thread(partial(_keep, service, store, body))}

    return router


def _body_schema() -> dict[str, Any]:
    schema = FeedbackBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["properties"]["detections"]["items"] = schema.pop("$defs")["FeedbackDetection"]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _keep(service: Service, store: HardCaseStore, body: bytes) -> bool:
    """Whether the picture was stored, and is not a near-duplicate of another.

    Raises:
        Problem: 413 or 422, the body cannot be used; 507, the folder or the disk is full.
    """
    check_delimiters(body, service.settings.limits)
    try:
        wrong = FeedbackBody.model_validate(from_json(body, cache_strings=False))
    except ValidationError as error:
        raise Problem(422, describe_errors(error.errors(include_url=False)[:5])) from None
    except ValueError as error:
        raise Problem(422, f"the body is not JSON ({error}); correct it, see /openapi.json") from None
    case = _case(wrong, service.registry.select(wrong.model), service.settings.limits.max_pixels)
    try:
        return store.keep(case) is not None
    except OutputError as error:
        raise Problem(507, str(error)) from None


def _case(wrong: FeedbackBody, model: LoadedModel, max_pixels: int) -> HardCase:
    name = clean_name(wrong.name, "picture")
    try:
        data = decode_base64(wrong.data.encode("ascii"))
        image_rgb = read_image(data, max_pixels=max_pixels, name=name)
    except (ImageError, ValueError) as error:
        raise Problem(422, f"data is not a picture in Base64 ({error}); encode the file") from None
    names = tuple(model.detector.class_names)
    ids = [_class_id(model, one.class_) for one in wrong.detections]
    scores = np.zeros((len(ids), len(names)), np.float32)
    scores[np.arange(len(ids)), ids] = [one.score for one in wrong.detections]
    boxes_xyxy = np.array([one.box for one in wrong.detections], np.float32).reshape(-1, 4)
    _check_boxes(boxes_xyxy, image_rgb.shape[1], image_rgb.shape[0])
    when = datetime.now().astimezone()
    ids_of_all = np.array(ids, np.int64)
    return HardCase(image_rgb, "wrong", name, when, model.name, names, boxes_xyxy, ids_of_all, scores)


def _class_id(model: LoadedModel, name: str) -> int:
    class_id = find_class(model.detector.class_names, name)
    if class_id is None:
        known = ", ".join(model.detector.class_names)
        raise Problem(422, f"detections: {model.name} has no class {name!r}; use some of {known}")
    return class_id


def _check_boxes(boxes_xyxy: np.ndarray, width: int, height: int) -> None:
    """Raises `Problem` 422 for a box without area in the picture."""
    clipped = np.clip(boxes_xyxy, 0, (width, height, width, height))
    flat = (clipped[:, 2:] <= clipped[:, :2]).any(1)
    if flat.any():
        box = boxes_xyxy[int(flat.argmax())].tolist()
        text = f"detections: box {box} has no area in the picture of {width} x {height}"
        raise Problem(422, f"{text}; send left, top, right, bottom in its pixels")
