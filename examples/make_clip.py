"""Makes a clip to try `maskwatch watch` on, out of the two portraits beside this file.

    python examples/make_clip.py clip.mp4

Two people stand before a camera that sways a little. The left one wears a mask all the time. The right one
takes it off for a moment after two seconds, which is no event, and takes it off for five seconds after four,
which is one.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from maskwatch import MaskwatchError, read_image
from maskwatch.media.videos import video_writer

FPS = 12
SECONDS = 12.0
WIDTH, HEIGHT = 640, 360
BARE_S = ((2.0, 2.4), (4.0, 9.0))
"""From when to when the right one wears no mask, in seconds."""

_HEAD = (slice(0, 300), slice(60, 395))  # rows and columns of a portrait
_SWAY = 7  # pixels


def frame(time_s: float, bare_rgb: np.ndarray, masked_rgb: np.ndarray) -> np.ndarray:
    """The picture at a moment: uint8 (HEIGHT, WIDTH, 3) RGB, from portraits (S, S, 3)."""
    is_bare = any(begin <= time_s < end for begin, end in BARE_S)
    size_wh = round((WIDTH / 2 + _SWAY) * 1.01), HEIGHT + 2 * _SWAY
    left, right = (
        cv2.resize(portrait[_HEAD], size_wh, interpolation=cv2.INTER_LINEAR)
        for portrait in (masked_rgb, bare_rgb if is_bare else masked_rgb)
    )
    scene = np.hstack([left, cv2.flip(right, 1)])
    x = (scene.shape[1] - WIDTH) // 2 + round(_SWAY * math.sin(2 * math.pi * time_s / 5))
    y = round(_SWAY * (1 + math.cos(2 * math.pi * time_s / 7)))
    return np.ascontiguousarray(scene[y : y + HEIGHT, x : x + WIDTH])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path, help="MP4 file to write")
    options = parser.parse_args(arguments)
    folder = Path(__file__).parent
    try:
        bare, masked = (read_image(folder / name) for name in ("astronaut.jpg", "astronaut_masked.jpg"))
        with video_writer(options.clip, FPS) as write:
            for index in range(round(SECONDS * FPS)):
                write(frame(index / FPS, bare, masked))
    except MaskwatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
