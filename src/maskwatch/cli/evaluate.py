"""`maskwatch evaluate`: how good a model is on a data set, as COCO measures it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskwatch.cli.cluster_options import cluster_options
from maskwatch.cli.datasets import Group, correct_sets, read_sets, read_stems, read_validation
from maskwatch.cli.evaluate_options import CHECKPOINT, EvaluateOptions
from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.options import parse_size, with_options
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.detector import Detector
    from maskwatch.evaluation import CocoResult, DetectorLike, Interval
    from maskwatch.evaluation.predictor import PredictAll
    from maskwatch.evaluation.report import Report
    from maskwatch.models import Calibration
    from maskwatch.training.torch_detector import TorchDetector

    Model = Detector | TorchDetector
    Scores = tuple[CocoResult, Mapping[str, Interval]]


@with_options(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure a model on annotated pictures, as COCO does.

    Prints COCO's twelve lines, then AP and AP50 of each class.

    Example: maskwatch evaluate maskwatch-640 masks/test unseen/webcam --report report
    """
    from maskwatch.evaluation.matching import require_pycocotools

    require_pycocotools()
    options.check()
    with _predictions(options) as predictions:
        _evaluate(options, predictions)


@contextlib.contextmanager
def _predictions(options: EvaluateOptions) -> Iterator[PredictAll]:
    """What runs the detectors: this machine, or the cluster of `--ray`, connected during the block."""
    from maskwatch.evaluation.predictor import predict_all

    if options.ray is None:
        yield predict_all
        return
    cluster = cluster_options(
        options.ray, workers=options.workers, threads=options.threads, gpu_share=options.gpu_share
    )
    from maskwatch.cluster import connection
    from maskwatch.cluster.evaluation import predict_all as predict_on_cluster

    with connection(options.ray):
        yield partial(predict_on_cluster, options=cluster)


def _evaluate(options: EvaluateOptions, predictions: PredictAll) -> None:
    from maskwatch.evaluation.predictor import check_classes

    detector = _open_detector(options, options.model, options.class_agnostic)
    classes = ClassMap(detector.class_names) if options.classes is None else ClassMap.parse(options.classes)
    check_classes(detector.class_names, classes.names)
    groups = [Group([path], read_stems(options.stems), options.split) for path in options.data]
    sets = correct_sets(read_sets(groups, classes), options.corrections, classes)
    if options.needs_report:
        report = _report(options, detector, sets, classes, predictions)
        _write(options, report)
        scores = [(part.result, part.intervals) for part in report.sets]
    else:
        pairs = zip(options.data, sets, strict=True)
        scores = [_scores(options, detector, *pair, predictions) for pair in pairs]
    _print(options, scores)


def _open_detector(options: EvaluateOptions, model: str, class_agnostic: bool) -> Model:
    """The detector without a threshold, which would cut off part of the area under the curve, that is AP."""
    size_hw = parse_size(options.size) if model == options.model else None
    if Path(model).suffix.lower() == CHECKPOINT:
        try:
            from maskwatch.training.torch_detector import TorchDetector
        except ModuleNotFoundError:
            raise MissingExtraError("evaluating a checkpoint", "train") from None
        return TorchDetector.load(model, size_hw, class_agnostic=class_agnostic)
    from maskwatch.detector import Detector

    settings = options.runtime_settings
    if options.ray is not None:
        settings = replace(settings, threads=settings.threads or 1)
    runtime = asdict(settings)
    detector = Detector(model, threshold=0.0, class_agnostic=class_agnostic, **runtime)
    if size_hw is not None and size_hw != detector.input_size:
        height, width = detector.input_size
        raise OptionError(
            f"--size {size_hw[0]}x{size_hw[1]}: {model} works at {height}x{width} only; "
            "leave --size out, or evaluate the checkpoint"
        )
    return detector


def _open_second(options: EvaluateOptions, model: str, classes: ClassMap) -> DetectorLike:
    second = _open_detector(options, model, False)
    if tuple(second.class_names) != classes.names:
        known = ", ".join(second.class_names)
        raise OptionError(
            f"--against {model} knows {known}, not {', '.join(classes.names)}; compare models of one list"
        )
    return second


def _report(
    options: EvaluateOptions,
    detector: Model,
    sets: Sequence[DetectionSet],
    classes: ClassMap,
    predictions: PredictAll,
) -> Report:
    from maskwatch.evaluation.predictor import BATCH_SIZE
    from maskwatch.evaluation.report import ReportOptions, build_report
    from maskwatch.evaluation.slices import read_sources

    report_options = ReportOptions(
        options.model,
        options.against or "",
        str(options.tune or ""),
        options.objective,
        options.draws,
        None if options.sources is None else read_sources(options.sources),
        options.batch or BATCH_SIZE,
    )
    with tempfile.TemporaryDirectory() as folder:
        return build_report(
            detector,
            list(zip(map(str, options.data), sets, strict=True)),
            report_options,
            second=None if options.against is None else _open_second(options, options.against, classes),
            validation=None if options.tune is None else read_validation([options.tune], classes),
            calibrate=partial(_calibrated, detector, options, Path(folder)) if options.calibrate else None,
            predictions=predictions,
            progress=progress_bar,
        )


def _calibrated(detector: Model, options: EvaluateOptions, folder: Path, calibration: Calibration) -> Model:
    """The same model with another calibration; of a model file, a copy in the folder."""
    from maskwatch.detector import Detector

    if not isinstance(detector, Detector):
        return detector.calibrated(calibration)
    from maskwatch.export.onnx import write_tuned

    copy = folder / detector.path.name
    write_tuned(detector.path, copy, detector.metadata.thresholds, calibration)
    return _open_detector(options, str(copy), options.class_agnostic)


def _scores(
    options: EvaluateOptions,
    detector: DetectorLike,
    path: Path,
    detection_set: DetectionSet,
    predict_all: PredictAll,
) -> Scores:
    """COCO's numbers alone, with their intervals if there are draws."""
    from maskwatch.evaluation.coco import coco_result
    from maskwatch.evaluation.intervals import Bootstrap
    from maskwatch.evaluation.matching import match_set
    from maskwatch.evaluation.predictor import BATCH_SIZE

    with progress_bar(str(path)) as advance:
        (predictions,) = predict_all([detector], detection_set, options.batch or BATCH_SIZE, advance)
    matches = match_set(detection_set, predictions)
    intervals = Bootstrap.of(matches, options.draws).intervals() if options.draws else {}
    return coco_result(matches), intervals


# ---- Output ----------------------------------------------------------------------------------------------


def _write(options: EvaluateOptions, report: Report) -> None:
    """Writes the files; prints a summary on standard error, apart from COCO's numbers."""
    for line in _summary(report):
        typer.echo(line, err=True)
    if options.report is not None:
        from maskwatch.evaluation.page import write_report

        write_report(report, options.report, force=options.force)
        typer.echo(f"report: {options.report / 'report.html'}", err=True)
    if options.suspects is not None:
        from maskwatch.evaluation.suspects import suspects, write_suspects

        (set_report,) = report.sets
        found = suspects(set_report.detection_set, set_report.shown, set_report.outcomes)
        write_suspects(set_report.detection_set, found, options.suspects, force=options.force)
        typer.echo(f"suspects: {len(found)} labels in {options.suspects}; look at each of them", err=True)
    if options.write is not None:
        from maskwatch.export.onnx import write_tuned

        tuned = (report.fit.calibration, report.fit.pictures) if report.fit else ()
        write_tuned(options.model, options.write, report.thresholds, *tuned)
        typer.echo(f"model: {options.write}", err=True)


def _summary(report: Report) -> Iterator[str]:
    """Precision and recall at the thresholds, and the result of a comparison."""
    options = report.options
    chosen = f"chosen on {options.chosen_on}, {options.objective}" if options.chosen_on else "the model's own"
    yield f"thresholds: {chosen}"
    if report.fit is not None:
        yield f"{options.chosen_on}: {report.fit.summary(report.class_names)}"
    for set_report in report.sets:
        yield f"{set_report.name}:"
        for row in (point.as_dict(options.objective) for point in set_report.points):
            yield (
                f" {row['class']:<16} above {row['threshold']:.3f}: precision {row['precision']:.3f}, "
                f"recall {row['recall']:.3f}, cost {row['cost']:g}"
            )
        for name, d in set_report.against.items():
            words = d.words(options.model, options.against)
            yield f" {name:<20} {d.first:.3f} against {d.second:.3f}: {words}"


def _print(options: EvaluateOptions, scores: Sequence[Scores]) -> None:
    """COCO's lines of each data set, and the record of `--json`."""
    records = []
    for path, (result, intervals) in zip(options.data, scores, strict=True):
        records.append({"data": str(path), **result.as_dict(), **_intervals_dict(intervals, options.draws)})
        if not is_stdout(options.json_file):
            lines = [*_coco_lines(path, result), *_interval_lines(intervals, options.draws), ""]
            typer.echo("\n".join(lines))
    if options.json_file is not None:
        write_json({"model": options.model, "results": records}, options.json_file)


def _coco_lines(path: Path, result: CocoResult) -> Iterator[str]:
    ignored = f", {result.ignored} ignored" if result.ignored else ""
    yield f"{path}: {result.pictures} pictures, {result.boxes} boxes{ignored}"
    yield from result.lines()
    width = max(len("class"), *(len(score.name) for score in result.per_class))
    yield f" {'class':<{width}}  {'boxes':>6}  {'AP':>6}  {'AP50':>6}"
    for score in result.per_class:
        numbers = (f"{value:.3f}" if value is not None else "-" for value in (score.ap, score.ap50))
        yield f" {score.name:<{width}}  {score.boxes:>6}  " + "  ".join(f"{number:>6}" for number in numbers)


def _interval_lines(intervals: Mapping[str, Interval], draws: int) -> Iterator[str]:
    if intervals:
        yield f" 95 % intervals, {draws} draws of the pictures"
    width = max(map(len, intervals), default=0)
    for name, interval in intervals.items():
        yield f" {name:<{width}}  " + ("{:.3f} to {:.3f}".format(*interval.ends) if interval.ends else "-")


def _intervals_dict(intervals: Mapping[str, Interval], draws: int) -> dict[str, Any]:
    if not intervals:
        return {}
    ends = {name: interval.ends for name, interval in intervals.items()}
    return {"bootstrap": {"draws": draws, "intervals": ends}}
