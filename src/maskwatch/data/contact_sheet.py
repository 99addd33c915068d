"""A contact sheet: many pictures of a data set, with their boxes, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from maskwatch.data.dataset import Sample
from maskwatch.drawing.annotate import draw
from maskwatch.html.crops import Corners, draw_dashed
from maskwatch.media.images import UInt8Array, read_image

_CAPTION = 22
_GAP = 6
_BACKGROUND = (245, 245, 245)
_LONGEST_CAPTION = 44


def draw_sample(
    image_rgb: UInt8Array, sample: Sample, class_names: Sequence[str], scale_xy: Corners
) -> UInt8Array:
    """A copy of a picture (H, W, 3) with the scaled boxes of a sample; ignore regions are dashed grey."""
    scale = np.array([*scale_xy] * 2, np.float32)
    picture = Image.fromarray(image_rgb)
    pen = ImageDraw.Draw(picture)
    for region in sample.boxes_xyxy[sample.ignore] * scale:
        draw_dashed(pen, region.tolist())
    faces = sample.counted()
    names = np.array([class_names[number] for number in faces.class_ids], dtype=object)
    boxes = sv.Detections(
        xyxy=faces.boxes_xyxy * scale, class_id=faces.class_ids.astype(int), data={"class_name": names}
    )
    return draw(np.array(picture, np.uint8), boxes)


def contact_sheet(
    samples: Sequence[Sample], class_names: Sequence[str], columns: int = 4, cell: int = 320
) -> UInt8Array:
    """The pictures in rows, each with its boxes and its name below; (H, W, 3) RGB.

    Args:
        cell: side of the square for one picture, pixels.

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


def sample_images(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """At most `count` random samples, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(chosen.tolist())]


def _thumbnail(sample: Sample, class_names: Sequence[str], cell: int) -> Image.Image:
    image = Image.fromarray(read_image(sample.image_path))
    scale = cell / max(image.size)
    size_wh = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scale_xy = (size_wh[0] / image.width, size_wh[1] / image.height)
    small = np.array(image.resize(size_wh, Image.Resampling.LANCZOS), np.uint8)
    return Image.fromarray(draw_sample(small, sample, class_names, scale_xy))
