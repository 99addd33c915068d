"""Counts of a data set: classes by split, sizes and shapes of the boxes as the network will see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskwatch.data.dataset import DetectionSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Octave steps, pixels at network size: 4, 5.7, 8 … 1024.
SIDE_EDGES = 2.0 ** np.arange(2, 10.5, 0.5)
RATIO_EDGES = 2.0 ** np.arange(-2, 2.01, 0.25)


@dataclass(frozen=True)
class Stats:
    """Counts of one data set.

    Attributes:
        pictures: split → number.
        boxes: split → class → number of boxes to find.
        ignored: split → number of ignore regions, which are in no other count.
        sides: (B,) square root of each box's area in pixels of the network's input, letterboxed.
        ratios: (B,) width over height of each box.
        network_size: side of that input.
    """

    pictures: Mapping[str, int]
    boxes: Mapping[str, Mapping[str, int]]
    ignored: Mapping[str, int]
    sides: npt.NDArray[np.float64]
    ratios: npt.NDArray[np.float64]
    network_size: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "pictures": dict(self.pictures),
            "boxes": {split: dict(counts) for split, counts in self.boxes.items()},
            "ignored": dict(self.ignored),
            "network_size": self.network_size,
            "sides": _histogram(self.sides, SIDE_EDGES),
            "ratios": _histogram(self.ratios, RATIO_EDGES),
        }


def collect_stats(sets: Mapping[str, DetectionSet], network_size: int = 640) -> Stats:
    """Counts of all splits together.

    Args:
        sets: split → samples.
        network_size: side of the square that pictures are letterboxed into.
    """
    sizes, scales = [], []
    for detection_set in sets.values():
        for sample in (sample.counted() for sample in detection_set.samples):
            sizes.append(sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2])  # (G, 2), width and height
            scales += [network_size / max(sample.size_hw)] * len(sample)
    wh = np.concatenate([np.empty((0, 2), np.float32), *sizes]).astype(np.float64)  # (B, 2)
    return Stats(
        {split: len(a_set) for split, a_set in sets.items()},
        {split: a_set.class_counts() for split, a_set in sets.items()},
        {split: a_set.ignored() for split, a_set in sets.items()},
        np.sqrt(wh.prod(1)) * np.array(scales, np.float64),
        wh[:, 0] / np.maximum(wh[:, 1], 1e-9),
        network_size,
    )


def histogram_lines(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> list[str]:
    """A histogram in text, one line a bin, the first and the last bin open."""
    rows = _histogram(values, edges)
    most = max((row["boxes"] for row in rows), default=0) or 1
    return [
        f"{row['range']:>14}  {row['boxes']:>7}  " + "█" * round(40 * row["boxes"] / most)
        for row in rows
        if row["boxes"]
    ]


def draw_histograms(stats: Stats, anchor_sides: Sequence[float], anchor_ratios: Sequence[float]) -> Figure:
    """Sizes and shapes of the boxes, with the anchors as lines."""
    from maskwatch.html.figures import new_figure, style

    with style():
        figure = new_figure(9.2, 3.4)
        left, right = figure.subplots(1, 2)
        left.hist(np.clip(stats.sides, SIDE_EDGES[0], SIDE_EDGES[-1]), SIDE_EDGES)
        left.set(xlabel=f"side at network size {stats.network_size}, pixels", ylabel="boxes")
        right.hist(np.clip(stats.ratios, RATIO_EDGES[0], RATIO_EDGES[-1]), RATIO_EDGES)
        right.set(xlabel="width / height")
        for axes, lines in ((left, anchor_sides), (right, anchor_ratios)):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            for number, at in enumerate(lines):
                label = "anchors" if not number else None
                axes.axvline(at, color="#d55e00", linestyle="--", linewidth=1, label=label)
            axes.legend(loc="upper right")
    return figure


def _histogram(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Rows of range and number; values beyond the edges count in the first and last bin."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    names[0], names[-1] = f"below {edges[1]:.3g}", f"from {edges[-2]:.3g}"
    return [{"range": name, "boxes": int(count)} for name, count in zip(names, counts, strict=True)]
