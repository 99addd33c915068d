"""Names what is wrong with a data set before any training, all of it in one pass."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwatch.data.dataset import DetectionSet, Sample
from maskwatch.data.duplicates import Duplicate, find_duplicates
from maskwatch.data.faults import Box, Fault
from maskwatch.data.header import Header
from maskwatch.data.judge import Judge, pixels
from maskwatch.data.layout import SPLITS, Part
from maskwatch.data.raw import RawPicture
from maskwatch.data.scan import PictureScan, scan_pictures
from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap

LEAST_SIDE = 2.0
"""Pixels. A shorter box is a slip of the hand: no one can see a face in it."""

WHOLE_PICTURE = 0.98
"""Share of the picture from which on a box covers all of it."""

FINEST_STRIDE = 8
"""Pixels of the network's input between the cells of its finest level. A face below that shares its cell with
others and is smaller than what a cell sees as one thing."""

SAME_BOX = 0.95
"""IoU from which on two boxes of a picture are one, drawn twice."""

RARE_SHARE = 0.05
"""A class with fewer boxes than this share of the most frequent one's is learnt badly."""


@dataclass(frozen=True)
class CheckedPicture:
    """One picture of a part: as annotated, as it is, and as a sample (None where it cannot be used)."""

    split: str
    raw: RawPicture
    scan: PictureScan
    sample: Sample | None


@dataclass(frozen=True)
class Check:
    """What a check found.

    pictures: of all parts; faults: errors first; class_names: as the data was read.
    """

    parts: tuple[Part, ...]
    class_names: tuple[str, ...]
    pictures: tuple[CheckedPicture, ...]
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> int:
        return sum(fault.severity == "error" for fault in self.faults)

    def counts(self) -> dict[str, Counter[str]]:
        """Boxes of each class by split; of usable pictures."""
        counts: dict[str, Counter[str]] = {part.split: Counter() for part in self.parts}
        for picture in self.pictures:
            if picture.sample is not None:
                counts[picture.split].update(self.class_names[n] for n in picture.sample.class_ids)
        return counts


def check_parts(
    parts: Sequence[Part],
    classes: ClassMap,
    network_size: int = 640,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Reads all annotations, decodes all pictures, and holds one against the other.

    Args:
        parts: splits of one data set, or several sets; what lies in two of them with different splits leaks.
        classes: how annotated names map to classes.
        network_size: side of the network's input, for boxes that are too small for it.
        workers: processes that decode; None is one a core.
        progress: called with the number of pictures done and of all.

    Raises:
        DataError: a part cannot be read at all.
    """
    judge = Judge(classes)
    raws = [(part.split, raw) for part in parts for raw in part.raw(judge.faults)]
    scans = scan_pictures([raw.image_path for _, raw in raws], workers, progress)
    pictures = tuple(
        CheckedPicture(split, raw, scan, _judged(judge, raw, scan))
        for (split, raw), scan in zip(raws, scans, strict=True)
    )
    faults = [*judge.faults]
    for picture in pictures:
        faults += _picture_faults(picture, network_size)
    faults += _duplicate_faults(pictures)
    checked = Check(tuple(parts), classes.names, pictures, ())
    faults += _class_faults(checked)
    faults.sort(key=lambda fault: fault.severity)  # stable; "error" comes before "warning"
    return Check(tuple(parts), classes.names, pictures, tuple(faults))


def usable(check: Check) -> dict[str, DetectionSet]:
    """The pictures without an error of their own, by split."""
    sets = {}
    for split in dict.fromkeys(part.split for part in check.parts):
        mine = (p.sample for p in check.pictures if p.split == split)
        sets[split] = DetectionSet(check.class_names, tuple(s for s in mine if s is not None))
    return sets


def _judged(judge: Judge, raw: RawPicture, scan: PictureScan) -> Sample | None:
    if scan.reason is not None:
        text, _, mend = scan.reason.rpartition("; ")
        judge.faults.append(
            Fault("picture-unreadable", raw.image_path, text or mend, mend, picture=raw.image_path)
        )
        return None
    return judge.sample_of(raw, Header(scan.size_hw, scan.orientation))


def _picture_faults(picture: CheckedPicture, network_size: int) -> Iterator[Fault]:
    raw, scan = picture.raw, picture.scan
    if not scan.readable:
        return
    about = {"severity": "warning", "picture": raw.image_path}
    if scan.blank:
        mend = "replace it, or remove it with its annotation"
        yield Fault("picture-blank", raw.image_path, "is of a single colour", mend, **about)  # type: ignore[arg-type]
    if not raw.objects:
        mend = "fine for a picture that shows nothing to find; else annotate it"
        yield Fault("picture-empty", raw.annotation_path, "no object in it", mend, **about)  # type: ignore[arg-type]
    header = Header(scan.size_hw, scan.orientation)
    boxes = [pixels(item.box_xyxy, raw, header) for item in raw.objects]
    for number, box_xyxy in enumerate(boxes):
        found = _box_warning(box_xyxy, scan.size_hw, network_size)
        if found:
            kind, severity, text, mend = found
            yield _object_fault(raw, number, box_xyxy, kind, severity, text, mend)
    yield from _double_boxes(raw, boxes)


def _box_warning(
    box_xyxy: Box, size_hw: tuple[int, int], network_size: int
) -> tuple[str, str, str, str] | None:
    """Kind, severity, text and mend of a box that is well formed but no good."""
    x0, y0, x1, y1 = box_xyxy
    if not all(map(math.isfinite, box_xyxy)) or x1 <= x0 or y1 <= y0:
        return None  # the judge has told of it
    height, width = size_hw
    side = min(x1 - x0, y1 - y0)
    if side < LEAST_SIDE:
        text = f"measures {x1 - x0:.3g} x {y1 - y0:.3g} pixels"
        return "box-tiny", "error", text, "draw it again or remove it"
    inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
    if inside >= WHOLE_PICTURE * width * height:
        return "box-whole", "warning", "covers the whole picture", "draw it around the object"
    shrunk = side * min(network_size / width, network_size / height)
    if shrunk < FINEST_STRIDE:
        text = f"is {shrunk:.1f} pixels at network size {network_size}, below the {FINEST_STRIDE} of a cell"
        mend = "expect it to be missed; train at a larger size, on crops, or leave such boxes out"
        return "box-small", "warning", text, mend
    return None


def _object_fault(
    raw: RawPicture, number: int, box_xyxy: Box, kind: str, severity: str, text: str, mend: str
) -> Fault:
    item = raw.objects[number]
    where = f"{item.where} ({item.name or 'no name'})"
    if not raw.own_file:
        where = f"{raw.image_path.name}: {where}"
    text = f"{item.shown} {text}"
    return Fault(kind, raw.annotation_path, text, mend, where, severity, raw.image_path, box_xyxy, number)  # type: ignore[arg-type]


def _double_boxes(raw: RawPicture, boxes: Sequence[Box]) -> Iterator[Fault]:
    """Later ones of boxes that lie on one another."""
    good = [n for n, (x0, y0, x1, y1) in enumerate(boxes) if x1 > x0 and y1 > y0]
    if len(good) < 2:
        return
    import supervision as sv

    corners = np.array([boxes[n] for n in good], np.float64)
    iou = np.triu(sv.box_iou_batch(corners, corners), k=1)  # (G, G)
    told: set[int] = set()
    for i, j in np.argwhere(iou >= SAME_BOX):
        first, second = raw.objects[good[i]], raw.objects[good[j]]
        if good[j] in told:
            continue
        told.add(good[j])
        if first.name == second.name:
            kind, mend = "box-double", "remove one of them"
        else:
            kind, mend = "box-contradiction", "keep the one with the right class"
        text = f"lies on {first.where} ({first.name})"
        yield _object_fault(raw, good[j], boxes[good[j]], kind, "error", text, mend)


def _duplicate_faults(pictures: Sequence[CheckedPicture]) -> Iterator[Fault]:
    for pair in find_duplicates([picture.scan.fingerprint for picture in pictures]):
        yield _duplicate_fault(pictures[pair.first], pictures[pair.second], pair)


_ALIKE: Mapping[str, str] = {
    "same": "is the same picture as",
    "near": "is nearly the same picture as",
    "mirrored": "is a mirror image of",
    "crop": "shows a part of the same picture as",
}


def _duplicate_fault(one: CheckedPicture, other: CheckedPicture, pair: Duplicate) -> Fault:
    """Reported at the picture that should go: that of training, else the later one."""
    order = list(SPLITS)
    ranks = [order.index(p.split) if p.split in order else len(order) for p in (one, other)]
    leak = one.split != other.split
    gone, kept = (one, other) if leak and ranks[0] < ranks[1] else (other, one)
    text = f"{_ALIKE[pair.kind]} {kept.raw.image_path}"
    if pair.kind != "same":
        text += f" (similarity {pair.similarity:.2f})"
    if leak:
        text = f"in {gone.split or 'no split'}, {text} in {kept.split or 'no split'}"
        mend = "remove one of them, or the score tells of pictures that were trained on"
        kind, severity = "leak", "error"
    else:
        kind = "picture-twice" if pair.kind == "same" else "picture-alike"
        mend = "remove one of them" if pair.kind == "same" else "keep both in one split"
        severity = "warning"
    path = gone.raw.image_path
    return Fault(kind, path, text, mend, severity=severity, picture=path)  # type: ignore[arg-type]


def _class_faults(check: Check) -> Iterator[Fault]:
    paths = {part.split: part.path for part in check.parts}
    totals: Counter[str] = Counter()
    for split, counts in check.counts().items():
        totals.update(counts)
        for name in check.class_names:
            if not counts[name] and counts:
                text = f"no box of class {name!r}" + (f" in {split}" if split else "")
                mend = "add pictures that show it, or leave the class out with --classes"
                yield Fault("class-absent", paths[split], text, mend, severity="warning")
    most = max(totals.values(), default=0)
    for name in check.class_names:
        if 0 < totals[name] < RARE_SHARE * most:
            text = f"class {name!r} has {totals[name]} boxes, the most frequent one {most}"
            mend = "add pictures that show it; training repeats rare ones, but that adds no new faces"
            yield Fault("class-rare", check.parts[0].path, text, mend, severity="warning")


def by_kind(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    """Faults of each kind, in the order of the list."""
    groups: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.kind].append(fault)
    return dict(groups)


def found_classes(parts: Sequence[Part]) -> ClassMap:
    """The mask classes where the data names any of them; otherwise the classes that it names itself.

    These are in the order of a YOLO set's numbers, else of their frequency.
    """
    names: Counter[str] = Counter()
    for part in parts:
        names.update(item.name for raw in part.raw([]) for item in raw.objects if item.name)
    default = ClassMap()
    if not names or any(_known(default, name) for name in names):
        return default
    numbered = [name for part in parts for name in part.names.values() if name in names]
    return ClassMap(list(dict.fromkeys([*numbered, *(name for name, _ in names.most_common())])))


def _known(classes: ClassMap, name: str) -> bool:
    try:
        classes.id_of(name)
    except LabelError:
        return False
    return True


def picture_path(fault: Fault) -> Path | None:
    """The picture to show with a fault; None where there is none, or it cannot be read."""
    return None if fault.kind == "picture-unreadable" else fault.picture
