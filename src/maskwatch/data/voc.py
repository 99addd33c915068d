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
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.errors import DataError, LabelError
from maskwatch.labels import ClassMap

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# Drawing by hand ends a pixel or two beyond the border, and tools round, so a box may stick out by this much
# (whichever is more) and is clipped. Beyond it, the box was likely drawn on another picture or another size.
BORDER_PIXELS = 2.0
BORDER_FRACTION = 0.01

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
_PICTURE_FOLDERS = ("jpegimages", "images")
_ANNOTATION_FOLDERS = ("annotations",)


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
        listed = _split_stems(root, split)
        wanted = listed if wanted is None else wanted & listed
    reader = _Reader(classes or ClassMap())
    pairs = _pair(root, wanted, reader.problems)
    with warnings.catch_warnings():  # Pillow warns of large pictures, but only their header is read here
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        samples = [reader.sample(*pair) for pair in pairs]
    if reader.problems:
        raise DataError(reader.problems)
    return DetectionSet(reader.classes.names, tuple(sample for sample in samples if sample is not None))


def stems_in(path: str | os.PathLike[str]) -> set[str]:
    """Stems of the annotations and pictures that `read_voc` would look at."""
    root = Path(path)
    if not root.is_dir():
        return set()
    files = [*_files(root, _ANNOTATION_FOLDERS, (".xml",)), *_files(root, _PICTURE_FOLDERS, PICTURE_SUFFIXES)]
    return {file.stem for file in files}


def _files(root: Path, folders: tuple[str, ...], suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a kind in the folder itself or else in the first of its sub-folders of these names."""
    entries = sorted(root.iterdir())
    named = [entry for name in folders for entry in entries if entry.name.lower() == name and entry.is_dir()]
    for folder in (root, *named):
        # Names that start with a dot are not pictures: macOS leaves "._photo.jpg" beside "photo.jpg".
        inside = entries if folder is root else sorted(folder.iterdir())
        found = [
            f for f in inside if f.suffix.lower() in suffixes and not f.name.startswith(".") and f.is_file()
        ]
        if found:
            return found
    return []


def _split_stems(root: Path, split: str) -> set[str]:
    folder = root / "ImageSets" / "Main"
    known = sorted(file.stem for file in folder.glob("*.txt"))
    if split not in known:
        raise DataError(
            [f"{folder}: no split {split!r}; it has {', '.join(known) or 'none'}: name one of them"]
        )
    lines = (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line.strip()}  # a second column tells presence of a class


def _pair(root: Path, wanted: set[str] | None, problems: list[str]) -> list[tuple[Path, ET.Element, Path]]:
    """Finds the picture of every annotation: by stem first, then by <filename> among those left over."""
    xmls = _files(root, _ANNOTATION_FOLDERS, (".xml",))
    pictures = _files(root, _PICTURE_FOLDERS, PICTURE_SUFFIXES)
    if not pictures:
        problems.append(_no_pictures(root))
        return []
    if wanted is not None:
        here = {file.stem for file in (*xmls, *pictures)}
        problems += [f"{root}: no picture named {stem!r}; check the list" for stem in sorted(wanted - here)]
        xmls = [xml for xml in xmls if xml.stem in wanted]
        if not wanted:
            problems.append(f"{root}: the list of stems is empty; name at least one picture")
    shelf = _Shelf(pictures)
    roots = [(xml, parsed) for xml in xmls if (parsed := _parse(xml, problems)) is not None]
    unparsed = {xml.stem for xml in xmls} - {xml.stem for xml, _ in roots}
    pairs = shelf.match(roots, problems)
    taken = {picture for _, _, picture in pairs}
    problems += [
        f"{picture}: no XML file beside it; annotate it, or if it shows nothing to find, "
        f"write {picture.stem}.xml holding <annotation></annotation>"
        for picture in pictures
        if picture not in taken
        and picture.stem not in shelf.disputed | unparsed
        and (wanted is None or picture.stem in wanted)
    ]
    return pairs


def _no_pictures(root: Path) -> str:
    folders = [
        entry.name for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")
    ]
    if folders:
        return f"{root}: no pictures in it; it holds the folders {', '.join(folders[:8])}: give one of these"
    kinds = " ".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
    return f"{root}: no pictures in it ({kinds}); give the folder that holds them"


class _Shelf:
    """The pictures of a data set, found by stem or by name."""

    def __init__(self, pictures: Iterable[Path]) -> None:
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        self.by_name: dict[str, Path] = {}
        self.disputed: set[str] = set()  # stems already reported
        for picture in pictures:
            self.by_stem[picture.stem].append(picture)
            self.by_name[picture.name] = picture

    def match(
        self, roots: Iterable[tuple[Path, ET.Element]], problems: list[str]
    ) -> list[tuple[Path, ET.Element, Path]]:
        owner: dict[Path, Path] = {}
        pairs = []
        # Those with a picture of their own stem come first, so that a wrong <filename> cannot take it away.
        for xml, root in sorted(roots, key=lambda item: item[0].stem not in self.by_stem):
            picture = self._picture_of(xml, root, problems)
            if picture is None:
                continue
            if picture in owner:
                problems.append(
                    f"{xml}: {picture.name} is annotated by {owner[picture].name} already; remove one"
                )
                continue
            owner[picture] = xml
            pairs.append((xml, root, picture))
        return sorted(pairs, key=lambda pair: pair[0].stem)

    def _picture_of(self, xml: Path, root: ET.Element, problems: list[str]) -> Path | None:
        name = PureWindowsPath((root.findtext("filename") or "").strip()).name  # knows both kinds of slashes
        named = self.by_name.get(name)
        candidates = self.by_stem.get(xml.stem, [])
        if len(candidates) == 1:
            return candidates[0]
        if len(candidates) > 1:
            if named in candidates:
                self.disputed.add(xml.stem)  # the others of this stem are copies, which <filename> leaves out
                return named
            self.disputed.add(xml.stem)
            names = ", ".join(picture.name for picture in candidates)
            problems.append(f"{xml}: several pictures fit, {names}; keep one, or name it in <filename>")
        elif named is not None:
            return named
        else:
            problems.append(
                f"{xml}: no picture {xml.stem}.* nor {name or '<filename>'!r}; add it, or remove the XML"
            )
        return None


def _parse(xml: Path, problems: list[str]) -> ET.Element | None:
    """The root element; refuses DOCTYPE, which can make a small file expand without end."""
    try:
        raw = xml.read_bytes()
        # Without its zero bytes UTF-16 looks like ASCII too, and expat reads no other encoding that does not.
        if b"<!DOCTYPE" in raw.replace(b"\0", b""):
            problems.append(f"{xml}: has a DOCTYPE, which annotations do not need; remove it")
            return None
        root = ET.fromstring(raw)
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        reason = "it is empty" if xml.is_file() and xml.stat().st_size == 0 else error
        problems.append(f"{xml}: not readable as XML: {reason}; write it again or remove it")
        return None
    if root.tag != "annotation":
        problems.append(f"{xml}: holds <{root.tag}>, not <annotation>; it is no Pascal VOC file, remove it")
        return None
    return root


@dataclass
class _Picture:
    size_hw: tuple[int, int]  # as shown
    orientation: int


class _Reader:
    """Turns annotations into samples, and keeps what is wrong with them."""

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self.problems: list[str] = []

    def sample(self, xml: Path, root: ET.Element, image_path: Path) -> Sample | None:
        """The sample; None, with the problems noted, where the picture cannot be read."""
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
                orientation = int(image.getexif().get(_ORIENTATION, 1) or 1)
                width, height = image.size
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
