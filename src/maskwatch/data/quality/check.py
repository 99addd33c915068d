"""Names what is wrong with a data set before any training, all of it in one pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwatch.data.dataset import Sample
from maskwatch.data.formats.base import RawImage, Split
from maskwatch.data.issues import Issue
from maskwatch.data.quality.image_issues import CheckedImage, duplicate_issues, image_issues
from maskwatch.data.quality.probe import ImageProbe, probe_images
from maskwatch.data.read import found_classes
from maskwatch.data.validator import Validator
from maskwatch.labels import ClassMap
from maskwatch.text import plural

CHECK_SCHEMA = "maskwatch.data-check/1"

RARE_SHARE = 0.05
"""A class with fewer boxes than this share of the most frequent one's is learnt badly."""


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    classes: as the data was read; images: of all splits; issues: errors first.
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
        """Issues of each kind, in their order."""
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
        for image in self.images:
            if image.sample is not None:
                ids = image.sample.counted().class_ids
                counts[image.split].update(self.class_names[n] for n in ids)
        return counts

    def ignored(self) -> dict[str, int]:
        """Ignore regions (difficult boxes and crowds) by split; of usable pictures."""
        ignored = {split.name: 0 for split in self.splits}
        for image in self.images:
            if image.sample is not None:
                ignored[image.split] += int(image.sample.ignore.sum())
        return ignored

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
) -> CheckResult:
    """Reads all annotations, decodes all images, and compares the two.

    Args:
        splits: splits of one data set, or several sets; what lies in two of them with different splits leaks.
        classes: how annotated names map to classes; None takes those of `found_classes`.
        network_size: side of the network's input, for boxes that are too small for it.
        workers: processes that decode; None is one a core.
        progress: called with the number of images done and of all.

    Raises:
        DataError: a split cannot be read at all.
    """
    issues = [_unused(folder, number) for split in splits for folder, number in split.unused]
    raws = [(split.name, raw) for split in splits for raw in split.read(issues)]
    validator = Validator(classes or found_classes(splits, [raw for _, raw in raws]))
    probes = probe_images([raw.image_path for _, raw in raws], workers, progress)
    images = tuple(
        CheckedImage(split, raw, probe, _validated(validator, raw, probe))
        for (split, raw), probe in zip(raws, probes, strict=True)
    )
    issues += validator.issues
    for image in images:
        issues += image_issues(image, validator.classes, network_size)
    issues += duplicate_issues(images)
    checked = CheckResult(tuple(splits), validator.classes, images, ())
    issues += _class_issues(checked)
    issues.sort(key=lambda issue: issue.severity)  # stable; "error" comes before "warning"
    return replace(checked, issues=tuple(issues))


def _unused(folder: Path, number: int) -> Issue:
    text = f"{plural(number, 'picture')} in it, to which no annotation belongs: not read"
    fix = "annotate them, or move them away"
    return Issue("picture-unused", folder, text, fix, severity="warning")


def _validated(validator: Validator, raw: RawImage, probe: ImageProbe) -> Sample | None:
    if probe.reason is not None:
        text, _, fix = probe.reason.rpartition("; ")
        validator.issues.append(
            Issue("picture-unreadable", raw.shown_path, text or fix, fix, image=raw.image_path)
        )
        return None
    return validator.sample_of(raw, probe.metadata)


def _class_issues(check: CheckResult) -> Iterator[Issue]:
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
