"""The files of a report: the HTML page, Markdown with figures, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwatch.errors import ImageError
from maskwatch.evaluation.errors import ERROR_TITLES, Outcome, confusion
from maskwatch.evaluation.report import Report, SetReport
from maskwatch.evaluation.suspects import is_suspect
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
    """Writes report.html, report.md with its figures, and report.json into a new folder.

    Raises:
        OutputError: the folder exists and `force` is not given, or it cannot be written.
    """
    with new_folder(target, force=force) as folder:
        markdown, figures = _markdown(report)
        with output_errors(target):
            text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (folder / "report.json").write_text(text + "\n", encoding="utf-8")
            (folder / "report.html").write_text(_html(report, target), encoding="utf-8")
            (folder / "report.md").write_text(markdown, encoding="utf-8")
            for name, data in figures.items():
                (folder / name).write_bytes(data)


def _html(report: Report, folder: Path) -> str:
    """The page; links to pictures are relative to `folder`, the final folder of the page."""
    sets = [
        {
            **_common(one, report),
            "figures": [
                svg(figure, f"s{number}f{at}", alt) for at, (figure, alt, _) in enumerate(_figures(one))
            ],
            "gallery": _gallery(one, folder),
        }
        for number, one in enumerate(report.sets)
    ]
    return _render("report.html.j2", report, sets)


def _markdown(report: Report) -> tuple[str, dict[str, bytes]]:
    """The text, and the figures that it shows: file name → PNG."""
    files: dict[str, bytes] = {}
    sets = []
    for number, one in enumerate(report.sets):
        names = []
        for figure, alt, name in _figures(one):
            file = f"{name}-{number + 1}.png"
            files[file] = png(figure)
            names.append((file, alt))
        sets.append({**_common(one, report), "figures": names})
    return _render("report.md.j2", report, sets), files


def _render(template: str, report: Report, sets: list[dict[str, Any]]) -> str:
    return render(
        template,
        options=report.options,
        class_names=report.class_names,
        headline=_headline(report),
        sets=sets,
        kinds=ERROR_TITLES,
    )


def _headline(report: Report) -> list[dict[str, Any]]:
    """One row for each score, one cell for each data set."""
    names = [*HEADLINE, *(f"AP50 {name}" for name in report.class_names)]
    return [{"name": name, "cells": [_score_cell(one, name) for one in report.sets]} for name in names]


def _score_cell(one: SetReport, name: str) -> dict[str, Any]:
    if name in one.result.stats:
        value = one.result.stats[name]
        score = None if value < 0 else value
    else:
        score = next(s.ap50 for s in one.result.per_class if f"AP50 {s.name}" == name)
    ends = one.intervals[name].ends if one.intervals else None
    low, high = ends or (None, None)
    return {"value": score, "low": low, "high": high}


def _common(one: SetReport, report: Report) -> dict[str, Any]:
    return {
        "name": one.name,
        "pictures": one.result.pictures,
        "boxes": one.result.boxes,
        "ignored": one.result.ignored,
        "lines": one.result.lines(),
        "classes": [(score.name, score.boxes, score.printed) for score in one.result.per_class],
        "points": [point.as_dict(report.options.objective) for point in one.points],
        "confusion": confusion(one.outcomes, len(report.class_names)).tolist(),
        "slices": one.slices,
        "calibration": one.calibration.error,
        "differences": [
            {"name": name, **d.values, "words": d.words(report.options.model, report.options.against)}
            for name, d in one.against.items()
        ],
        "numbers": {kind: sum(o.kind == kind for o in one.outcomes) for kind in ERROR_TITLES},
        "suspects": sum(map(is_suspect, one.outcomes)),
    }


# ---- Figures ---------------------------------------------------------------------------------------------


def _figures(one: SetReport) -> list[tuple[Figure, str, str]]:
    """Figure, what it shows in words, and a name for its file."""
    name = one.name
    return [
        (
            _curve_figure(one, "recall", "precision"),
            f"Precision over recall on {name}",
            "precision_recall",
        ),
        (_curve_figure(one, "score threshold", "F1"), f"F1 over the score threshold on {name}", "f1"),
        (_calibration_figure(one), f"Share of hits over score on {name}", "calibration"),
    ]


def _curve_figure(one: SetReport, x: str, y: str) -> Figure:
    with style():
        figure = new_figure()
        axes = figure.subplots()
        for class_id, curve in enumerate(one.curves):
            if not curve.truths:
                continue
            xs, ys = (curve.recall, curve.precision) if y == "precision" else (curve.scores, curve.f1)
            axes.plot(xs, ys, color=css_color(class_id), label=curve.name)
            point = one.points[class_id]
            at = (point.recall, point.precision) if y == "precision" else (point.threshold, point.f1)
            axes.plot(*at, "o", color=css_color(class_id))
        axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
        if axes.lines:
            axes.legend(loc="lower left")
    return figure


def _calibration_figure(one: SetReport) -> Figure:
    with style():
        figure = new_figure()
        axes = figure.subplots()
        bins = one.calibration.number > 0
        axes.plot([0, 1], [0, 1], linestyle=":", color="#808080", linewidth=1, label="as sure as right")
        axes.plot(one.calibration.score[bins], one.calibration.hits[bins], "o-", label="detections")
        axes.set(xlabel="score", ylabel="share of hits at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")
    return figure


# ---- Gallery ---------------------------------------------------------------------------------------------


def _gallery(one: SetReport, folder: Path) -> list[dict[str, Any]]:
    groups = []
    for kind, title in ERROR_TITLES.items():
        errors = [o for o in one.outcomes if o.kind == kind]
        # The worst first: confident errors; among false negatives, faces without even a weak detection.
        errors.sort(key=lambda o: o.score if kind == "false_negative" else -o.score)
        cards = [card for error in errors[:MAX_CARDS] if (card := _card(one, error, folder))]
        groups.append({"kind": kind, "title": title, "number": len(errors), "cards": cards})
    return groups


def _card(one: SetReport, error: Outcome, folder: Path) -> dict[str, Any] | None:
    """What the page shows of an error; None where the picture cannot be read."""
    sample, names = one.detection_set.samples[error.picture], one.detection_set.class_names
    truth = None if error.truth is None else sample.boxes_xyxy[error.truth]
    found = None if error.detection is None else one.shown[error.picture].xyxy[error.detection]
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
        "suspect": is_suspect(error),
    }
