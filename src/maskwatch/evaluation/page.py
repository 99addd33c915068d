"""The files of a report: the HTML page, Markdown with figures, JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwatch.errors import ImageError
from maskwatch.evaluation.curves import CalibrationCurve
from maskwatch.evaluation.errors import ERROR_TITLES, Outcome, confusion
from maskwatch.evaluation.report import Report, SetReport
from maskwatch.evaluation.suspects import SUSPECTS_FILE, fault_of, suspects, suspects_csv
from maskwatch.html import css_color, data_uri, link, render
from maskwatch.html.crops import RED, WHITE, crop
from maskwatch.html.figures import new_figure, png, style, svg
from maskwatch.outputs import new_folder, output_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CARDS = 12
"""Errors of each kind that have a picture; the JSON lists all errors."""

HEADLINE = ("AP", "AP50", "AP75", "AR100")


def write_report(report: Report, target: Path, *, force: bool) -> None:
    """Writes report.html, report.md with its figures, report.json and suspects.csv into a new folder.

    Raises:
        OutputError: the folder exists and `force` is not given, or it cannot be written.
    """
    with new_folder(target, force=force) as folder, output_errors(target):
        text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        found = [(s.detection_set, suspects(s.detection_set, s.shown, s.outcomes)) for s in report.sets]
        (folder / SUSPECTS_FILE).write_text(suspects_csv(found), encoding="utf-8")
        # Links to pictures are relative to `target`, which `folder` becomes.
        counts = [len(listed) for _, listed in found]
        sets = [
            _context(number, part, report, target) | {"suspects": count}
            for number, (part, count) in enumerate(zip(report.sets, counts, strict=True), start=1)
        ]
        for name in ("report.html", "report.md"):
            page = render(
                f"{name}.j2",
                options=report.options,
                class_names=report.class_names,
                headline=_headline(report.sets),
                sets=sets,
            )
            (folder / name).write_text(page, encoding="utf-8")
        for figure in (figure for part in sets for figure in part["figures"]):
            (folder / figure["file"]).write_bytes(figure["png"])


def _headline(sets: Sequence[SetReport]) -> dict[str, list[dict[str, Any]]]:
    """For each score, a cell for each data set."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for set_report in sets:
        stats, per_class = set_report.result.as_dict()["stats"], set_report.result.per_class
        scores = {name: stats[name] for name in HEADLINE} | {f"AP50 {c.name}": c.ap50 for c in per_class}
        for name, value in scores.items():
            low, high = (set_report.intervals[name].ends if set_report.intervals else None) or (None, None)
            rows.setdefault(name, []).append({"value": value, "low": low, "high": high})
    return rows


def _context(number: int, set_report: SetReport, report: Report, folder: Path) -> dict[str, Any]:
    """What the templates show of a data set; links are relative to `folder`."""
    options = report.options
    return {
        "name": set_report.name,
        "result": set_report.result,
        "points": [point.as_dict(options.objective) for point in set_report.points],
        "confusion": confusion(set_report.outcomes, len(report.class_names)).tolist(),
        "slices": set_report.slices,
        "calibration": set_report.calibration.error,
        "differences": [
            {"name": name, **d.values, "words": d.words(options.model, options.against)}
            for name, d in set_report.against.items()
        ],
        "label": shlex.join(["maskwatch", "label", set_report.name, "--suspects", str(folder)]),
        "figures": _figures(number, set_report),
        "gallery": _gallery(set_report, folder),
    }


# ---- Figures ---------------------------------------------------------------------------------------------


def _figures(number: int, set_report: SetReport) -> list[dict[str, Any]]:
    """The figures of the data set with this number, for the page and as files for Markdown."""
    figures = []
    for name, title, figure in (
        ("precision_recall", "Precision over recall", _curve_figure(set_report, "recall", "precision")),
        ("f1", "F1 over the score threshold", _curve_figure(set_report, "score threshold", "F1")),
        ("calibration", "Share of hits over score", _calibration_figure(set_report.calibration)),
    ):
        alt = f"{title} on {set_report.name}"
        images = {"svg": svg(figure, f"{name}{number}", alt), "png": png(figure)}
        figures.append({"alt": alt, "file": f"{name}-{number}.png", **images})
    return figures


def _curve_figure(set_report: SetReport, x: str, y: str) -> Figure:
    with style():
        figure = new_figure()
        axes = figure.subplots()
        for class_id, curve in enumerate(set_report.curves):
            if not curve.truths:
                continue
            xs, ys = (curve.recall, curve.precision) if y == "precision" else (curve.scores, curve.f1)
            axes.plot(xs, ys, color=css_color(class_id), label=curve.name)
            point = set_report.points[class_id]
            at = (point.recall, point.precision) if y == "precision" else (point.threshold, point.f1)
            axes.plot(*at, "o", color=css_color(class_id))
        axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
        if axes.lines:
            axes.legend(loc="lower left")
    return figure


def _calibration_figure(calibration: CalibrationCurve) -> Figure:
    with style():
        figure = new_figure()
        axes = figure.subplots()
        bins = calibration.number > 0
        axes.plot([0, 1], [0, 1], linestyle=":", color="#808080", linewidth=1, label="perfectly calibrated")
        axes.plot(calibration.score[bins], calibration.hits[bins], "o-", label="detections")
        axes.set(xlabel="score", ylabel="share of hits at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")
    return figure


# ---- Gallery ---------------------------------------------------------------------------------------------


def _gallery(set_report: SetReport, folder: Path) -> list[dict[str, Any]]:
    groups = []
    for kind, title in ERROR_TITLES.items():
        errors = [o for o in set_report.outcomes if o.kind == kind]
        # The worst first: confident errors; among false negatives, faces without even a weak detection.
        errors.sort(key=lambda o: o.score if kind == "false_negative" else -o.score)
        cards = [card for error in errors[:MAX_CARDS] if (card := _card(set_report, error, folder))]
        groups.append({"title": title, "number": len(errors), "cards": cards})
    return groups


def _card(set_report: SetReport, error: Outcome, folder: Path) -> dict[str, Any] | None:
    """What the page shows of an error; None where the picture cannot be read."""
    sample, names = set_report.detection_set.samples[error.picture], set_report.detection_set.class_names
    truth = None if error.truth is None else sample.boxes_xyxy[error.truth]
    found = None if error.detection is None else set_report.shown[error.picture].xyxy[error.detection]
    boxes = [(box, color) for box, color in ((truth, WHITE), (found, RED)) if box is not None]
    try:
        image = crop(sample.image_path, boxes, sample.boxes_xyxy[sample.ignore].tolist())
    except ImageError:
        return None
    label = "no label" if error.truth_class is None else f"label {names[error.truth_class]}"
    detection = "not found" if error.found_class is None else f"found {names[error.found_class]}"
    return {
        "picture": sample.image_id,
        "href": link(sample.image_path, folder),
        "crop": data_uri(image),
        "text": f"{label}, {detection}",
        "score": error.score,
        "iou": error.iou,
        "suspect": fault_of(error) is not None,
    }
