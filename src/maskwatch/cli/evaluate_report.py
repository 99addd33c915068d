"""`maskwatch evaluate --report` and what goes with it: thresholds, comparison, suspects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from maskwatch.cli.bar import progress_bar
from maskwatch.cli.datasets import Group, read_sets
from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    import supervision as sv

    from maskwatch.data import DetectionSet
    from maskwatch.evaluation import CocoResult, DetectorLike, Interval
    from maskwatch.evaluation.operating import Goal
    from maskwatch.evaluation.report import Report

_CHECKPOINT = ".ckpt"
_AS_SURE_AS_NOT = 0.5  # threshold of a checkpoint, for which none was chosen yet


@dataclass(frozen=True)
class Wishes:
    """The options of the report, as on the command line."""

    report: Path | None
    against: str | None
    sources: Path | None
    tune: Path | None
    goal: Goal
    write: Path | None
    suspects: Path | None
    force: bool

    def check(self, data: Sequence[Path], json_file: Path | None) -> None:
        """Lets a command that takes minutes fail at once.

        Raises:
            OptionError: options that do not go together.
            OutputError: a target that is there already.
        """
        from maskwatch.outputs import check_new_folder, check_targets

        if self.write is not None and self.tune is None:
            raise OptionError(
                f"--write {self.write} has no thresholds to write; choose them with --tune DATA"
            )
        if self.goal.recall is not None and self.tune is None:
            raise OptionError("--recall needs a data set to choose thresholds on; add --tune DATA")
        if self.suspects is not None and len(data) != 1:
            raise OptionError(f"--suspects {self.suspects} takes the labels of one data set, not {len(data)}")
        files = [path for path in (json_file, self.write) if path is not None]
        folders = [path for path in (self.report,) if path is not None]
        if self.suspects is not None:
            (files if self.suspects.suffix.lower() == ".csv" else folders).append(self.suspects)
        check_targets(files, [], force=self.force)
        for folder in folders:
            check_new_folder(folder, force=self.force, sources=data)


def needs_report(wishes: Wishes) -> bool:
    """Whether more is asked for than COCO's numbers."""
    return any((wishes.report, wishes.against, wishes.tune, wishes.suspects))


def run_report(
    wishes: Wishes,
    model: str,
    detector: DetectorLike,
    names: Sequence[str],
    sets: Sequence[DetectionSet],
    classes: ClassMap,
    batch: int | None,
    draws: int,
) -> list[tuple[CocoResult, Mapping[str, Interval]]]:
    """Measures, writes what is asked for, and gives COCO's numbers of each data set with their intervals."""
    from maskwatch.cli.evaluate import open_detector
    from maskwatch.evaluation.report import Report, measure_set
    from maskwatch.evaluation.slices import read_sources

    sources = None if wishes.sources is None else read_sources(wishes.sources)
    thresholds, chosen_on = _thresholds(wishes, detector, classes, batch)
    second = None if wishes.against is None else open_detector(wishes.against, None, False)
    if second is not None and not draws:
        raise OptionError("--against needs draws to compare; leave out --bootstrap 0")
    measured = [
        measure_set(
            name,
            detection_set,
            _predict(detector, detection_set, batch, name),
            thresholds,
            draws=draws,
            second=None if second is None else _predict(second, detection_set, batch, f"{name}, second"),
            sources=sources,
        )
        for name, detection_set in zip(names, sets, strict=True)
    ]
    report = Report(
        model,
        classes.names,
        thresholds,
        tuple(measured),
        wishes.goal,
        chosen_on,
        wishes.against or "",
        draws,
    )
    _write(wishes, model, report)
    return [(one.result, one.intervals) for one in measured]


def _predict(
    detector: DetectorLike, detection_set: DetectionSet, batch: int | None, title: str
) -> list[sv.Detections]:
    from maskwatch.evaluation import predict
    from maskwatch.evaluation.predictor import BATCH_SIZE

    with progress_bar(title) as advance:
        return predict(detector, detection_set, batch or BATCH_SIZE, advance)


def _thresholds(
    wishes: Wishes, detector: DetectorLike, classes: ClassMap, batch: int | None
) -> tuple[tuple[float, ...], str]:
    """One for each class, and the data set that they were chosen on ("" for the model's own)."""
    from maskwatch.detector import Detector
    from maskwatch.evaluation.report import chosen_thresholds

    own = (_AS_SURE_AS_NOT,) * len(classes)
    if isinstance(detector, Detector):
        own = detector.metadata.thresholds
    if wishes.tune is None:
        return own, ""
    (validation,) = read_sets([Group([wishes.tune], None, "val")], classes)
    found = _predict(detector, validation, batch, str(wishes.tune))
    return chosen_thresholds(validation, found, wishes.goal, own), str(wishes.tune)


def _write(wishes: Wishes, model: str, report: Report) -> None:
    for line in _lines(report):
        typer.echo(line, err=True)
    if wishes.report is not None:
        _write_report(report, wishes.report, wishes.force)
        typer.echo(f"report: {wishes.report / 'report.html'}", err=True)
    if wishes.suspects is not None:
        from maskwatch.evaluation.suspects import suspects, write_suspects

        (one,) = report.sets
        found = suspects(one.detection_set, one.shown, one.outcomes)
        write_suspects(one.detection_set, found, wishes.suspects, force=wishes.force)
        typer.echo(f"suspects: {len(found)} labels in {wishes.suspects}; look at each of them", err=True)
    if wishes.write is not None:
        if Path(model).suffix.lower() == _CHECKPOINT:
            raise OptionError(
                f"--write: {model} is a checkpoint; export it with --tune, or give a model file"
            )
        from maskwatch.export.retune import write_thresholds

        write_thresholds(model, wishes.write, report.thresholds)
        typer.echo(f"model: {wishes.write}", err=True)


def _lines(report: Report) -> list[str]:
    """Precision and recall at the thresholds, and the verdict of a comparison."""
    from maskwatch.evaluation.operating import table

    chosen = f"chosen on {report.chosen_on}, {report.goal}" if report.chosen_on else "the model's own"
    lines = [f"thresholds: {chosen}"]
    for one in report.sets:
        lines.append(f"{one.name}:")
        lines += [
            f" {row['class']:<16} above {row['threshold']:.3f}: precision {row['precision']:.3f}, "
            f"recall {row['recall']:.3f}, cost {row['cost']:g}"
            for row in table(one.curves, one.points, report.goal)
        ]
        lines += [
            f" {name:<20} {d.first:.3f} against {d.second:.3f}: {d.words(report.model, report.against)}"
            for name, d in one.against.items()
        ]
    return lines


def _write_report(report: Report, target: Path, force: bool) -> None:
    from maskwatch.evaluation.report_page import html_report, markdown_report
    from maskwatch.outputs import new_folder, writing

    with new_folder(target, force=force) as folder:
        markdown, figures = markdown_report(report)
        with writing(target):
            text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (folder / "report.json").write_text(text + "\n", encoding="utf-8")
            (folder / "report.html").write_text(html_report(report, target), encoding="utf-8")
            (folder / "report.md").write_text(markdown, encoding="utf-8")
            for name, data in figures.items():
                (folder / name).write_bytes(data)
