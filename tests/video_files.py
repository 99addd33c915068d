"""Video files that tests write frame by frame, each at a time of its own, and what ffprobe says of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags

MILLISECONDS = Fraction(1, 1000)


def write_film(
    path: Path,
    times_s: Sequence[float],
    codec: str = "mjpeg",
    rate: int = 30,
    ticks_s: Fraction = MILLISECONDS,
    **options: str,
) -> Path:
    """Frame i is grey of brightness 5 i, shown from `times_s[i]` on; `rate` is what the header may say."""
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = ticks_s
        stream.codec_context.options = options
        if codec == "mjpeg":
            stream.codec_context.flags |= Flags.qscale
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 5 * index % 256, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = round(time_s / ticks_s), ticks_s
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def times_by_ffprobe(path: Path) -> list[float]:
    """The time stamp of each frame as FFmpeg's own tool gives it, from the film's beginning; NaN for none."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe, the reference, is not installed")
    wanted = "frame=best_effort_timestamp_time:format=start_time"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", wanted, "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True)
    found = json.loads(done.stdout)
    stamps = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in found["frames"]]
    began = max(0.0, float(found["format"].get("start_time", 0)))
    return [stamp - min(began, stamps[0]) for stamp in stamps]
