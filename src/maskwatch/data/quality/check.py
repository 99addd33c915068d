"""Finds everything that is wrong with a data set before any training, and shows it on a page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import Sample
from maskwatch.data.formats.base import RawImage, Split
from maskwatch.data.issues import Box, Issue
from maskwatch.data.quality.image_issues import CheckedImage, duplicate_issues, image_issues
from maskwatch.data.quality.probe import ImageProbe, ProbeImages, probe_images
from maskwatch.data.read import found_classes
from maskwatch.data.validator import Validator
from maskwatch.errors import ImageError
from maskwatch.html import data_uri, link, render
from maskwatch.html.crops import RED, crop
from maskwatch.labels import ClassMap
from maskwatch.text import plural

CHECK_SCHEMA = "maskwatch.data-check/1"

SHOWN = 24
"""Issues of one kind that are shown; the page states how many more there are."""

RARE_SHARE = 0.05
"""A class with fewer boxes than this share of the most frequent one's is hard to learn."""


@dataclass(frozen=True)
class DataCheck:
    """The result of a check.

    classes: that the data was read with; images: of all splits; issues: errors first.
    """

    splits: tuple[Split, ...]
    classes: ClassMap
    images: tuple[CheckedImage, ...]
    issues: tuple[Issue, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    @property
    def errors(self) -> int:
        return sum(issue.severity == "error" for issue in self.issues)

    @property
    def warnings(self) -> int:
        return len(self.issues) - self.errors

    def by_kind(self) -> dict[str, list[Issue]]:
        groups: dict[str, list[Issue]] = defaultdict(list)
        for issue in self.issues:
            groups[issue.kind].append(issue)
        return groups

    def num_images(self) -> dict[str, int]:
        """Images of each split, usable or not."""
        return {split: sum(image.split == split for image in self.images) for split in self.counts()}

    def counts(self) -> dict[str, Counter[str]]:
        """Boxes to be found of each class by split; of usable pictures."""
        counts: dict[str, Counter[str]] = {split.name: Counter() for split in self.splits}
        for split, sample in self._samples():
            counts[split].update(self.class_names[n] for n in sample.counted().class_ids)
        return counts

    def ignored(self) -> dict[str, int]:
        """Ignore regions (difficult boxes and crowds) by split; of usable pictures."""
        ignored = {split.name: 0 for split in self.splits}
        for split, sample in self._samples():
            ignored[split] += int(sample.ignore.sum())
        return ignored

    def _samples(self) -> Iterator[tuple[str, Sample]]:
        yield from ((image.split, image.sample) for image in self.images if image.sample is not None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": CHECK_SCHEMA,
            "parts": [
                {"split": split.name or None, "format": split.format, "path": str(split.path)}
                for split in self.splits
            ],
            "pictures": len(self.images),
            "boxes": {split or "all": dict(count) for split, count in self.counts().items()},
            "ignored": {split or "all": count for split, count in self.ignored().items()},
            "errors": self.errors,
            "warnings": self.warnings,
            "faults": [issue.as_dict() for issue in self.issues],
        }


def check_splits(
    splits: Sequence[Split],
    classes: ClassMap | None = None,
    network_size: int = 640,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    probe: ProbeImages = probe_images,
) -> DataCheck:
    """Reads all annotations, decodes all images, and compares the two.

    Args:
        splits: of one data set or several; an image in two different splits is a leak.
        classes: how annotated names map to classes; None takes those of `found_classes`.
        network_size: side of the network's input, for boxes that are too small for it.
        workers, progress: see `probe_images`.
        probe: `probe_images`, or the same on a cluster.

    Raises:
        DataError: a split cannot be read at all.
    """
    issues = []
    for folder, number in (unused for split in splits for unused in split.unused):
        text = f"{plural(number, 'picture')} in it, to which no annotation belongs: not read"
        fix = "annotate them, or move them away"
        issues.append(Issue("picture-unused", folder, text, fix, severity="warning"))
    raws = [(split.name, raw) for split in splits for raw in split.read(issues)]
    validator = Validator(classes or found_classes(splits, [raw for _, raw in raws]))
    probes = probe([raw.image_path for _, raw in raws], workers, progress)
    images = tuple(
        CheckedImage(split, raw, probe, _validated(validator, raw, probe))
        for (split, raw), probe in zip(raws, probes, strict=True)
    )
    issues += validator.issues
    for image in images:
        issues += image_issues(image, validator.classes, network_size)
    issues += duplicate_issues(images)
    checked = DataCheck(tuple(splits), validator.classes, images, ())
    issues += _class_issues(checked)
    issues.sort(key=lambda issue: issue.severity)  # stable; "error" comes before "warning"
    return replace(checked, issues=tuple(issues))


def _validated(validator: Validator, raw: RawImage, probe: ImageProbe) -> Sample | None:
    if probe.reason is not None:
        validator.note_unreadable(raw, *probe.reason.rpartition("; ")[::2])
        return None
    return validator.sample_of(raw, probe.metadata)


def _class_issues(check: DataCheck) -> Iterator[Issue]:
    paths = {split.name: split.path for split in check.splits}
    totals: Counter[str] = Counter()
    for split, counts in check.counts().items():
        totals.update(counts)
        for name in check.class_names:
            if not counts[name] and counts:
                text = f"no box of class {name!r}" + (f" in {split}" if split else "")
                fix = "add pictures that show it, or leave the class out with --classes"
                yield Issue("class-absent", paths[split], text, fix, severity="warning")
    most = max(totals.values(), default=0)
    for name in check.class_names:
        if 0 < totals[name] < RARE_SHARE * most:
            text = f"class {name!r} has {totals[name]} boxes, the most frequent one {most}"
            fix = "add pictures that show it; training repeats rare ones, but that adds no new faces"
            yield Issue("class-rare", check.splits[0].path, text, fix, severity="warning")


def check_page(check: DataCheck, name: str, folder: Path) -> str:
    """The page as HTML.

    Args:
        name: of the data set, for the title.
        folder: of the page; links to pictures are relative to it.
    """
    pictures, counts, ignored = check.num_images(), check.counts(), check.ignored()
    splits = [
        {
            "name": split or "all",
            "pictures": pictures[split],
            "counts": [count[class_name] for class_name in check.class_names],
            "ignored": ignored[split],
        }
        for split, count in counts.items()
    ]
    kinds = [
        {
            "name": kind,
            "severity": issues[0].severity,
            "number": len(issues),
            "example": issues[0].text,
            "issues": [_shown_issue(issue, folder) for issue in issues[:SHOWN]],
        }
        for kind, issues in check.by_kind().items()
    ]
    return render(
        "data_check.html.j2",
        name=name,
        pictures=len(check.images),
        boxes=sum(count.total() for count in counts.values()),
        ignored=sum(ignored.values()),
        errors=check.errors,
        warnings=check.warnings,
        classes=check.class_names,
        splits=splits,
        kinds=kinds,
    )


def _shown_issue(issue: Issue, folder: Path) -> dict[str, Any]:
    picture = None if issue.kind == "picture-unreadable" else issue.image
    return {
        "file": issue.file.name,
        "where": issue.where,
        "text": issue.text,
        "fix": issue.fix,
        "picture": None if picture is None else picture.name,
        "href": "" if picture is None else link(picture, folder),
        "crop": _crop(picture, issue.box_xyxy),
        "twin": None if issue.twin is None else issue.twin.name,
        "twin_href": "" if issue.twin is None else link(issue.twin, folder),
        "twin_crop": _crop(issue.twin, None),
        "boxed": issue.box_xyxy is not None,
    }


def _crop(path: Path | None, box_xyxy: Box | None) -> str | None:
    """The image, or the part around the box, as a data URI; None if there is none or it cannot be read."""
    try:
        return None if path is None else data_uri(crop(path, [] if box_xyxy is None else [(box_xyxy, RED)]))
    except ImageError:
        return None
