"""`maskwatch evaluate`: how good a model is on a data set, as COCO measures it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.datasets import Group, correct_sets, read_sets, read_stems
from maskwatch.cli.evaluate_report import CHECKPOINT
from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.options import parse_size
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.detector import Detector
    from maskwatch.evaluation import CocoResult, DetectorLike, Interval
    from maskwatch.training.torch_detector import TorchDetector


def evaluate(
    model: Annotated[str, typer.Argument(help="Embedded model (maskwatch-640), model file, or checkpoint.")],
    data: Annotated[
        list[Path], typer.Argument(help="Data sets, each on its own: Pascal VOC, COCO, YOLO or TFRecord.")
    ],
    split: Annotated[
        str | None, typer.Option(help="train, val or test, of data sets that are split.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Spellings of the model's classes, in its order: 'mask=ok|good,no_mask=bare,...'."),
    ] = None,
    stems: Annotated[
        Path | None, typer.Option(help="Text file of names of pictures (cam1/0001): only these.")
    ] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="CSV file that corrects labels: see docs/training.md.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Network size of a checkpoint: 640, or 480x640 (H x W).")
    ] = None,
    class_agnostic: Annotated[
        bool,
        typer.Option(
            "--class-agnostic-nms/--per-class-nms",
            help="Boxes of all classes compete, as in detect, or, as COCO's numbers have it, those of one.",
        ),
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures held in memory at once.")] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Draws for 95 % intervals, seconds for a thousand; 0 for none.",
            show_default="1000 for a report, else 0",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="New folder for the report: HTML, Markdown, JSON. See docs/report.md.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A second model to compare with, in the report.")
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="CSV or TSV file with stem and source of pictures, for the report.")
    ] = None,
    tune: Annotated[
        Path | None, typer.Option(help="Choose thresholds on this data set (its val), report them on DATA.")
    ] = None,
    cost_missed: Annotated[
        float | None, typer.Option(help="--tune: cost of a face that is missed, in the place of best F1.")
    ] = None,
    cost_alarm: Annotated[
        float | None, typer.Option(help="--tune: cost of a false alarm; 1 where only the other is given.")
    ] = None,
    recall: Annotated[
        float | None, typer.Option(help="--tune: share of each class to find, with the fewest false alarms.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="--tune: also write a model file with these thresholds.")
    ] = None,
    suspects: Annotated[
        Path | None, typer.Option(help="List labels that look wrong: a .csv of corrections, or a VOC folder.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file; '-' prints only them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what these options name.")] = False,
) -> None:
    """Measure a model on annotated pictures: COCO's twelve lines, then AP and AP50 of each class.

    Example: maskwatch evaluate maskwatch-640 masks/test unseen/webcam --report report
    """
    from maskwatch.cli.evaluate_report import Wishes, needs_report, run_report
    from maskwatch.evaluation.coco import require_pycocotools
    from maskwatch.evaluation.operating import Goal
    from maskwatch.evaluation.predictor import check_classes

    require_pycocotools()
    goal = Goal(cost_missed, cost_alarm, recall)
    to_stdout = is_stdout(json_file)
    wishes = Wishes(report, against, sources, tune, goal, write, suspects, force)
    inputs = [path for path in (*data, tune, stems, corrections, sources) if path is not None]
    wishes.check(model, len(data), inputs, None if to_stdout else json_file)
    draws = (1000 if needs_report(wishes) else 0) if bootstrap is None else bootstrap
    wishes.check_draws(draws)
    detector = open_detector(model, parse_size(size), class_agnostic)
    class_map = ClassMap(detector.class_names) if classes is None else ClassMap.parse(classes)
    check_classes(detector, class_map.names)
    groups = [Group([path], read_stems(stems), split) for path in data]
    sets = correct_sets(read_sets(groups, class_map), corrections, class_map)
    if needs_report(wishes):
        measured = run_report(wishes, model, detector, [*map(str, data)], sets, class_map, batch, draws)
    else:
        measured = [
            _measure(detector, detection_set, batch, draws, str(path))
            for path, detection_set in zip(data, sets, strict=True)
        ]
    records = []
    for path, (result, intervals) in zip(data, measured, strict=True):
        records.append({"data": str(path), **result.as_dict(), **_as_dict(intervals, draws)})
        if not to_stdout:
            typer.echo("\n".join([*_report(path, result), *_interval_lines(intervals, draws), ""]))
    if json_file is not None:
        write_json({"model": model, "results": records}, json_file)


def open_detector(
    model: str, size_hw: tuple[int, int] | None, class_agnostic: bool
) -> Detector | TorchDetector:
    """The detector with all scores let through, because a threshold would cut the curve that AP measures."""
    if Path(model).suffix.lower() == CHECKPOINT:
        return _open_checkpoint(model, size_hw, class_agnostic)
    from maskwatch.detector import Detector

    detector = Detector(model, threshold=0.0, class_agnostic=class_agnostic)
    if size_hw is not None and size_hw != detector.input_size:
        height, width = detector.input_size
        raise OptionError(
            f"--size {size_hw[0]}x{size_hw[1]}: {model} works at {height}x{width} only; "
            "leave --size out, or evaluate the checkpoint"
        )
    return detector


def _open_checkpoint(
    path: str, size_hw: tuple[int, int] | None, class_agnostic: bool
) -> Detector | TorchDetector:
    try:
        from maskwatch.training.torch_detector import TorchDetector
    except ModuleNotFoundError:
        raise MissingExtraError("evaluating a checkpoint", "train") from None
    return TorchDetector.load(path, size_hw, class_agnostic=class_agnostic)


def _measure(
    detector: DetectorLike, detection_set: DetectionSet, batch: int | None, draws: int, title: str
) -> tuple[CocoResult, Mapping[str, Interval]]:
    from maskwatch.evaluation import bootstrap_intervals, coco_evaluate, predict
    from maskwatch.evaluation.predictor import BATCH_SIZE

    with progress_bar(title) as advance:
        predictions = predict(detector, detection_set, batch or BATCH_SIZE, advance)
    intervals = bootstrap_intervals(detection_set, predictions, draws) if draws else {}
    return coco_evaluate(detection_set, predictions), intervals


def _report(path: Path, result: CocoResult) -> Iterator[str]:
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
        known = not math.isnan(interval.low)
        yield f" {name:<{width}}  " + (f"{interval.low:.3f} to {interval.high:.3f}" if known else "-")


def _as_dict(intervals: Mapping[str, Interval], draws: int) -> dict[str, Any]:
    if not intervals:
        return {}
    ends = {
        name: [interval.low, interval.high] if not math.isnan(interval.low) else None
        for name, interval in intervals.items()
    }
    return {"bootstrap": {"draws": draws, "intervals": ends}}
