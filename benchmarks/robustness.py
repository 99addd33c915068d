"""How a model does on worse pictures than those of the data set, and on masks drawn onto bare faces.

    python benchmarks/robustness.py maskwatch-640 --data ../shared/data/masks/test

Each line is one variant of the pictures: AP50 (NMS within classes, all scores), and what became of the faces
at the model's own thresholds, one box a face: the share of each class that was found as each class. Slices by
face size are in pixels of the photograph. Output is a Markdown table, for docs/accuracy.md.

The last table is of places in `masks/val` and `more/val` that were chosen by eye (slices.csv): bare faces
behind a hand, cloth or an object, profiles, and windows without a face, such as bodies and backs of heads.
`--json FILE` also writes them as `{model: {slice: [right, places]}}`; slices.json has those of the files in
the package, and tests/test_weights.py fails where a file falls behind them:

    python benchmarks/robustness.py maskwatch-640 maskwatch-320 --only-slices --json benchmarks/slices.json \\
        --data ../shared/data/masks/val ../shared/data/more/val
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv
from command import head, parser_of, row, run

from maskwatch import Detector, read_image
from maskwatch.data import DetectionSet, Sample, read_data
from maskwatch.evaluation import coco_evaluate
from maskwatch.evaluation.matching import match_set
from maskwatch.evaluation.slices import FACE_AREAS, by_size
from maskwatch.labels import ClassMap

LEAST_DRAWN = 48.0
"""Smallest bare face that something is drawn onto, pixels of the photograph."""
MATCH_IOU = 0.5

SLICES = Path(__file__).with_name("slices.csv")
NO_FACE = "no face"
"""The slice of windows; all other slices are of bare faces."""

UInt8Image = npt.NDArray[np.uint8]
Generator = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """image (H, W, 3) uint8 RGB, boxes_xyxy (G, 4) float32, class names, which to ignore (G,)."""

    image: UInt8Image
    boxes_xyxy: npt.NDArray[np.float32]
    names: tuple[str, ...]
    ignore: npt.NDArray[np.bool_]


Variant = Callable[[Scene, Generator], Scene]

# ---- the whole picture -----------------------------------------------------------------------------------


def recoloured(function: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]) -> Variant:
    """A variant from a function of the colours in 0..1."""

    def variant(scene: Scene, rng: Generator) -> Scene:
        values = function(scene.image.astype(np.float32) / 255)
        return replace(scene, image=(values * 255).round().clip(0, 255).astype(np.uint8))

    return variant


def blurred(scene: Scene, rng: Generator) -> Scene:
    """Gaussian of 2 pixels where the long side has 640."""
    sigma = 2 * max(scene.image.shape[:2]) / 640
    return replace(scene, image=np.asarray(cv2.GaussianBlur(scene.image, (0, 0), sigma), np.uint8))


def jpeg20(scene: Scene, rng: Generator) -> Scene:
    _, packed = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])
    return replace(scene, image=np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1], np.uint8))


def rotated(degrees: float) -> Variant:
    """Around the middle. A face is an ellipse in its box, and gets the box of the turned ellipse."""

    def variant(scene: Scene, rng: Generator) -> Scene:
        height, width = scene.image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        image = cv2.warpAffine(scene.image, matrix, (width, height), borderValue=(128, 128, 128))
        centres = (scene.boxes_xyxy[:, :2] + scene.boxes_xyxy[:, 2:]) / 2
        halves = (scene.boxes_xyxy[:, 2:] - scene.boxes_xyxy[:, :2]) / 2
        moved = centres @ matrix[:, :2].T + matrix[:, 2]
        turned = np.sqrt(halves**2 @ (matrix[:, :2] ** 2).T)
        boxes = np.concatenate([moved - turned, moved + turned], 1)
        boxes = boxes.clip(0, [width, height] * 2).astype(np.float32)
        kept = ((moved > 0) & (moved < (width, height))).all(1) & ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
        names = tuple(name for name, keep in zip(scene.names, kept, strict=True) if keep)
        return Scene(np.asarray(image, np.uint8), boxes[kept], names, scene.ignore[kept])

    return variant


# ---- things drawn onto bare faces ------------------------------------------------------------------------

# Outline of a mask in shares of the face's box: over the nose, down the cheeks, under the chin.
_MASK = np.array([(0.5, 0.38), (0.7, 0.46), (0.95, 0.5), (0.9, 0.78), (0.68, 0.98), (0.5, 1.0)])
_MASK = np.concatenate([_MASK, (np.array([1.0, 0.0]) + _MASK * [-1, 1])[::-1]])
_HAND = np.array([(0.2, 0.98), (0.12, 0.72), (0.3, 0.6), (0.62, 0.58), (0.9, 0.64), (0.88, 0.8), (0.7, 1.0)])
_SCARF = np.array([(-0.05, 0.62), (0.3, 0.58), (0.7, 0.58), (1.05, 0.62), (1.1, 1.15), (-0.1, 1.15)])


def drawn(outline: npt.NDArray[np.float64], paint: str, becomes: str) -> Variant:
    """A shape over each bare face of at least `LEAST_DRAWN`; the face then counts as `becomes`."""

    def variant(scene: Scene, rng: Generator) -> Scene:
        image, names = scene.image.copy(), list(scene.names)
        for index, (box, name) in enumerate(zip(scene.boxes_xyxy, scene.names, strict=True)):
            size = box[2:] - box[:2]
            if name == "no_mask" and size.max() >= LEAST_DRAWN:
                corners = (box[:2] + outline * size).round().astype(np.int32)
                image = _painted(image, corners, paint, box, rng)
                names[index] = becomes
        return replace(scene, image=image, names=tuple(names))

    return variant


def _painted(
    image: UInt8Image,
    corners: npt.NDArray[np.int32],
    paint: str,
    box: npt.NDArray[np.float32],
    rng: Generator,
) -> UInt8Image:
    side = float((box[2:] - box[:2]).max())
    inside = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(inside, [corners], 1.0, cv2.LINE_AA)
    inside = np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.6, side / 120)))[..., None]
    cover = _cover(image, paint, box, rng)
    # A little of the face's own light and shade, so that it is not a flat sticker.
    shade = 0.85 + 0.3 * cv2.GaussianBlur(image, (0, 0), max(1.0, side / 10)).mean(-1, keepdims=True) / 255
    return (image * (1 - inside) + (cover * shade).clip(0, 255) * inside).round().astype(np.uint8)


def _cover(image: UInt8Image, paint: str, box: npt.NDArray[np.float32], rng: Generator) -> npt.NDArray[Any]:
    """Colours of the paint, (H, W, 3) or one that stands for all."""
    if paint == "black":
        return np.array([22, 22, 26])
    if paint == "skin":
        left, top, right, bottom = box.round().astype(int).clip(0)
        width, height = right - left, bottom - top
        forehead = image[top + height // 5 : top + height * 2 // 5, left + width // 3 : right - width // 3]
        return np.median(forehead.reshape(-1, 3), 0) if forehead.size else np.array([200, 160, 140])
    if paint == "pattern":
        one, two = rng.integers(0, 256, (2, 3))
        check = max(2.0, float((box[2:] - box[:2]).max()) / 12)
        rows, columns = np.indices(image.shape[:2], np.float32)
        odd = (np.floor(rows / check) + np.floor(columns / check)) % 2 > 0
        return np.where(odd[..., None], one, two)
    return rng.integers(40, 220, 3)


def unchanged(scene: Scene, rng: Generator) -> Scene:
    return scene


WHOLE: Mapping[str, Variant] = {
    "as they are": unchanged,
    "dark (a third of the light)": recoloured(lambda x: x / 3),
    "bright (over-exposed by half)": recoloured(lambda x: x * 1.5 + 0.1),
    "grey": recoloured(lambda x: np.repeat(x @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, -1)),
    "blurred": blurred,
    "JPEG quality 20": jpeg20,
    "rotated by 15°": rotated(15),
    "rotated by -15°": rotated(-15),
}
DRAWN: Mapping[str, Variant] = {
    "bare, as they are": unchanged,
    "hand drawn over the mouth": drawn(_HAND, "skin", "no_mask"),
    "scarf drawn over the mouth": drawn(_SCARF, "plain", "no_mask"),
    "black mask drawn": drawn(_MASK, "black", "mask"),
    "patterned mask drawn": drawn(_MASK, "pattern", "mask"),
    "skin-coloured mask drawn": drawn(_MASK, "skin", "mask"),
}


# ---- measuring -------------------------------------------------------------------------------------------


def scenes(detection_set: DetectionSet, variant: Variant) -> Iterator[tuple[Sample, Scene]]:
    """Each picture under a variant; the same random numbers for the same picture under every variant."""
    names = detection_set.class_names
    for number, sample in enumerate(detection_set.samples):
        own = tuple(names[i] for i in sample.class_ids)
        scene = Scene(read_image(sample.image_path), sample.boxes_xyxy, own, sample.ignore)
        scene = variant(scene, np.random.default_rng(number))
        ids = np.array([names.index(name) for name in scene.names], np.int64)
        boxes = {"boxes_xyxy": scene.boxes_xyxy, "class_ids": ids, "difficult": scene.ignore, "notes": ()}
        yield replace(sample, **boxes), scene


@dataclass
class Outcome:
    """Of one variant: detections of all scores, those at the thresholds, and the truths they belong to."""

    truths: DetectionSet
    everything: list[sv.Detections]
    shown: list[sv.Detections]


@dataclass(frozen=True)
class Detectors:
    """One model twice: with all scores let through, NMS within classes; and as `detect` uses it."""

    measuring: Detector
    showing: Detector


def detect(detectors: Detectors, detection_set: DetectionSet, variant: Variant) -> Outcome:
    samples: list[Sample] = []
    everything: list[sv.Detections] = []
    shown: list[sv.Detections] = []
    for sample, scene in scenes(detection_set, variant):
        samples.append(sample)
        everything.append(detectors.measuring(scene.image))
        shown.append(detectors.showing(scene.image))
    return Outcome(DetectionSet(detection_set.class_names, tuple(samples)), everything, shown)


def confusion(outcome: Outcome, least: float = 0.0) -> npt.NDArray[np.int64]:
    """(C, C + 1): faces of each class by what was found there; the last column counts the missed ones."""
    classes = len(outcome.truths.class_names)
    table = np.zeros((classes, classes + 1), np.int64)
    for sample, found in zip(outcome.truths.samples, outcome.shown, strict=True):
        iou = sv.box_iou_batch(sample.boxes_xyxy, found.xyxy) if len(found) and len(sample) else None
        for index, class_id in enumerate(sample.class_ids):
            side = (sample.boxes_xyxy[index, 2:] - sample.boxes_xyxy[index, :2]).max()
            if sample.ignore[index] or side < least:
                continue
            best = int(iou[index].argmax()) if iou is not None else -1
            hit = iou is not None and iou[index, best] >= MATCH_IOU and found.class_id is not None
            table[class_id, int(found.class_id[best]) if hit and found.class_id is not None else classes] += 1
    return table


Places = Mapping[str, Sequence[tuple[str, npt.NDArray[np.float32]]]]


def read_places(path: Path = SLICES) -> Places:
    """Name of a picture → slices and boxes (4,) xyxy in its pixels."""
    places: dict[str, list[tuple[str, npt.NDArray[np.float32]]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            corners = [float(line[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
            places[line["picture"]].append((line["slice"], np.array(corners, np.float32)))
    return places


def found_at(detector: Detector, detection_set: DetectionSet, places: Places) -> dict[str, Counter[str]]:
    """Slice → how many of its places were found as each class, "missed" for none.

    A window without a face is looked at alone, and counts once, by its best detection.
    """
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in detection_set.samples:
        if sample.stem not in places:
            continue
        image = read_image(sample.image_path)
        for name, box_xyxy in places[sample.stem]:
            if name == NO_FACE:
                x0, y0, x1, y1 = box_xyxy.astype(int)
                found = detector(image[y0:y1, x0:x1])
                hits = np.arange(len(found))
            else:
                found = detector(image)
                hits = np.nonzero(sv.box_iou_batch(box_xyxy[None], found.xyxy)[0] >= MATCH_IOU)[0]
            best = max(hits, key=lambda hit: found.confidence[hit], default=None)
            outcomes[name]["missed" if best is None else found.data["class_name"][best]] += 1
    return outcomes


def right(name: str, outcome: Counter[str]) -> int:
    """Places of a slice where the model is right."""
    return outcome["missed" if name == NO_FACE else "no_mask"]


# ---- tables ----------------------------------------------------------------------------------------------


def report(model: str, data: Path) -> Iterator[str]:
    detectors = Detectors(Detector(model, threshold=0.0, class_agnostic=False), Detector(model))
    detection_set = read_data(data, ClassMap(detectors.showing.class_names))
    names = detection_set.class_names
    yield f"### {model} on {data.name}"
    yield ""
    found_as = f"found as {' / '.join((*names, 'missed'))}"
    yield from head(row("variant", "AP50", *(f"`{name}` {found_as}" for name in names)))
    for title, variant in WHOLE.items():
        outcome = detect(detectors, detection_set, variant)
        ap50 = coco_evaluate(outcome.truths, outcome.everything).stats["AP50"]
        yield row(title, f"{ap50:.3f}", *map(_shares, confusion(outcome)))
        if variant is unchanged:
            slices = by_size(match_set(outcome.truths, outcome.everything, FACE_AREAS))
    yield ""
    yield from head(row("face, pixels", *(one.name.removesuffix(" px") for one in slices)))
    yield row("AP50", *("–" if one.ap50 is None else f"{one.ap50:.3f}" for one in slices))
    yield ""
    yield from _drawn_table(detectors, detection_set)


def _drawn_table(detectors: Detectors, detection_set: DetectionSet) -> Iterator[str]:
    """Pictures all of whose faces are bare, so that what is found there was drawn, or is wrong."""
    bare = detection_set.class_names.index("no_mask")
    counted = [(s, s.counted().class_ids) for s in detection_set.samples]
    samples = tuple(s for s, ids in counted if len(ids) and (ids == bare).all())
    if not samples:
        return
    chosen = replace(detection_set, samples=samples)
    yield from head(row("bare faces", "faces", f"found as {' / '.join((*chosen.class_names, 'missed'))}"))
    for title, variant in DRAWN.items():
        counts = confusion(detect(detectors, chosen, variant), LEAST_DRAWN).sum(0)
        yield row(title, counts.sum(), _shares(counts))
    yield ""


def _slices_table(outcomes: Mapping[str, Counter[str]], classes: Sequence[str]) -> Iterator[str]:
    columns = (*classes, "missed")
    yield from head(row("in photographs", "places", f"found as {' / '.join(columns)}"))
    for name, outcome in sorted(outcomes.items()):
        counts = np.array([outcome[column] for column in columns])
        yield row(name, counts.sum(), _shares(counts))
    yield ""


def _shares(counts: npt.NDArray[np.int64]) -> str:
    total = int(counts.sum())
    return " / ".join(f"{value / total:.2f}" for value in counts) if total else "–"


def measure(options: argparse.Namespace) -> Iterator[str]:
    places, numbers = read_places(), {}
    for model in options.models:
        if not options.only_slices:
            for data in options.data:
                yield from report(model, data)
        detector = Detector(model)
        total: dict[str, Counter[str]] = defaultdict(Counter)
        for data in options.data:
            of_data = found_at(detector, read_data(data, ClassMap(detector.class_names)), places)
            for name, outcome in of_data.items():
                total[name] += outcome
        if total:
            yield f"### {model}"
            yield ""
            yield from _slices_table(total, detector.class_names)
        numbers[model] = {name: [right(name, one), one.total()] for name, one in sorted(total.items())}
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("models", nargs="+", help="names or files of models with the three mask classes")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of annotated photographs"
    )
    parser.add_argument("--only-slices", action="store_true", help="only the places of slices.csv")
    parser.add_argument("--json", type=Path, help="also write the numbers of slices.csv to this file")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
