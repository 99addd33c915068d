"""Prediction: the path of one picture from its bytes to detections and, if requested, a drawn picture."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwatch.detector import Detector
from maskwatch.drawing.annotate import draw
from maskwatch.drawing.blur import blur, cover_thresholds
from maskwatch.errors import ImageError, SourceError
from maskwatch.media.images import Placement, UInt8Array, read_image
from maskwatch.net.address_guard import Networks
from maskwatch.net.addresses import without_credentials
from maskwatch.net.fetch import fetch
from maskwatch.records import Result
from maskwatch.serve.core.detect_options import DetectOptions
from maskwatch.serve.core.limits import IncomingBody
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.service import Service
from maskwatch.serve.core.uploaded_image import UploadedImage

ImageType: TypeAlias = Literal["jpeg", "png"]

_JPEG_QUALITY = 90
_JPEG_SIDE = 65_500  # pixels, the most that JPEG can hold
_FETCH_SHARE = 0.5  # of a request's time


@dataclass(frozen=True)
class AnnotateOptions:
    """How to draw the annotated picture."""

    image_type: ImageType
    blurred: bool


@dataclass(frozen=True)
class FailedImage:
    """A picture that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The detections in one picture.

    Attributes:
        annotated: the file of the drawn picture; None where none was requested.
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
    max_bytes = service.settings.limits.max_bytes
    try:
        data = await service.fetch(_fetch, image.url, max_bytes, deadline_s, service.networks)
    except SourceError as error:
        return _failed(service, image, error, without_credentials(image.url))
    incoming.grow(len(data))
    return replace(image, data=data)


def _fetch(url: str, max_bytes: int, deadline_s: float, networks: Networks) -> bytes:
    """Computes the time left only when a thread is free."""
    left_s = deadline_s - time.monotonic()
    return fetch(url, max_bytes=max_bytes, timeout_s=left_s, total_s=left_s, networks=networks)


async def predict(
    service: Service,
    image: UploadedImage | FailedImage,
    options: DetectOptions,
    annotate: AnnotateOptions | None,
) -> Prediction | FailedImage:
    """Finds the faces in one picture; an unreadable one does not fail the request."""
    if isinstance(image, FailedImage):
        return image
    try:
        return await _predict(service, image, options, annotate)
    except ImageError as error:
        return _failed(service, image, error, image.source)


def _failed(service: Service, image: UploadedImage, error: Exception, named: str) -> FailedImage:
    service.metrics.failed()
    return FailedImage(image.source, str(error).removeprefix(f"{named}: "))


async def _predict(
    service: Service, image: UploadedImage, options: DetectOptions, annotate: AnnotateOptions | None
) -> Prediction:
    detector = options.model.detector
    canvas, placement = await prepare(service, detector, image.data, image.source)
    found = await service.batcher(detector, canvas, placement, options.threshold)
    reported = options.filter(found)
    service.metrics.picture(options.model.name, reported.data.get("class_name", ()))
    result = Result(image.source, placement.width, placement.height, reported)
    if annotate is None:
        return Prediction(result)
    hidden_xyxy = None
    if annotate.blurred:  # in a call with lower thresholds, where a weak box may suppress a reported one
        faint = await service.batcher(detector, canvas, placement, cover_thresholds(options.threshold))
        hidden_xyxy = np.concatenate([found.xyxy, faint.xyxy])
    max_pixels = service.settings.limits.max_pixels
    with service.metrics.timed("encode"):
        return await service.in_thread(
            _annotated, image.data, max_pixels, result, hidden_xyxy, annotate.image_type
        )


async def prepare(
    service: Service, detector: Detector, data: bytes, source: str
) -> tuple[UInt8Array, Placement]:
    """Decodes a picture and scales it to network size (1, H, W, 3); the full picture is not kept.

    Raises:
        ImageError: it cannot be read.
    """
    with service.metrics.timed("decode"):
        return await service.in_thread(_prepare, detector, data, source, service.settings.limits.max_pixels)


def _prepare(detector: Detector, data: bytes, source: str, max_pixels: int) -> tuple[UInt8Array, Placement]:
    batch_nhwc, placements = detector.prepare([read_image(data, max_pixels=max_pixels, name=source)])
    return batch_nhwc, placements[0]


def _annotated(
    data: bytes,
    max_pixels: int,
    result: Result,
    hidden_xyxy: npt.NDArray[np.float32] | None,
    image_type: ImageType,
) -> Prediction:
    """Decodes again: pictures kept while they wait for the network could fill the memory."""
    image_rgb = read_image(data, max_pixels=max_pixels, name=result.source)
    if hidden_xyxy is not None:
        image_rgb = blur(image_rgb, hidden_xyxy)
    if len(result.detections):
        image_rgb = draw(image_rgb, result.detections)
    if max(image_rgb.shape) > _JPEG_SIDE:
        image_type = "png"
    return Prediction(result, encode(image_rgb, image_type), image_type)


def encode(image_rgb: UInt8Array, image_type: ImageType) -> bytes:
    """The file of a picture (H, W, 3), without any metadata."""
    file = io.BytesIO()
    if image_type == "png":
        Image.fromarray(image_rgb).save(file, "PNG", compress_level=3)
    else:
        Image.fromarray(image_rgb).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
