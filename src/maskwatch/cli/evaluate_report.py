"""`maskwatch evaluate --report` and what goes with it: thresholds, comparison, suspects."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from maskwatch.cli.datasets import read_validation
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    import supervision as sv

    from maskwatch.data import DetectionSet
    from maskwatch.detector import Detector
    from maskwatch.evaluation import CocoResult, DetectorLike, Interval
    from maskwatch.evaluation.operating import Goal
    from maskwatch.evaluation.report import Report
    from maskwatch.training.checkpoint import TorchDetector

CHECKPOINT = ".ckpt"
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

    def check(self, model: str, sets: int, inputs: Sequence[Path], json_file: Path | None) -> None:
        """Lets a command that takes minutes fail at once.

        Args:
            model: that is measured.
            sets: how many data sets.
            inputs: files and folders that are read.
            json_file: the file of `--json`.

        Raises:
            OptionError: options that do not go together.
            OutputError: a target that is there already, is read, or cannot be written.
        """
        self._check_together(model, sets)
        files = [path for path in (json_file, self.write) if path is not None]
        folders = [path for path in (self.report,) if path is not None]
        if self.suspects is not None:
            (files if self.suspects.suffix.lower() == ".csv" else folders).append(self.suspects)
        from maskwatch.outputs import check_new_folder, check_targets

        check_targets(files, [], force=self.force)
        for folder in folders:
            check_new_folder(folder, force=self.force, sources=inputs)
        _check_apart([*files, *folders], inputs)

    def _check_together(self, model: str, sets: int) -> None:
        if self.write is not None:
            _check_write(self.write, model, self.tune)
        if self.goal.recall is not None and self.tune is None:
            raise OptionError("--recall needs a data set to choose thresholds on; add --tune DATA")
        if self.suspects is not None and sets != 1:
            raise OptionError(f"--suspects {self.suspects} takes the labels of one data set, not {sets}")
        if self.sources is not None and self.report is None:
            raise OptionError(f"--sources {self.sources} is for the report; add --report FOLDER")
        costs = (self.goal.missed, self.goal.alarm) != (None, None)
        if costs and not needs_report(self):
            raise OptionError("--cost-missed and --cost-alarm are for --tune or --report; add one")

    def check_draws(self, draws: int) -> None:
        """Raises OptionError where a comparison has nothing to compare by."""
        if self.against is not None and not draws:
            raise OptionError("--against needs draws to compare; leave out --bootstrap 0")


def _check_write(target: Path, model: str, tune: Path | None) -> None:
    if tune is None:
        raise OptionError(f"--write {target} has no thresholds to write; choose them with --tune DATA")
    if Path(model).suffix.lower() == CHECKPOINT:
        raise OptionError(f"--write: {model} is a checkpoint; export it with --tune, or give a model file")
    if target.suffix.lower() != ".onnx":
        raise OptionError(f"--write {target}: a model file ends in .onnx; write for example tuned.onnx")


def _check_apart(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    """No target may be another one, or what is read."""
    taken = {os.path.realpath(path): path for path in inputs}
    for target in targets:
        place = os.path.realpath(target)
        if place in taken:
            raise OptionError(f"{target}: is named twice, also as {taken[place]}; write somewhere else")
        taken[place] = target


def needs_report(wishes: Wishes) -> bool:
    """Whether more is asked for than COCO's numbers."""
    return any((wishes.report, wishes.against, wishes.tune, wishes.suspects))


def run_report(
    wishes: Wishes,
    model: str,
    detector: Detector | TorchDetector,
    names: Sequence[str],
    sets: Sequence[DetectionSet],
    classes: ClassMap,
    batch: int | None,
    draws: int,
) -> list[tuple[CocoResult, Mapping[str, Interval]]]:
    """Measures, writes what is asked for, and gives COCO's numbers of each data set with their intervals."""
    from maskwatch.evaluation.report import Report, measure_set
    from maskwatch.evaluation.slices import read_sources

    sources = None if wishes.sources is None else read_sources(wishes.sources)
    second = None if wishes.against is None else _open_second(wishes.against, classes)
    thresholds = _thresholds(wishes, detector, classes, batch)
    showing = detector.variant(threshold=dict(zip(classes.names, thresholds, strict=True)))
    measured = [
        measure_set(
            name,
            detection_set,
            _predict(detector, detection_set, batch, name),
            _predict(showing, detection_set, batch, f"{name}, as shown"),
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
        str(wishes.tune or ""),
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


def _open_second(model: str, classes: ClassMap) -> DetectorLike:
    from maskwatch.cli.evaluate import open_detector

    second = open_detector(model, None, False)
    if tuple(second.class_names) != classes.names:
        known = ", ".join(second.class_names)
        raise OptionError(
            f"--against {model} knows {known}, not {', '.join(classes.names)}; compare models of one list"
        )
    return second


def _thresholds(
    wishes: Wishes, detector: Detector | TorchDetector, classes: ClassMap, batch: int | None
) -> tuple[float, ...]:
    """One for each class: the model's own, or chosen on the data set of `--tune`."""
    from maskwatch.detector import Detector
    from maskwatch.evaluation import candidates
    from maskwatch.evaluation.predictor import BATCH_SIZE
    from maskwatch.evaluation.thresholds import choose

    own = (_AS_SURE_AS_NOT,) * len(classes)
    if isinstance(detector, Detector):
        own = detector.metadata.thresholds
    if wishes.tune is None:
        return own
    validation = read_validation([wishes.tune], classes)
    with progress_bar(str(wishes.tune)) as advance:
        found = candidates.gather(detector, validation, batch or BATCH_SIZE, advance)
    return tuple(point.threshold for point in choose(validation, found, wishes.goal, own))


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
            for row in table(one.points, report.goal)
        ]
        lines += [
            f" {name:<20} {d.first:.3f} against {d.second:.3f}: {d.words(report.model, report.against)}"
            for name, d in one.against.items()
        ]
    return lines


def _write_report(report: Report, target: Path, force: bool) -> None:
    from maskwatch.evaluation.page import html_report, markdown_report
    from maskwatch.outputs import new_folder, output_errors

    with new_folder(target, force=force) as folder:
        markdown, figures = markdown_report(report)
        with output_errors(target):
            text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (folder / "report.json").write_text(text + "\n", encoding="utf-8")
            (folder / "report.html").write_text(html_report(report, target), encoding="utf-8")
            (folder / "report.md").write_text(markdown, encoding="utf-8")
            for name, data in figures.items():
                (folder / name).write_bytes(data)
