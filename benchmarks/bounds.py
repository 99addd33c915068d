"""What limits the score of a model: its boxes, its classes, its false negatives, or the labels.

    python benchmarks/bounds.py maskwatch-640 --data ../shared/data/masks/val \\
        --corrections corrections/val.csv

Each line measures the same predictions after one change: with the flipped picture's boxes merged in, with
the classes or the boxes of the truth wherever a face was found, with one class for all, on corrected labels.
The last line does not depend on the errors of the model: it scatters the labelled boxes as much as the labels
scatter around the predictions. If the scatter comes from the labels, a detector without any other error has
about that AP. Output is a Markdown table. Use `val`, not `test`: the table is for choosing and explaining.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv
from command import head, parser_of, row, run

from maskwatch import Detector
from maskwatch.data import DetectionSet, Sample, correct, read_corrections, read_data
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.evaluation.matching import match_detections, overlaps
from maskwatch.labels import ClassMap
from maskwatch.media.images import UInt8Array

# Both boxes of a face are merged from this IoU on, the IoU of the model's own NMS.
MERGE_IOU = 0.6
# Smallest face that shows the labels' scatter: smaller ones are labelled to the pixel.
LEAST_SCATTER = 32.0

Floats = npt.NDArray[np.floating]


class Flipped:
    """Runs a detector on each picture and on its mirror image, and merges the detections."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.class_names = detector, detector.class_names

    def __call__(self, images: list[UInt8Array], /) -> list[sv.Detections]:
        plain = self.detector(images)
        mirrored = self.detector([np.ascontiguousarray(image[:, ::-1]) for image in images])
        return [
            merged(one, _flip_back(other, image.shape[1]))
            for one, other, image in zip(plain, mirrored, images, strict=True)
        ]


def _flip_back(found: sv.Detections, width: int) -> sv.Detections:
    xyxy = found.xyxy.copy()
    xyxy[:, [0, 2]] = width - found.xyxy[:, [2, 0]]
    return sv.Detections(xyxy, confidence=found.confidence, class_id=found.class_id)


def merged(one: sv.Detections, other: sv.Detections) -> sv.Detections:
    """Pairs of one class and nearly one place become their mean, weighted by score; the rest keep half."""
    first, second = _only(one, np.arange(len(one))), _only(other, np.arange(len(other)))
    iou = (
        sv.box_iou_batch(first.xyxy, second.xyxy)
        if len(one) and len(other)
        else np.zeros((len(one), len(other)))
    )
    iou[first.class_id[:, None] != second.class_id[None]] = 0
    paired = np.zeros(len(second), bool)
    for index in range(len(first)):
        free = np.where(paired, 0, iou[index])
        partner = int(free.argmax()) if len(free) else -1
        other_score = 0.0
        if partner >= 0 and free[partner] >= MERGE_IOU:
            paired[partner] = True
            other_score = second.confidence[partner]
            share = other_score / max(first.confidence[index] + other_score, 1e-9)
            first.xyxy[index] += share * (second.xyxy[partner] - first.xyxy[index])
        first.confidence[index] = (first.confidence[index] + other_score) / 2
    rest = _only(second, np.nonzero(~paired)[0])
    rest.confidence[:] /= 2
    return sv.Detections.merge([first, rest])


def _only(found: sv.Detections, chosen: npt.NDArray[np.int_]) -> sv.Detections:
    assert found.confidence is not None
    assert found.class_id is not None
    return sv.Detections(
        found.xyxy[chosen].copy(), confidence=found.confidence[chosen].copy(), class_id=found.class_id[chosen]
    )


def matches(sample: Sample, found: sv.Detections) -> npt.NDArray[np.int64]:
    """(D,) the face that each detection found, the best first, each face once; negative for none."""
    assert found.confidence is not None
    return match_detections(overlaps(found.xyxy, sample), found.confidence, sample.ignore)


def with_truth(sample: Sample, found: sv.Detections, what: str) -> sv.Detections:
    """The detections with the class, or the box, of the face that each of them found."""
    pairs = matches(sample, found)
    hit = pairs >= 0
    result = _only(found, np.arange(len(found)))
    if what == "class":
        result.class_id = np.where(hit, sample.class_ids[pairs] if len(sample) else 0, found.class_id)
    elif len(sample):
        result.xyxy[hit] = sample.boxes_xyxy[pairs[hit]]
    return result


def one_class(detection_set: DetectionSet) -> DetectionSet:
    samples = tuple(replace(s, class_ids=np.zeros_like(s.class_ids)) for s in detection_set.samples)
    return DetectionSet(("face",), samples)


# ---- scatter ---------------------------------------------------------------------------------------------


def source(sample: Sample) -> str:
    """What the file name has before its first underscore: the data set a picture came from."""
    return sample.stem.partition("_")[0]


def scatter(detection_set: DetectionSet, predictions: Sequence[sv.Detections]) -> dict[str, float]:
    """Robust deviation of the labels' edges around the predictions, as a share of the face's side."""
    shares: dict[str, list[Floats]] = {}
    for sample, found in zip(detection_set.samples, predictions, strict=True):
        pairs = matches(sample, found)
        for box, face in zip(found.xyxy[pairs >= 0], pairs[pairs >= 0], strict=True):
            label = sample.boxes_xyxy[face]
            sides = label[2:] - label[:2]
            if sides.min() >= LEAST_SCATTER:
                shares.setdefault(source(sample), []).append((box - label) / np.tile(sides, 2))
    return {name: _deviation(np.array(values)) for name, values in sorted(shares.items())}


def _deviation(shares: Floats) -> float:
    """1.48 times the median distance from the median: the standard deviation, for a normal one."""
    centred = shares - np.median(shares, axis=0)  # a bias of an edge is no scatter
    return float(1.4826 * np.median(np.abs(centred)))


def scattered(
    detection_set: DetectionSet, deviations: dict[str, float], seed: int = 0
) -> list[sv.Detections]:
    """The truth as predictions, every edge moved by a normal deviate."""
    rng = np.random.default_rng(seed)
    predictions = []
    for sample in map(Sample.counted, detection_set.samples):
        sides = np.tile(sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2], 2)
        moved = sample.boxes_xyxy + rng.normal(size=sides.shape) * sides * deviations.get(source(sample), 0.0)
        predictions.append(
            sv.Detections(
                moved.astype(np.float32), confidence=np.ones(len(sample)), class_id=sample.class_ids
            )
            if len(sample)
            else sv.Detections.empty()
        )
    return predictions


# ---- table -----------------------------------------------------------------------------------------------


def report(model: str, detection_set: DetectionSet, corrected: DetectionSet | None) -> Iterator[str]:
    detector = Detector(model, threshold=0.0, class_agnostic=False)
    plain = predict(detector, detection_set)
    single = predict(detector.variant(threshold=0.0, class_agnostic=True), detection_set)
    pairs = list(zip(detection_set.samples, single, strict=True))
    yield f"### {model}"
    yield ""
    yield from head("| | AP | AP50 | AP75 |")
    yield _row("as it is", detection_set, plain)
    yield _row("and of the mirror image, merged", detection_set, predict(Flipped(detector), detection_set))
    yield _row("one box a face", detection_set, single)
    yield _row("… with the class of the truth", detection_set, [with_truth(*pair, "class") for pair in pairs])
    yield _row("… with the box of the truth", detection_set, [with_truth(*pair, "box") for pair in pairs])
    faces = [sv.Detections(f.xyxy, confidence=f.confidence, class_id=np.zeros(len(f), int)) for f in single]
    yield _row("… one class `face`", one_class(detection_set), faces)
    if corrected is not None:
        yield _row("as it is, on corrected labels", corrected, plain)
    deviations = scatter(detection_set, single)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in deviations.items())
    title = f"the truth, edges scattered by their share of the side ({shown})"
    yield _row(title, detection_set, scattered(detection_set, deviations))


def _row(title: str, truths: DetectionSet, predictions: Sequence[sv.Detections]) -> str:
    stats = coco_evaluate(truths, predictions).stats
    return row(title, *(f"{stats[name]:.3f}" for name in ("AP", "AP50", "AP75")))


def measure(options: argparse.Namespace) -> Iterator[str]:
    for model in options.models:
        classes = ClassMap(Detector(model).class_names)
        detection_set = read_data(options.data, classes)
        corrected = None
        if options.corrections is not None:
            corrected = correct(detection_set, read_corrections(options.corrections, classes))
        yield from report(model, detection_set, corrected)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("models", nargs="+", help="names or files of models")
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated photographs")
    parser.add_argument("--corrections", type=Path, help="CSV file of corrected labels")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
