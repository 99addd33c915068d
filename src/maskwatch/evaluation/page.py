"""The report as a page of its own and as Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwatch.errors import ImageError
from maskwatch.evaluation.coco import STAT_NAMES
from maskwatch.evaluation.errors import KINDS, Outcome, confusion
from maskwatch.evaluation.operating import table
from maskwatch.evaluation.report import Report, SetReport
from maskwatch.evaluation.suspects import is_suspect
from maskwatch.html import css_color, data_uri, link, render
from maskwatch.html.crops import RED, WHITE, crop
from maskwatch.html.figures import new_figure, png, style, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12
"""Mistakes of a kind with a picture; the JSON lists all of them."""

HEADLINE = ("AP", "AP50", "AP75", "AR100")


def html_report(report: Report, folder: Path) -> str:
    """The page; links to pictures are relative to `folder`, where it will lie."""
    sets = [
        {
            **_common(one, report),
            "figures": [
                svg(figure, f"s{number}f{at}", alt) for at, (figure, alt, _) in enumerate(_figures(one))
            ],
            "gallery": _gallery(one, report, folder),
        }
        for number, one in enumerate(report.sets)
    ]
    return render("report.html.j2", report=report, sets=sets, headline=_headline(report), kinds=KINDS)


def markdown_report(report: Report) -> tuple[str, dict[str, bytes]]:
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
    return render("report.md.j2", report=report, sets=sets, headline=_headline(report), kinds=KINDS), files


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
    interval = one.intervals.get(name)
    known = interval is not None and not math.isnan(interval.low)
    return {
        "value": score,
        "low": interval.low if known and interval else None,
        "high": interval.high if known and interval else None,
    }


def _common(one: SetReport, report: Report) -> dict[str, Any]:
    return {
        "name": one.name,
        "pictures": one.result.pictures,
        "boxes": one.result.boxes,
        "ignored": one.result.ignored,
        "lines": one.result.lines(),
        "classes": [(score.name, score.boxes, score.printed) for score in one.result.per_class],
        "points": table(one.points, report.goal),
        "confusion": confusion(one.outcomes, len(report.class_names)).tolist(),
        "slices": one.slices,
        "calibration": one.calibration.error,
        "differences": [
            {
                "name": name,
                "first": None if math.isnan(d.first) else d.first,
                "second": None if math.isnan(d.second) else d.second,
                "low": None if math.isnan(d.interval.low) else d.interval.low,
                "high": None if math.isnan(d.interval.high) else d.interval.high,
                "words": d.words(report.model, report.against),
            }
            for name, d in one.against.items()
        ],
        "numbers": {kind: sum(o.kind == kind for o in one.outcomes) for kind in KINDS},
        "suspects": sum(map(is_suspect, one.outcomes)),
        "stat_names": STAT_NAMES,
    }


# ---- Figures ---------------------------------------------------------------------------------------------


def _figures(one: SetReport) -> list[tuple[Figure, str, str]]:
    """Figure, what it shows in words, and a name for its file."""
    return [
        (
            _curve_figure(one, "recall", "precision"),
            f"Precision over recall on {one.name}",
            "precision_recall",
        ),
        (_curve_figure(one, "score threshold", "F1"), f"F1 over the score threshold on {one.name}", "f1"),
        (_calibration_figure(one), f"Share of hits over score on {one.name}", "calibration"),
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


def _gallery(one: SetReport, report: Report, folder: Path) -> list[dict[str, Any]]:
    groups = []
    for kind, title in KINDS.items():
        mistakes = [o for o in one.outcomes if o.kind == kind]
        # The worst first: what it was sure of and wrong; of missed faces those of which nothing was seen.
        mistakes.sort(key=lambda o: o.score if kind == "missed" else -o.score)
        cards = [card for o in mistakes[:SHOWN] if (card := _card(one, report, o, folder))]
        groups.append({"kind": kind, "title": title, "number": len(mistakes), "cards": cards})
    return groups


def _card(one: SetReport, report: Report, mistake: Outcome, folder: Path) -> dict[str, Any] | None:
    sample = one.detection_set.samples[mistake.picture]
    truth = None if mistake.truth is None else sample.boxes_xyxy[mistake.truth]
    found = None if mistake.detection is None else one.shown[mistake.picture].xyxy[mistake.detection]
    boxes = [(box, color) for box, color in ((truth, WHITE), (found, RED)) if box is not None]
    try:
        shown = crop(sample.image_path, boxes, sample.boxes_xyxy[sample.ignore].tolist())
    except ImageError:
        return None
    names = report.class_names
    label = "no label" if mistake.truth_class is None else f"label {names[mistake.truth_class]}"
    said = "not found" if mistake.found_class is None else f"found {names[mistake.found_class]}"
    return {
        "picture": sample.image_id,
        "href": link(sample.image_path, folder),
        "crop": data_uri(shown),
        "text": f"{label}, {said}",
        "score": mistake.score,
        "iou": mistake.iou,
        "suspect": is_suspect(mistake),
    }
