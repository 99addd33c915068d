"""Whether the boxes of the data have the right units, and are where the model finds faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from maskwatch.data import DetectionSet, Sample
from maskwatch.diagnosis.check import Finding, state_of_gain
from maskwatch.diagnosis.predictions import ap50_any
from maskwatch.diagnosis.raw_dataset import LARGEST_SHARE
from maskwatch.media.images import FloatArray

if TYPE_CHECKING:
    import supervision as sv

Change: TypeAlias = Callable[[FloatArray, tuple[int, int]], FloatArray]

# Pixels by which a box may reach beyond its picture, as in the reader of data sets.
BEYOND = 2.0
MANY_WRONG = 0.05
# The estimate of scale and shift uses predictions above this score.
CONFIDENT_SCORE = 0.3
# Width of the bins in which pairs of boxes vote: in octaves, and in shares of the picture's side.
_OCTAVE_BIN = 0.1
_SHIFT_BIN = 0.02


@dataclass(frozen=True)
class Hypothesis:
    """What may be wrong with the boxes, what to do, and the change that corrects it."""

    what: str
    advice: str
    change: Change


HYPOTHESES = (
    Hypothesis(
        "x and y are swapped",
        "write boxes as xmin, ymin, xmax, ymax",
        lambda boxes, _: boxes[:, [1, 0, 3, 2]],
    ),
    Hypothesis(
        "they are shares of the picture, not pixels",
        "multiply them by width and height",
        lambda boxes, size_hw: boxes * _whwh(size_hw),
    ),
    Hypothesis(
        "they are pixels taken for shares of the picture",
        "leave the multiplication by width and height out",
        lambda boxes, size_hw: boxes / _whwh(size_hw),
    ),
    Hypothesis(
        "they are xmin, ymin, width, height (as COCO has them), not corners",
        "add xmin and ymin to the last two",
        lambda boxes, _: np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
    ),
    Hypothesis(
        "they are centre and size (as YOLO has them), not corners",
        "convert them to corners",
        lambda boxes, _: (
            np.tile(boxes[:, :2], 2) + np.tile(boxes[:, 2:], 2) * np.array([-0.5, -0.5, 0.5, 0.5], np.float32)
        ),
    ),
)


def check_units(detection_set: DetectionSet) -> Finding:
    """Boxes as written against their pictures, without a model."""
    samples = list(map(Sample.counted, detection_set.samples))
    boxes = np.concatenate([sample.boxes_xyxy for sample in samples])
    sizes = np.concatenate([np.tile(_whwh(s.size_hw), (len(s), 1)) for s in samples])  # (G, 4)
    shares = float((boxes.max(1) <= LARGEST_SHARE).mean())
    beyond = float(((boxes.min(1) < -BEYOND) | (boxes > sizes + BEYOND)[:, 2:].any(1)).mean())
    empty = float(((boxes[:, 2:] - boxes[:, :2]).min(1) <= 0).mean())
    values = {"boxes": len(boxes), "below 1.5": shares, "beyond the picture": beyond, "no area": empty}
    text = f"{len(boxes)} boxes: {beyond:.0%} beyond the picture, {empty:.0%} without area"
    name = "box units"
    if shares > 0.5:
        text = f"{shares:.0%} of {len(boxes)} boxes have no number above {LARGEST_SHARE}"
        advice = "they are shares of the picture, not pixels: multiply them by width and height"
        return Finding(name, "broken", text, advice, values)
    if max(beyond, empty) > MANY_WRONG:
        advice = "they were drawn on pictures of another size, or their numbers are in another order"
        return Finding(name, "broken", text, advice, values)
    if max(beyond, empty) > 0:
        return Finding(name, "suspect", text, "run: maskwatch data check DATA", values)
    return Finding(name, "ok", text, values=values)


def check_positions(
    detection_set: DetectionSet,
    predictions: Sequence[sv.Detections],
    from_input: Change,
) -> Finding:
    """Whether changed boxes fit the predictions far better than the boxes as written.

    Args:
        from_input: from pixels of the network's input to those of the picture.
    """
    now = ap50_any(detection_set, predictions)
    of_input = Hypothesis("they are in pixels of the network's input", "scale them back", from_input)
    tried = [*HYPOTHESES, of_input, *_estimate(detection_set, predictions)]
    scores = [ap50_any(_changed(detection_set, hypothesis.change), predictions) for hypothesis in tried]
    best = max(scores)
    hypothesis = tried[scores.index(best)]
    values: dict[str, Any] = {"AP50 of any class": now, "best": best, "explanation": hypothesis.what}
    text = f"AP50 of boxes of any class {now:.3f}"
    state = state_of_gain(best - now)
    if state == "ok":
        return Finding("box places", "ok", f"{text}, no change of the boxes helps", values=values)
    return Finding(
        "box places", state, f"{text}, but {best:.3f} if {hypothesis.what}", hypothesis.advice, values
    )


def _changed(detection_set: DetectionSet, change: Change) -> DetectionSet:
    samples = (replace(s, boxes_xyxy=change(s.boxes_xyxy, s.size_hw)) for s in detection_set.samples)
    return DetectionSet(detection_set.class_names, tuple(samples))


def _estimate(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> list[Hypothesis]:
    """The scale and the shift on which most pairs of a box and a prediction of one picture agree, if any.

    Pairs of the same face agree, all others scatter; so the fullest bin holds pairs of the same face.
    """
    pairs = [
        (truth, guess, _whwh(sample.size_hw)[:2])
        for sample, found in zip(detection_set.samples, predictions, strict=True)
        for truth in sample.counted().boxes_xyxy
        for guess in _confident(found)
        if (truth[2:] > truth[:2]).all()
    ]
    if not pairs:
        return []
    truths, guesses, sizes = (np.stack(part).astype(np.float64) for part in zip(*pairs, strict=True))
    sides = (guesses[:, 2:] - guesses[:, :2]).clip(1e-3) / (truths[:, 2:] - truths[:, :2])
    octaves, agree = _mode(np.log2(sides), _OCTAVE_BIN)
    scale_xy = 2**octaves
    shifts = (guesses[:, :2] + guesses[:, 2:]) / 2 - (truths[:, :2] + truths[:, 2:]) / 2 * scale_xy
    shift_xy, _ = _mode((shifts / sizes)[agree], _SHIFT_BIN)

    def change(boxes: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
        moved = boxes * np.tile(scale_xy, 2) + np.tile(shift_xy, 2) * _whwh(size_hw)
        return np.asarray(moved, np.float32)

    (sx, sy), (dx, dy) = scale_xy, shift_xy
    what = f"x is scaled by {sx:.2f} and y by {sy:.2f}, and moved by {dx:.1%} and {dy:.1%} of the picture"
    advice = "they were drawn on pictures of another size or crop: draw or scale them"
    return [Hypothesis(what, advice, change)]


def _confident(found: sv.Detections) -> npt.NDArray[np.float64]:
    assert found.confidence is not None
    return np.asarray(found.xyxy[found.confidence > CONFIDENT_SCORE], np.float64)


def _mode(
    values: npt.NDArray[np.float64], width: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Median of the fullest square of side `width` in (P, 2), and which values are near it."""
    bins, counts = np.unique(np.floor(values / width), axis=0, return_counts=True)
    center = (bins[counts.argmax()] + 0.5) * width
    near = (np.abs(values - center) < width).all(1)  # twice as wide, so that no edge of a bin cuts the peak
    return np.median(values[near], axis=0), near


def _whwh(size_hw: tuple[int, int]) -> FloatArray:
    return np.array(size_hw[::-1] * 2, np.float32)
