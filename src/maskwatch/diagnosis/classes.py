"""Whether the classes of the model and of the data mean the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from maskwatch.data import DetectionSet
from maskwatch.diagnosis.check import CheckState, Finding, state_of_gain
from maskwatch.diagnosis.predictions import ap50, as_class
from maskwatch.diagnosis.raw_dataset import RawDataset

if TYPE_CHECKING:
    import supervision as sv

# Share of the boxes that unknown names may have before the data set counts as one of other classes.
MANY_UNKNOWN = 0.2


def check_head(head_classes: int | None, class_names: Sequence[str]) -> Finding:
    """Whether the head has as many outputs as its class list has names."""
    name, values = "head size", {"head": head_classes, "names": list(class_names)}
    if head_classes is None:
        return Finding(name, "skipped", "there are no weights")
    text = f"the head has {head_classes} classes, its list {len(class_names)}: {', '.join(class_names)}"
    if head_classes != len(class_names):
        advice = "weights and class list come from different trainings; train again with the right classes"
        return Finding(name, "broken", text, advice, values)
    return Finding(name, "ok", text, values=values)


def check_names(raw: RawDataset, class_names: Sequence[str]) -> Finding:
    """Class names of the data that the model does not know, and the other way round."""
    counts = raw.detection_set.class_counts()
    boxes = sum(counts.values())
    unknown = {name: count for name, count in counts.items() if count and name not in class_names}
    absent = [name for name in class_names if not counts.get(name)]
    values = {"strange": unknown, "absent": absent, "boxes": boxes}
    if unknown:
        state: CheckState = "broken" if sum(unknown.values()) > MANY_UNKNOWN * boxes else "suspect"
        shown = ", ".join(f"{name} ({count} of {boxes} boxes)" for name, count in unknown.items())
        first = next(iter(unknown))
        return Finding(
            "class names",
            state,
            f"the model does not know {shown}; it knows {', '.join(class_names)}",
            f"map the spelling with --classes '{class_names[0]}={first},…', or train with these classes",
            values,
        )
    if absent:
        text = f"known, but no box in the data is {', '.join(absent)}"
        advice = "add pictures of it, or rely on the scores of the others"
        return Finding("class names", "suspect", text, advice, values)
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Finding("class names", "ok", f"all known: {shown}", values=values)


def check_order(
    detection_set: DetectionSet, predictions: Sequence[sv.Detections], class_names: Sequence[str]
) -> Finding:
    """Whether another assignment of classes scores far better than the one by name."""
    known = [i for i, count in enumerate(detection_set.class_counts().values()) if count]
    scores = np.zeros((len(class_names), len(known)))
    for found, (column, wanted) in itertools.product(range(len(class_names)), enumerate(known)):
        scores[found, column] = ap50(detection_set, as_class(predictions, found, wanted), wanted)
    names = [detection_set.class_names[i] for i in known]
    by_name = [class_names.index(name) if name in class_names else None for name in names]
    best = _best_assignment(scores)
    now, then = _mean(scores, by_name), _mean(scores, best)
    moved = [
        f"what the data call {name} is the model's {class_names[found]}"
        for name, found, own in zip(names, best, by_name, strict=True)
        if found is not None and found != own and scores[found].max() > 0
    ]
    values = {"AP50": now, "best AP50": then, "moved": moved}
    text = f"AP50 {now:.3f} by name, {then:.3f} in the best order"
    state = state_of_gain(then - now)
    if state == "ok":
        return Finding("class order", "ok", text, values=values)
    return Finding(
        "class order",
        state,
        f"{text}: {'; '.join(moved)}",
        "the numbers of the classes are mixed up: compare the order of the names in the data set "
        "(data.yaml, label map, --classes) with that of the training",
        values,
    )


def _mean(scores: npt.NDArray[np.float64], chosen: Sequence[int | None]) -> float:
    """Mean over the classes of the data, each found under the chosen class of the model."""
    return float(np.mean([0.0 if c is None else scores[c, column] for column, c in enumerate(chosen)]))


def _best_assignment(scores: npt.NDArray[np.float64]) -> list[int | None]:
    """For each column (class of the data) its own row (class of the model), with the largest sum."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    chosen = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    return [chosen.get(column) for column in range(scores.shape[1])]
