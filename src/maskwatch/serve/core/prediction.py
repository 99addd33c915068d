"""Prediction: one picture from its bytes to detections and, if requested, an annotated picture."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from PIL import Image

from maskwatch.detector import only_classes
from maskwatch.drawing.annotate import draw
from maskwatch.drawing.blur import blur, boxes_to_blur, cover_thresholds
from maskwatch.drawing.privacy_mask import Boxes
from maskwatch.errors import ImageError, ModelServerError, SourceError
from maskwatch.labels import class_values, find_class, find_classes, parse_class_numbers
from maskwatch.media.images import Placement, UInt8Array, read_image
from maskwatch.net.addresses import without_credentials
from maskwatch.net.fetch import fetch
from maskwatch.records import Result
from maskwatch.serve.core.limits import RETRY_S
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.registry import LoadedModel, ModelRegistry
from maskwatch.serve.core.service import Service
from maskwatch.serve.core.upload_limits import IncomingBody
from maskwatch.serve.core.uploads import UploadedImage

if TYPE_CHECKING:
    import supervision as sv

ImageType: TypeAlias = Literal["jpeg", "png"]

_JPEG_QUALITY = 90
_JPEG_SIDE = 65_500  # pixels, the most that JPEG can hold
_FETCH_SHARE = 0.5  # of a request's time


@dataclass(frozen=True)
class PredictionOptions:
    """The options of a request beside its pictures.

    Attributes:
        threshold: class name → score above which it counts, of every class.
        class_ids: classes that are reported.
        annotate: type of the annotated pictures; None draws none.
        blur: blur the faces in them.
    """

    model: LoadedModel
    threshold: Mapping[str, float]
    class_ids: frozenset[int]
    annotate: ImageType | None = None
    blur: bool = False

    @classmethod
    def from_query(
        cls, registry: ModelRegistry, model: str | None, threshold: str | None, classes: str | None
    ) -> PredictionOptions:
        """From the parameters of a query; `Problem` 422 for a value that cannot be used."""
        selected = registry.select(model)
        try:
            numbers = None if threshold is None else parse_class_numbers(threshold)
        except ValueError as error:
            raise Problem(422, f"threshold {error}") from None
        names = None if classes is None else [name.strip() for name in classes.split(",")]
        return cls.from_json(selected, numbers, names)

    @classmethod
    def from_json(cls, model: LoadedModel, threshold: Any, classes: Any) -> PredictionOptions:
        """From JSON values: threshold is a number, an object or null; classes a list of names or null.

        Raises:
            Problem: 422, a value that cannot be used.
        """
        return cls(model, _thresholds(model, threshold), _class_ids(model, classes))


def _thresholds(model: LoadedModel, wanted: Any) -> dict[str, float]:
    defaults = model.detector.thresholds
    if wanted is None:
        return defaults
    values = wanted if isinstance(wanted, Mapping) else dict.fromkeys(defaults, wanted)
    try:
        chosen = class_values(list(defaults), values, defaults.values())
    except KeyError as error:
        text = f"threshold names class {error.args[0]!r}, which {model.name} does not have"
        raise Problem(422, f"{text}; use {', '.join(defaults)}") from None
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value <= 1:
            raise Problem(422, f"threshold of {name} is {value!r}; pass a number from 0 to 1")
    return dict(zip(defaults, map(float, chosen), strict=True))


def _class_ids(model: LoadedModel, names: Any) -> frozenset[int]:
    known = model.detector.class_names
    if names is None:
        return frozenset(range(len(known)))
    if not isinstance(names, list) or not names:
        raise Problem(422, f"classes is {names!r}; pass some of {', '.join(known)}")
    unknown = [name for name in names if not isinstance(name, str) or find_class(known, name) is None]
    if unknown:
        raise Problem(
            422, f"classes: {model.name} has no class {unknown[0]!r}; use some of {', '.join(known)}"
        )
    return frozenset(find_classes(known, names))


@dataclass(frozen=True)
class FailedImage:
    """A picture that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The detections in one picture.

    Attributes:
        annotated: the file of the annotated picture; None where none was requested.
        annotated_type: of that file.
    """

    result: Result
    annotated: bytes | None = None
    annotated_type: ImageType = "jpeg"


async def fetch_urls(
    service: Service, images: Sequence[UploadedImage], incoming: IncomingBody
) -> list[UploadedImage | FailedImage]:
    """Fetches the pictures that were given as addresses.

    Nothing of `Capacity` is reserved meanwhile: it waits for another server.

    Raises:
        Problem: 503, too many addresses are being fetched, or there is no room for what came.
    """
    deadline_s = time.monotonic() + service.settings.limits.timeout_s * _FETCH_SHARE
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_fetched(service, image, deadline_s, incoming)) for image in images]
    except* Problem as problems:
        raise problems.exceptions[0] from None
    return [task.result() for task in tasks]


async def _fetched(
    service: Service, image: UploadedImage, deadline_s: float, incoming: IncomingBody
) -> UploadedImage | FailedImage:
    if image.url is None:
        return image
    url, max_bytes = image.url, service.settings.limits.max_bytes

    def fetch_in_time() -> bytes:
        left_s = deadline_s - time.monotonic()  # once a thread is free
        return fetch(url, max_bytes=max_bytes, timeout_s=left_s, total_s=left_s, networks=service.networks)

    try:
        data = await service.fetch(fetch_in_time)
    except SourceError as error:
        return _failed(service, image, error, without_credentials(url))
    incoming.grow(len(data))
    return replace(image, data=data)


async def predict_image(
    service: Service, image: UploadedImage | FailedImage, options: PredictionOptions
) -> Prediction | FailedImage:
    """Finds the faces in one picture; an unreadable one does not fail the request."""
    if isinstance(image, FailedImage):
        return image
    try:
        result, hidden_xyxy = await find_faces(service, image.data, image.source, options)
        if options.annotate is None:
            return Prediction(result)
        max_pixels = service.settings.limits.max_pixels
        with service.metrics.stages["encode"].time():
            return await service.in_thread(
                _annotated, image.data, max_pixels, result, hidden_xyxy, options.annotate
            )
    except ImageError as error:
        return _failed(service, image, error, image.source)


def _failed(service: Service, image: UploadedImage, error: Exception, named: str) -> FailedImage:
    service.metrics.failed()
    return FailedImage(image.source, str(error).removeprefix(f"{named}: "))


async def find_faces(
    service: Service, data: bytes, source: str, options: PredictionOptions
) -> tuple[Result, Boxes | None]:
    """The reported faces in a picture file, and the boxes to blur in it, if the options ask for them.

    Raises:
        ImageError: it cannot be read.
        Problem: 503, the model server fails.
    """
    detector = options.model.detector

    def prepare() -> tuple[UInt8Array, Placement]:
        image_rgb = read_image(data, max_pixels=service.settings.limits.max_pixels, name=source)
        batch_nhwc, (placement,) = detector.prepare([image_rgb])
        return batch_nhwc, placement

    with service.metrics.stages["decode"].time():
        batch_nhwc, placement = await service.in_thread(prepare)

    async def run(threshold: Mapping[str, float]) -> sv.Detections:
        try:
            return await service.batcher(detector, batch_nhwc, placement, threshold)
        except ModelServerError as error:  # for the log alone: clients need not know the address
            logging.getLogger("uvicorn.error").warning("%s", error)
            raise busy("the model server behind the service fails; come back later", RETRY_S) from None

    found = await run(options.threshold)
    reported = only_classes(found, options.class_ids)
    service.metrics.picture(options.model.name, reported.data.get("class_name", ()))
    hidden_xyxy = None
    if options.blur:  # in a call with lower thresholds, where a weak box may suppress a reported one
        faint = await run(cover_thresholds(options.threshold))
        hidden_xyxy = boxes_to_blur(found.xyxy, faint.xyxy)
    return Result(source, placement.width, placement.height, reported), hidden_xyxy


def _annotated(
    data: bytes, max_pixels: int, result: Result, hidden_xyxy: Boxes | None, image_type: ImageType
) -> Prediction:
    """Decodes again: pictures kept while they wait for the network could fill the memory."""
    image_rgb = read_image(data, max_pixels=max_pixels, name=result.source)
    if hidden_xyxy is not None:
        image_rgb = blur(image_rgb, hidden_xyxy)
    if len(result.detections):
        image_rgb = draw(image_rgb, result.detections)
    if max(image_rgb.shape) > _JPEG_SIDE:
        image_type = "png"
    return Prediction(result, encode_image(image_rgb, image_type), image_type)


def encode_image(image_rgb: UInt8Array, image_type: ImageType) -> bytes:
    """The file of a picture (H, W, 3), without any metadata."""
    file = io.BytesIO()
    options = {"compress_level": 3} if image_type == "png" else {"quality": _JPEG_QUALITY}
    Image.fromarray(image_rgb).save(file, image_type, **options)
    return file.getvalue()
