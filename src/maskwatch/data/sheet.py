"""A contact sheet: many pictures of a data set, with their boxes, on one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from maskwatch.data.dataset import Sample
from maskwatch.images import UInt8Array, read_image
from maskwatch.render import draw

CELL = 320
"""Side of one picture's place on the sheet, pixels."""

_CAPTION = 22
_GAP = 6
_BACKGROUND = (245, 245, 245)
_LONGEST_CAPTION = 44


def truth(sample: Sample, class_names: Sequence[str]) -> sv.Detections:
    """The boxes of a sample, to be drawn as detections are; without scores."""
    names = np.array([class_names[number] for number in sample.class_ids], dtype=object)
    return sv.Detections(
        xyxy=sample.boxes_xyxy.copy(), class_id=sample.class_ids.astype(int), data={"class_name": names}
    )


def contact_sheet(
    samples: Sequence[Sample], class_names: Sequence[str], columns: int = 4, cell: int = CELL
) -> UInt8Array:
    """The pictures in rows, each with its boxes and its name under it; (H, W, 3) RGB.

    Raises:
        ImageError: a picture cannot be read.
    """
    columns = max(1, min(columns, len(samples)))
    rows = -(-len(samples) // columns)
    step_x, step_y = cell + _GAP, cell + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, sample in enumerate(samples):
        left, top = _GAP + number % columns * step_x, _GAP + number // columns * step_y
        picture = _thumbnail(sample, class_names, cell)
        sheet.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
        name = sample.image_id
        if len(name) > _LONGEST_CAPTION:
            name = f"{name[: _LONGEST_CAPTION - 12]}…{name[-11:]}"
        pen.text((left + cell / 2, top + cell + _CAPTION / 2), name, (40, 40, 40), font, anchor="mm")
    return np.array(sheet, np.uint8)


def _thumbnail(sample: Sample, class_names: Sequence[str], cell: int) -> Image.Image:
    image = Image.fromarray(read_image(sample.image_path))
    scale = cell / max(image.size)
    size_wh = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    boxes = truth(sample, class_names)
    boxes.xyxy = boxes.xyxy * np.array([size_wh[0] / image.width, size_wh[1] / image.height] * 2, np.float32)
    small = np.array(image.resize(size_wh, Image.Resampling.LANCZOS), np.uint8)
    return Image.fromarray(draw(small, boxes))
