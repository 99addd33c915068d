"""Names what is wrong with a data set before any training, all of it in one pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskwatch.data.dataset import Sample
from maskwatch.data.formats.raw import RawPicture
from maskwatch.data.formats.splits import Part
from maskwatch.data.issues import Fault
from maskwatch.data.quality.header import ImageMetadata
from maskwatch.data.quality.picture_issues import CheckedPicture, duplicate_faults, picture_faults
from maskwatch.data.quality.probe import PictureScan, scan_pictures
from maskwatch.data.validator import Judge
from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap, normalize
from maskwatch.text import plural

RARE_SHARE = 0.05
"""A class with fewer boxes than this share of the most frequent one's is learnt badly."""


@dataclass(frozen=True)
class Check:
    """What a check found.

    classes: as the data was read; pictures: of all parts; faults: errors first.
    """

    parts: tuple[Part, ...]
    classes: ClassMap
    pictures: tuple[CheckedPicture, ...]
    faults: tuple[Fault, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    @property
    def errors(self) -> int:
        return sum(fault.severity == "error" for fault in self.faults)

    def counts(self) -> dict[str, Counter[str]]:
        """Boxes to be found of each class by split; of usable pictures."""
        counts: dict[str, Counter[str]] = {part.split: Counter() for part in self.parts}
        for picture in self.pictures:
            if picture.sample is not None:
                ids = picture.sample.counted().class_ids
                counts[picture.split].update(self.class_names[n] for n in ids)
        return counts

    def ignored(self) -> dict[str, int]:
        """Ignore regions (difficult boxes and crowds) by split; of usable pictures."""
        ignored = {part.split: 0 for part in self.parts}
        for picture in self.pictures:
            if picture.sample is not None:
                ignored[picture.split] += int(picture.sample.ignore.sum())
        return ignored


def check_parts(
    parts: Sequence[Part],
    classes: ClassMap | None = None,
    network_size: int = 640,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Reads all annotations, decodes all pictures, and holds one against the other.

    Args:
        parts: splits of one data set, or several sets; what lies in two of them with different splits leaks.
        classes: how annotated names map to classes; None takes those of `found_classes`.
        network_size: side of the network's input, for boxes that are too small for it.
        workers: processes that decode; None is one a core.
        progress: called with the number of pictures done and of all.

    Raises:
        DataError: a part cannot be read at all.
    """
    faults = [_unused(folder, number) for part in parts for folder, number in part.unused]
    raws = [(part.split, raw) for part in parts for raw in part.raw(faults)]
    judge = Judge(classes or found_classes(parts, [raw for _, raw in raws]))
    scans = scan_pictures([raw.image_path for _, raw in raws], workers, progress)
    pictures = tuple(
        CheckedPicture(split, raw, scan, _judged(judge, raw, scan))
        for (split, raw), scan in zip(raws, scans, strict=True)
    )
    faults += judge.faults
    for picture in pictures:
        faults += picture_faults(picture, judge.classes, network_size)
    faults += duplicate_faults(pictures)
    checked = Check(tuple(parts), judge.classes, pictures, ())
    faults += _class_faults(checked)
    faults.sort(key=lambda fault: fault.severity)  # stable; "error" comes before "warning"
    return replace(checked, faults=tuple(faults))


def _unused(folder: Path, number: int) -> Fault:
    text = f"{plural(number, 'picture')} in it, to which no annotation belongs: not read"
    mend = "annotate them, or move them away"
    return Fault("picture-unused", folder, text, mend, severity="warning")


def _judged(judge: Judge, raw: RawPicture, scan: PictureScan) -> Sample | None:
    if scan.reason is not None:
        text, _, mend = scan.reason.rpartition("; ")
        judge.faults.append(
            Fault("picture-unreadable", raw.shown_path, text or mend, mend, picture=raw.image_path)
        )
        return None
    return judge.sample_of(raw, ImageMetadata(scan.size_hw, scan.orientation))


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


def found_classes(parts: Sequence[Part], pictures: Iterable[RawPicture]) -> ClassMap:
    """The mask classes where the data names any of them; otherwise the classes that it names itself.

    These are in the order of the format's own list, else of their frequency.

    Args:
        parts: splits of the data.
        pictures: their annotations.
    """
    names = Counter(item.name for raw in pictures for item in raw.objects if item.name)
    default = ClassMap()
    if not names or any(_known(default, name) for name in names):
        return default
    listed = [name for part in parts for name in part.class_names() if name in names]
    unique = {normalize(name): name for name in reversed([*listed, *(n for n, _ in names.most_common())])}
    return ClassMap(list(reversed(unique.values())))


def _known(classes: ClassMap, name: str) -> bool:
    try:
        classes.id_of(name)
    except LabelError:
        return False
    return True


def picture_path(fault: Fault) -> Path | None:
    """The picture to show with a fault; None where there is none, or it cannot be read."""
    return None if fault.kind == "picture-unreadable" else fault.picture
