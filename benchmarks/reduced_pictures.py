"""What it changes that the detector decodes large JPEGs at a reduced size.

    python benchmarks/reduced_pictures.py ../shared/data/masks/val
    python benchmarks/reduced_pictures.py photos/ --model maskwatch-320 --count 200

Pictures of a folder are enlarged to the sizes of cameras and saved as JPEG. Boxes found in reduced pictures
are compared with those of the whole one. So are, for comparison, those of the whole picture saved once more
with quality 95. ONNX Runtime computes in float32.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from command import head, parser_of, row, run
from PIL import Image

from maskwatch import Detector, read_image
from maskwatch.boxes import BoxDetections, box_iou
from maskwatch.media.sources import find_sources

SIDES = (3072, 4000, 4800, 6000)
FAINT = 0.2  # of the compared detections; those of the whole picture are at the model's thresholds


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def enlarged(path: Path, side: int) -> Image.Image:
    """The picture with a longer side of `side` pixels; both sides are multiples of 8."""
    image = Image.fromarray(read_image(path))
    scale = side / max(image.size) / 8
    size = round(image.width * scale) * 8, round(image.height * scale) * 8
    return image.resize(size, Image.Resampling.BICUBIC)


def differences(whole: BoxDetections, other: BoxDetections) -> Iterator[tuple[float, float, float]]:
    """For each detection: pixels, share of the longer side, score; infinite where it is not in `other`."""
    for index, box_xyxy in enumerate(whole.xyxy):
        same = other[other.class_id == whole.class_id[index]]
        iou = box_iou(box_xyxy[None], same.xyxy)[0]
        if not len(same) or iou.max() < 0.5:
            yield (np.inf,) * 3
            continue
        pixels = float(np.abs(same.xyxy[iou.argmax()] - box_xyxy).max())
        score = abs(float(same.confidence[iou.argmax()] - whole.confidence[index]))
        yield pixels, pixels / float(max(box_xyxy[2:] - box_xyxy[:2])), score


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Prints the distribution of the differences."""
    detector = Detector(options.model, runtime="onnxruntime", device="cpu", precision="float32")
    faint = detector.variant(threshold=FAINT)
    chance = random.Random(options.seed)
    paths = [source.path for source in find_sources([str(options.folder)]) if source.path]
    found: dict[str, list[tuple[float, float, float]]] = {"reduced": [], "saved again": []}
    for path in chance.sample(paths, min(options.count, len(paths))):
        image = enlarged(path, chance.choice(SIDES))
        data = jpeg(image, 90)
        whole_rgb = read_image(data)
        whole = detector.detect_boxes(whole_rgb)
        found["reduced"] += differences(whole, faint.detect_boxes(data))
        again_rgb = read_image(jpeg(Image.fromarray(whole_rgb), 95))
        found["saved again"] += differences(whole, faint.detect_boxes(again_rgb))
    yield f"{len(found['reduced'])} boxes, {options.model}: 50, 95, 99 and 100 % differ by at most"
    yield ""
    yield from head(row("picture", "pixels of it", "share of the longer side", "score", "over 1 pixel"))
    for name, values in found.items():
        table = np.array(values)
        cells = (" ".join(f"{x:.4f}" for x in np.quantile(part, (0.5, 0.95, 0.99, 1))) for part in table.T)
        yield row(name, *cells, f"{(table[:, 0] > 1).mean():.1%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="maskwatch-640")
    parser.add_argument("--count", type=int, default=70, help="pictures (default 70)")
    parser.add_argument("--seed", type=int, default=1)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
