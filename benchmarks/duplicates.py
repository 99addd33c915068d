"""How many planted duplicates are found, which others are reported, and what it costs beside decoding.

    python benchmarks/duplicates.py ../shared/data/masks/{train,val,test} --sheet pairs.png

Every folder is one split. The script makes changed copies of --pictures random pictures and searches for them
among all pictures; "others" counts pictures found for a copy besides its original (unknown true duplicates of
the original included). Then it prints the unplanted pairs across splits, to be inspected by eye, and the time
of scan and search as a multiple of the time that decoding alone takes, on all cores.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from command import head, parser_of, row, run
from data_check import decoding_seconds

from maskwatch import read_image
from maskwatch.data.quality.duplicates import Duplicate, Fingerprint, find_duplicates, fingerprint
from maskwatch.data.quality.probe import ImageProbe, probe_images
from maskwatch.errors import OptionError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.media.images import UInt8Array
from maskwatch.system import usable_cores

QUALITY = 85
CROP_AREAS = (0.7, 0.8)

Plant = Callable[[UInt8Array, random.Random], UInt8Array]


def saved(image: UInt8Array, quality: int = QUALITY) -> UInt8Array:
    """As JPEG and back."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], np.uint8).copy()


def resized(image: UInt8Array, share: float) -> UInt8Array:
    small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return saved(np.asarray(small, np.uint8))


def brightened(image: UInt8Array, gain: float, offset: float) -> UInt8Array:
    return saved((image * np.float32(gain) + np.float32(offset)).clip(0, 255).astype(np.uint8))


def cropped(image: UInt8Array, rng: random.Random) -> UInt8Array:
    """A part of 70 to 80 % of the area, up to a tenth wider or higher in proportion."""
    height, width = image.shape[:2]
    area, stretch = rng.uniform(*CROP_AREAS), rng.uniform(0.9, 1 / 0.9)
    rows = min(height, round(height * area**0.5 * stretch))
    columns = min(width, round(area * height * width / rows))
    y, x = rng.randint(0, height - rows), rng.randint(0, width - columns)
    return saved(image[y : y + rows, x : x + columns])


PLANTS: dict[str, Plant] = {
    "copy": lambda image, rng: image.copy(),
    "JPEG 50": lambda image, rng: saved(image, 50),
    "60 % size": lambda image, rng: resized(image, 0.6),
    "brighter": lambda image, rng: brightened(image, 1.25, 15),
    "darker": lambda image, rng: brightened(image, 0.7, 0),
    "mirrored": lambda image, rng: saved(image[:, ::-1]),
    "crop 70-80 %": cropped,
}


def recall(known: Sequence[Fingerprint | None], paths: Sequence[Path], picked: Sequence[int]) -> list[str]:
    """A line of the table for each plant."""
    lines = [*head("| plant | found | as | lowest similarity | others |", left=5)]
    images = [read_image(paths[index]) for index in picked]
    for name, plant in PLANTS.items():
        rng = random.Random(0)
        planted = [fingerprint(plant(image, rng)) for image in images]
        pairs = [pair for pair in find_duplicates([*known, *planted]) if pair.second >= len(known)]
        right = [pair for pair in pairs if pair.first == picked[pair.second - len(known)]]
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in right).most_common())
        lowest = f"{min(pair.similarity for pair in right):.2f}" if right else "-"
        lines.append(row(name, f"{len(right)}/{len(picked)}", kinds, lowest, len(pairs) - len(right)))
    return lines


def cost(paths: Sequence[Path], workers: int) -> tuple[list[ImageProbe], list[Duplicate], str]:
    """Scans, finds, and compares the time with that of decoding."""
    decoding = decoding_seconds(paths, workers)
    began = time.perf_counter()
    probes = probe_images(paths, workers)
    scanning = time.perf_counter() - began
    began = time.perf_counter()
    pairs = find_duplicates([one.fingerprint for one in probes])
    finding = time.perf_counter() - began
    line = (
        f"{len(paths)} pictures, {workers} processes: decoding alone 1, probing {scanning / decoding:.2f}, "
        f"search {finding / decoding:.2f}, together {(scanning + finding) / decoding:.2f}"
    )
    return probes, pairs, line


def sheet(paths: Sequence[Path], pairs: Sequence[Duplicate], target: Path) -> None:
    """Writes the pairs as a picture, one per row."""
    rows = []
    for pair in pairs:
        row = np.zeros((160, 640, 3), np.uint8)
        for side, index in enumerate((pair.first, pair.second)):
            image = read_image(paths[index])
            scale = min(160 / image.shape[0], 320 / image.shape[1])
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:160, :320]
            row[: small.shape[0], side * 320 : side * 320 + small.shape[1]] = small
        rows.append(row)
    if rows:
        cv2.imwrite(str(target), np.concatenate(rows)[:, :, ::-1])


def measure(options: argparse.Namespace) -> list[str]:
    paths = [
        path
        for folder in options.folders
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES
    ]
    if not paths:
        raise OptionError(f"{options.folders[0]}: no pictures there; give folders of pictures")
    probes, pairs, line = cost(paths, options.workers)
    known = [one.fingerprint for one in probes]
    readable = [index for index, one in enumerate(probes) if one.readable]
    picked = random.Random(1).sample(readable, min(options.pictures, len(readable)))
    across = [pair for pair in pairs if paths[pair.first].parent != paths[pair.second].parent]
    if options.sheet:
        sheet(paths, pairs, options.sheet)
    return [
        *recall(known, paths, picked),
        f"unplanted: {len(pairs)} pairs, {len(across)} across splits",
        *(
            f"{paths[pair.first]} {paths[pair.second]} {pair.kind} {pair.similarity:.2f}"
            for pair in (pairs if options.all else across)
        ),
        line,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of pictures, each a split")
    parser.add_argument("--pictures", type=int, default=100, help="how many to make changed copies of")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes that decode")
    parser.add_argument("--all", action="store_true", help="name unplanted pairs within a split too")
    parser.add_argument("--sheet", type=Path, help="write a PNG of all unplanted pairs")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
