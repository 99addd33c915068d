"""How many faces `maskwatch detect --blur` hides in annotated photographs, what that costs, what is left.

    python benchmarks/blur.py ../shared/data/unseen/webcam ../shared/data/unseen/crowds

For each data set and each score from which faces are hidden: the share of annotated faces of whose box four
fifths or more lie under a patch; patches a picture whose centre lies in no annotated face; the share of the
picture under patches. "found again" is how many of the faces that counted before are found in the blurred
pictures, for the score that is in use. Output is a Markdown table, for docs/privacy.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import supervision as sv
from command import head, parser_of, row, run

from maskwatch import Detector, read_image
from maskwatch.data import DetectionSet, read_data
from maskwatch.drawing.blur import COVER_SCORE, blur, cover_thresholds

SCORES = (0.3, 0.2, COVER_SCORE, 0.05)
HIDDEN = 0.8
"""Of a face's box must lie under patches for the face to count as hidden."""
SAME_FACE_IOU = 0.3

Boxes = npt.NDArray[np.float32]


def patches(size_hw: tuple[int, int], boxes_xyxy: Boxes) -> npt.NDArray[np.bool_]:
    """(H, W), what `blur` changes: it leaves nothing of a chessboard with squares of one pixel."""
    board = (np.indices(size_hw).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    return (blur(image, boxes_xyxy) != image).any(axis=2)


def hidden(mask: npt.NDArray[np.bool_], faces_xyxy: Boxes) -> int:
    """How many of the faces (G, 4) lie under patches."""
    parts = [mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] for x1, y1, x2, y2 in faces_xyxy]
    return sum(bool(part.size) and bool(part.mean() >= HIDDEN) for part in parts)


def astray(boxes_xyxy: Boxes, faces_xyxy: Boxes) -> int:
    """How many boxes (N, 4) have their centre in no face (G, 4)."""
    centers = (boxes_xyxy[:, None, :2] + boxes_xyxy[:, None, 2:]) / 2
    inside = ((centers >= faces_xyxy[None, :, :2]) & (centers <= faces_xyxy[None, :, 2:])).all(axis=2)
    return int((~inside.any(axis=1)).sum())


def found_again(before_xyxy: Boxes, after_xyxy: Boxes) -> int:
    """How many of the faces found before are found after, both (N, 4)."""
    if not len(before_xyxy) or not len(after_xyxy):
        return 0
    return int((sv.box_iou_batch(before_xyxy, after_xyxy).max(axis=1) > SAME_FACE_IOU).sum())


def rows(detector: Detector, data: DetectionSet, title: str) -> Iterator[str]:
    """The rows of one data set."""
    choices: dict[str, Mapping[str, float]] = {"own": detector.thresholds}
    for score in SCORES:
        choices[f"{score:g}"] = {name: min(value, score) for name, value in detector.thresholds.items()}
    sums = {name: np.zeros(3) for name in choices}
    faces = before = again = 0
    for sample in data.samples:
        image = read_image(sample.image_path)
        truth = sample.take(~sample.crowds).boxes_xyxy  # a difficult face is one to be hidden, too
        faces += len(truth)
        for name, thresholds in choices.items():
            boxes = detector(image, threshold=thresholds).xyxy
            mask = patches(image.shape[:2], boxes)
            sums[name] += hidden(mask, truth), astray(boxes, sample.boxes_xyxy), mask.mean()
        counted = detector(image).xyxy
        faint = detector(image, threshold=cover_thresholds(detector.thresholds)).xyxy
        before += len(counted)
        again += found_again(counted, detector(blur(image, faint)).xyxy)
    for name, (covered, false, area) in sums.items():
        share = f"{covered:.0f} of {faces} ({covered / faces:.1%})"
        last = f"{again} of {before}" if name == f"{COVER_SCORE:g}" else ""
        yield row(title, name, share, f"{false / len(data):.2f}", f"{area / len(data):.1%}", last)


def measure(options: argparse.Namespace) -> Iterator[str]:
    """The table."""
    detector = Detector(options.model, threads=options.threads)
    sets = [read_data(path) for path in options.data]
    names = "| photographs | hidden from | faces hidden | patches elsewhere | of the picture | found again |"
    yield from head(names, left=6)
    for path, data in zip(options.data, sets, strict=True):
        yield from rows(detector, data, Path(path).name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", default="maskwatch-640")
    parser.add_argument("--threads", type=int)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
