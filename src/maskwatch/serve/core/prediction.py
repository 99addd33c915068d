"""One picture of a request, all the way: bytes → network → record and, if wanted, a drawn picture."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import supervision as sv
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
from maskwatch.serve.core.picture_file import PictureFile
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.query import Wish
from maskwatch.serve.core.service import Service
from maskwatch.serve.core.upload_limiter import IncomingBody

PictureType: TypeAlias = Literal["jpeg", "png"]

_JPEG_QUALITY = 90
_JPEG_SIDE = 65_500  # pixels, what JPEG can hold
_FETCH_SHARE = 0.5  # of a request's time


@dataclass(frozen=True)
class Drawing:
    """How the drawn picture is wanted."""

    picture_type: PictureType
    blurred: bool


@dataclass(frozen=True)
class Failed:
    """A picture that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Looked:
    """A picture that has been looked at.

    Attributes:
        drawn: the file of the drawn picture; None where none was wanted.
        drawn_type: of that file.
    """

    result: Result
    drawn: bytes | None = None
    drawn_type: PictureType = "jpeg"


async def fetch_all(
    service: Service, files: Sequence[PictureFile], incoming: IncomingBody
) -> list[PictureFile | Failed]:
    """The pictures with the bytes of those that came as addresses.

    They take no place meanwhile: it is another's server that is waited for.

    Raises:
        Problem: 503, too much is being fetched, or there is no room for what came.
    """
    deadline_s = time.monotonic() + service.settings.limits.timeout_s * _FETCH_SHARE
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_fetched(service, file, deadline_s, incoming)) for file in files]
    except* Problem as problems:
        raise problems.exceptions[0] from None
    return [task.result() for task in tasks]


async def _fetched(
    service: Service, file: PictureFile, deadline_s: float, incoming: IncomingBody
) -> PictureFile | Failed:
    if file.url is None:
        return file
    max_bytes = service.settings.limits.max_bytes
    try:
        data = await service.fetching(_fetch, file.url, max_bytes, deadline_s, service.networks)
    except SourceError as error:
        return _failed(service, file, error, without_credentials(file.url))
    incoming.grow(len(data))
    return replace(file, data=data)


async def look(
    service: Service, file: PictureFile | Failed, wish: Wish, drawing: Drawing | None
) -> Looked | Failed:
    """Finds the faces of one picture; one that cannot be read is no error of the request."""
    if isinstance(file, Failed):
        return file
    try:
        return await _look(service, file, wish, drawing)
    except ImageError as error:
        return _failed(service, file, error, file.source)


def _failed(service: Service, file: PictureFile, error: Exception, named: str) -> Failed:
    service.metrics.failed()
    return Failed(file.source, str(error).removeprefix(f"{named}: "))


async def _look(service: Service, file: PictureFile, wish: Wish, drawing: Drawing | None) -> Looked:
    detector, limit = wish.model.detector, service.settings.limits.max_pixels
    with service.metrics.timed("decode"):
        canvas, placement = await service.in_thread(prepare, detector, file.data, file.source, limit)
    found = await service.batcher(detector, canvas, placement, wish.threshold)
    kept = wish.kept(found)
    service.metrics.picture(wish.model.name, kept.data.get("class_name", ()))
    result = Result(file.source, placement.width, placement.height, kept)
    if drawing is None:
        return Looked(result)
    hidden_xyxy = None
    if drawing.blurred:  # at their own thresholds: a weak box can win over one that counts
        faint = await service.batcher(detector, canvas, placement, cover_thresholds(wish.threshold))
        hidden_xyxy = np.concatenate([found.xyxy, faint.xyxy])
    with service.metrics.timed("encode"):
        return await service.in_thread(_drawn, file.data, limit, result, hidden_xyxy, drawing.picture_type)


def _fetch(url: str, max_bytes: int, deadline_s: float, networks: Networks) -> bytes:
    """In the time that is left when its turn comes."""
    left_s = deadline_s - time.monotonic()
    return fetch(url, max_bytes=max_bytes, timeout_s=left_s, total_s=left_s, networks=networks)


def prepare(detector: Detector, data: bytes, source: str, max_pixels: int) -> tuple[UInt8Array, Placement]:
    """Decodes a picture and brings it to network size (1, H, W, 3); the picture itself is not kept.

    Raises:
        ImageError: it cannot be read.
    """
    batch_nhwc, placements = detector.prepare([read_image(data, max_pixels=max_pixels, name=source)])
    return batch_nhwc, placements[0]


def _drawn(
    data: bytes,
    max_pixels: int,
    result: Result,
    hidden_xyxy: npt.NDArray[np.float32] | None,
    picture_type: PictureType,
) -> Looked:
    """Decodes once more: pictures that wait for the network would take all memory otherwise."""
    image_rgb = read_image(data, max_pixels=max_pixels, name=result.source)
    if hidden_xyxy is not None:
        image_rgb = blur(image_rgb, hidden_xyxy)
    if max(image_rgb.shape) > _JPEG_SIDE:
        picture_type = "png"
    return Looked(result, encode(_marked(image_rgb, result.detections), picture_type), picture_type)


def _marked(image_rgb: UInt8Array, detections: sv.Detections) -> UInt8Array:
    return draw(image_rgb, detections) if len(detections) else image_rgb


def encode(image_rgb: UInt8Array, picture_type: PictureType) -> bytes:
    """The file of a picture (H, W, 3), without any metadata."""
    file = io.BytesIO()
    if picture_type == "png":
        Image.fromarray(image_rgb).save(file, "PNG", compress_level=3)
    else:
        Image.fromarray(image_rgb).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()
