"""How a model does on faces that fill the picture, where the data set has only smaller ones.

    python benchmarks/closeups.py maskwatch-640 maskwatch-320 --data ../shared/data/masks/val

Crops each face of at least --least pixels so that it spans a given share of a square, and measures COCO's
AP50 on these squares. Other faces in a square count where most of them is visible. Models are chosen with
this on `val`, which needs no pictures of a real door camera.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv
from command import parser_of, run

from maskwatch import Detector, read_image
from maskwatch.data import DetectionSet, Sample, read_data
from maskwatch.evaluation import coco_evaluate
from maskwatch.labels import ClassMap

SPANS = (0.25, 0.5, 0.75)
LEAST_VISIBLE = 0.5


@dataclass(frozen=True)
class CloseUp:
    """image (S, S, 3) uint8 RGB, and the sample of what of the picture's boxes is in it."""

    image: npt.NDArray[np.uint8]
    sample: Sample


def closeup(image: npt.NDArray[np.uint8], sample: Sample, face: int, span: float) -> CloseUp | None:
    """The square around a face in which it spans this share; None where the picture is too small for it."""
    box = sample.boxes_xyxy[face]
    side = round(float((box[2:] - box[:2]).max()) / span)
    height, width = image.shape[:2]
    if side > min(height, width):
        return None
    centre_x, centre_y = (box[:2] + box[2:]) / 2
    x0 = round(float(np.clip(centre_x - side / 2, 0, width - side)))
    y0 = round(float(np.clip(centre_y - side / 2, 0, height - side)))
    moved = sample.boxes_xyxy - np.array([x0, y0, x0, y0], np.float32)
    inside = moved.clip(0, side)
    visible = (inside[:, 2:] - inside[:, :2]).prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1)
    kept = np.where(sample.ignore, visible > 0, visible >= LEAST_VISIBLE)
    part = replace(sample.take(kept), size_hw=(side, side), boxes_xyxy=inside[kept])
    return CloseUp(image[y0 : y0 + side, x0 : x0 + side], part)


def closeups(detection_set: DetectionSet, span: float, least: float) -> tuple[DetectionSet, list[CloseUp]]:
    """All close-ups of a set, and the set of their boxes."""
    found: list[CloseUp] = []
    for sample in detection_set.samples:
        sides = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).max(1, initial=0)
        large = (sides >= least) & ~sample.ignore
        if not large.any():
            continue
        image = read_image(sample.image_path)
        for face in np.flatnonzero(large):
            one = closeup(image, sample, int(face), span)
            if one is not None:
                found.append(one)
    return DetectionSet(detection_set.class_names, tuple(one.sample for one in found)), found


def measure(options: argparse.Namespace) -> Iterator[str]:
    """One line for each span and model."""
    detectors = [Detector(model, threshold=0.0, class_agnostic=False) for model in options.models]

    @cache  # models of the same classes share their pictures
    def cut(class_names: tuple[str, ...], span: float) -> tuple[DetectionSet, list[CloseUp]]:
        return closeups(read_data(options.data, ClassMap(class_names)), span, options.least)

    for span in SPANS:
        for detector in detectors:
            truths, pictures = cut(detector.class_names, span)
            if not pictures:
                yield f"span {span:.2f}  no face of {options.least:g} pixels with that much around it"
                break
            predictions: list[sv.Detections] = [detector(picture.image) for picture in pictures]
            result = coco_evaluate(truths, predictions)
            classes = "  ".join(f"{c.name} {c.ap50:.3f}" for c in result.per_class if c.ap50 is not None)
            yield (
                f"span {span:.2f}  {len(pictures):4} close-ups  {detector.name}  "
                f"AP {result.stats['AP']:.3f}  AP50 {result.stats['AP50']:.3f}  ({classes})"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("models", nargs="+", help="names or files of models")
    parser.add_argument("--data", type=Path, required=True, help="annotated photographs")
    parser.add_argument("--least", type=float, default=80.0, help="smallest face, pixels of the photograph")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
