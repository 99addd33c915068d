"""The page of a check: every fault with the part of the picture that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from maskwatch.data.check import Check, by_kind, picture_path
from maskwatch.data.faults import Box, Fault
from maskwatch.errors import ImageError
from maskwatch.html import data_uri, link, render
from maskwatch.images import UInt8Array, read_image

SHOWN = 24
"""Faults of one kind with a picture of their own; the page says how many more there are."""

_SIDE = 220  # of a crop, pixels
_CONTEXT = 1.5  # of the box's longer side, around the box
_LEAST_CROP = 64
_RED = (213, 40, 40)


def check_page(check: Check, name: str, folder: Path) -> str:
    """The page as HTML.

    Args:
        check: what was found.
        name: of the data set, for the title.
        folder: where the page will lie; links to pictures are relative to it.
    """
    counts = check.counts()
    splits = [
        {
            "name": split or "all",
            "pictures": sum(picture.split == split for picture in check.pictures),
            "counts": [count[class_name] for class_name in check.class_names],
        }
        for split, count in counts.items()
    ]
    kinds = [
        {
            "name": kind,
            "severity": faults[0].severity,
            "number": len(faults),
            "example": faults[0].text,
            "faults": [_fault(fault, folder) for fault in faults[:SHOWN]],
        }
        for kind, faults in by_kind(check.faults).items()
    ]
    return render(
        "data_check.html.j2",
        name=name,
        pictures=len(check.pictures),
        boxes=sum(count.total() for count in counts.values()),
        errors=check.errors,
        warnings=len(check.faults) - check.errors,
        classes=check.class_names,
        splits=splits,
        kinds=kinds,
    )


def _fault(fault: Fault, folder: Path) -> dict[str, Any]:
    picture = picture_path(fault)
    crop = None if picture is None else _crop(picture, fault.box_xyxy)
    twin = None if fault.twin is None else _crop(fault.twin, None)
    return {
        "file": fault.file.name,
        "where": fault.where,
        "text": fault.text,
        "mend": fault.mend,
        "picture": None if picture is None else picture.name,
        "href": "" if picture is None else link(picture, folder),
        "crop": None if crop is None else data_uri(crop),
        "twin": None if fault.twin is None else fault.twin.name,
        "twin_href": "" if fault.twin is None else link(fault.twin, folder),
        "twin_crop": None if twin is None else data_uri(twin),
        "boxed": fault.box_xyxy is not None,
    }


def _crop(path: Path, box_xyxy: Box | None) -> UInt8Array | None:
    """The picture, or the part around the box, with the box drawn; None where it cannot be read."""
    try:
        image = Image.fromarray(read_image(path))
    except ImageError:
        return None
    if box_xyxy is None:
        image.thumbnail((_SIDE, _SIDE))
        return np.array(image, np.uint8)
    x0, x1 = sorted((box_xyxy[0], box_xyxy[2]))
    y0, y1 = sorted((box_xyxy[1], box_xyxy[3]))
    side = max(_LEAST_CROP, (1 + _CONTEXT) * max(x1 - x0, y1 - y0))
    side = min(side, 2.0 * max(image.size))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    part = image.crop((left, top, left + round(side), top + round(side)))  # black beyond the picture
    scale = _SIDE / part.width
    part = part.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    corners = [(v - o) * scale for v, o in ((x0, left), (y0, top), (x1, left), (y1, top))]
    corners[2:] = [max(low + 1, high) for low, high in zip(corners[:2], corners[2:], strict=True)]
    ImageDraw.Draw(part).rectangle(corners, outline=_RED, width=2)
    return np.array(part, np.uint8)
