"""Pascal VOC: one XML file a picture (Everingham et al., "The PASCAL VOC Challenge", IJCV 2010).

Coordinates are taken as they stand, without the "−1" of VOC's own development kit, because the tools that
people draw boxes with write them from 0 and the TF Object Detection API reads them so.
"""

from __future__ import annotations

import math
import os
import warnings
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.voc_files import Pair, pair_files, split_stems
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap

# Drawing by hand ends a pixel or two beyond the border, and tools round, so a box may stick out by this much
# (whichever is more) and is clipped. Beyond it, the box was likely drawn on another picture or another size.
BORDER_PIXELS = 2.0
BORDER_FRACTION = 0.01

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
# Where a PNG may say how it is turned; without one of these Pillow need not decode all of it to find out.
_PNG_MARKS = (b"eXIf", b"Raw profile type exif", b"com.adobe.xmp")


def read_voc(
    path: str | os.PathLike[str],
    classes: ClassMap | None = None,
    stems: Collection[str] | None = None,
    split: str | None = None,
) -> DetectionSet:
    """Reads a folder of pictures and Pascal VOC XML, sorted by stem.

    The XML lies beside the pictures, or in `Annotations/` with the pictures in `JPEGImages/` (or `images/`).
    The picture of an XML file is the one with its stem, otherwise the one its <filename> names. Only the
    headers of pictures are read. Boxes of up to 2 px or 1 % of the side beyond the border are clipped.

    Args:
        path: the folder.
        classes: how annotated names map to classes; None means the mask classes.
        stems: keep only these; each must be there.
        split: keep only the stems that `ImageSets/Main/<split>.txt` lists.

    Raises:
        DataError: holds every fault found, each with file, object, value and how to mend it.
    """
    root = Path(path)
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise DataError([f"{root}: {reason}; give the folder that holds the pictures and the XML files"])
    wanted = None if stems is None else set(stems)
    if split is not None:
        listed = split_stems(root, split)
        wanted = listed if wanted is None else wanted & listed
    reader = _Reader(ClassMap() if classes is None else classes)
    pairs = pair_files(root, wanted, reader.problems)
    with warnings.catch_warnings():  # Pillow warns of large pictures, but only their header is read here
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        samples = [reader.sample(pair) for pair in pairs]
    if reader.problems:
        raise DataError(reader.problems)
    return DetectionSet(reader.classes.names, tuple(sample for sample in samples if sample is not None))


class _Picture(NamedTuple):
    size_hw: tuple[int, int]  # as shown
    orientation: int


class _Reader:
    """Turns annotations into samples, and keeps what is wrong with them."""

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self.problems: list[str] = []

    def sample(self, pair: Pair) -> Sample | None:
        """The sample; None, with the problems noted, where the picture or a box cannot be used."""
        xml, root, image_path = pair
        picture = self._open(image_path)
        if picture is None:
            return None
        size_fits = self._check_size(xml, root, picture)
        boxes, ids, difficult = [], [], []
        unknown: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(root.findall("object"), start=1):
            name = (node.findtext("name") or "").strip()
            if self.classes.ignores(name):
                continue
            box = self._box(f"{xml}: object {number} ({name or 'no name'})", node, picture.size_hw, size_fits)
            try:
                ids.append(self.classes.id_of(name))
            except LabelError:
                unknown[name].append(number)
                continue
            boxes.append(box)
            difficult.append((node.findtext("difficult") or "0").strip().lower() in ("1", "true"))
        self._note_unknown(xml, unknown)
        if any(box is None for box in boxes):
            return None
        return Sample(
            image_path,
            xml,
            picture.size_hw,
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(ids, np.int64),
            np.asarray(difficult, np.bool_),
        )

    def _open(self, path: Path) -> _Picture | None:
        try:
            with Image.open(path) as image:
                orientation = _orientation(image, path)
                width, height = _stored_size_wh(image)
        except Exception as error:  # Pillow's plugins raise many kinds (OSError, SyntaxError, struct.error …)
            reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else error
            self.problems.append(f"{path}: not readable as a picture: {reason}; replace it or remove it")
            return None
        turned = 5 <= orientation <= 8
        return _Picture((width, height) if turned else (height, width), orientation)

    def _check_size(self, xml: Path, root: ET.Element, picture: _Picture) -> bool:
        """Compares <size>; an absent or zero size is no statement and passes."""
        texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height")]
        try:
            width, height = (round(float(text)) for text in texts)
        except (ValueError, OverflowError):
            self.problems.append(f"{xml}: <size> {' x '.join(texts)} is no size; write whole pixels")
            return False
        shown_h, shown_w = picture.size_hw
        if not width or not height or (width, height) == (shown_w, shown_h):
            return True
        says = f"{xml}: <size> says {width} x {height}, the picture is shown at {shown_w} x {shown_h}"
        if 5 <= picture.orientation <= 8 and (width, height) == (shown_h, shown_w):
            self.problems.append(
                f"{says}, because EXIF orientation {picture.orientation} turns it: the boxes were drawn on "
                "the unrotated picture; remove that EXIF tag, or draw them on the turned one"
            )
        else:
            self.problems.append(f"{says}: drawn on another picture or size; draw the boxes on this one")
        return False

    def _note_unknown(self, xml: Path, unknown: dict[str, list[int]]) -> None:
        for name, numbers in unknown.items():
            which = f"object{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
            try:
                self.classes.id_of(name)
            except LabelError as error:
                reason = error if name else "no <name>; write the class"
                self.problems.append(f"{xml}: {which}: {reason}")

    def _box(
        self, where: str, node: ET.Element, size_hw: tuple[int, int], size_fits: bool
    ) -> tuple[float, float, float, float] | None:
        """Corners in pixels, clipped to the picture; None, with the problem noted, for a bad box."""
        texts = [(node.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
        try:
            x0, y0, x1, y1 = (float(text) for text in texts)
        except ValueError:
            x0 = y0 = x1 = y1 = math.nan
        shown = "box " + ", ".join(f"{c} {t or 'missing'}" for c, t in zip(_CORNERS, texts, strict=True))
        fault: str | None
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            fault = "is not made of four numbers; write them"
        elif x1 < x0 or y1 < y0:
            fault = "is inverted; swap its corners"
        elif x1 == x0 or y1 == y0:
            fault = "has no area; draw it again or remove it"
        else:
            fault = _border_fault((x0, y0, x1, y1), size_hw) if size_fits else None
        if fault:
            self.problems.append(f"{where}: {shown} {fault}")
            return None
        height, width = size_hw
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation, 1 to 8; damaged EXIF counts as none, as it does in `images.read_image`."""
    if image.format == "PNG" and not any(mark in path.read_bytes() for mark in _PNG_MARKS):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever the parser stumbles over
        return 1


def _stored_size_wh(image: Image.Image) -> tuple[int, int]:
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # of these alone newer Pillow turns `size` by itself
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _border_fault(box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]) -> str | None:
    height, width = size_hw
    x0, y0, x1, y1 = box_xyxy
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        return f"lies outside the picture of {width} x {height}; draw it again or remove it"
    beyond_x = max(-x0, x1 - width) / max(BORDER_PIXELS, BORDER_FRACTION * width)
    beyond_y = max(-y0, y1 - height) / max(BORDER_PIXELS, BORDER_FRACTION * height)
    if max(beyond_x, beyond_y) > 1:
        return f"sticks out of the picture of {width} x {height}; draw it again"
    return None
