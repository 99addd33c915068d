"""Makes the moving picture at the top of the README from the clip of `make_clip.py`.

    python examples/make_clip.py clip.mp4
    python examples/make_opening.py clip.mp4 docs/images/watch.webp

It runs `maskwatch watch` on the clip and writes each event below the frames that follow it. The portraits
are in the public domain, so the faces stay visible here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

WIDTH, STRIP = 560, 38  # pixels; the strip below the frame holds the newest event
FPS = 6
STRIP_RGB, TEXT_RGB = (24, 27, 31), (230, 233, 237)


def watch(clip: Path, folder: Path) -> tuple[Path, list[tuple[float, str]]]:
    """The annotated video, and the line of each alert with its position in seconds."""
    video = folder / "watched.mp4"
    options = ["--save-video", video, "--keep-faces", "--json"]
    done = subprocess.run(["maskwatch", "watch", clip, *options], capture_output=True, text=True, check=True)
    lines = []
    for event in map(json.loads, done.stdout.splitlines()):
        if event["kind"] in ("alert", "alert_end"):
            ended = event["kind"] == "alert_end"
            state = event["state"].replace("_", " ")
            told = f"alert over after {event['duration_s']:.0f} s" if ended else "ALERT"
            lines.append((event["time_s"], f"person {event['track']}: {state} - {told}"))
    return video, lines


def frames(video: Path, lines: list[tuple[float, str]]) -> Iterator[Image.Image]:
    """Frames with the strip below them, FPS a second."""
    font = ImageFont.load_default(18)
    with av.open(str(video)) as container:
        due_s = 0.0
        for frame in container.decode(video=0):
            if frame.time is None or frame.time + 1e-6 < due_s:
                continue
            due_s += 1 / FPS
            picture = frame.to_image()
            picture = picture.resize(
                (WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS
            )
            whole = Image.new("RGB", (WIDTH, picture.height + STRIP), STRIP_RGB)
            whole.paste(picture)
            text = [line for time_s, line in lines if time_s <= frame.time][-1:]
            stamp = f"0:{int(frame.time) // 60:02}:{int(frame.time) % 60:02}"
            ImageDraw.Draw(whole).text((12, picture.height + 8), "   ".join([stamp, *text]), TEXT_RGB, font)
            yield whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path, help="the clip of make_clip.py")
    parser.add_argument("picture", type=Path, help="animated WebP file to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        first, *others = frames(*watch(options.clip, Path(folder)))
    first.save(
        options.picture,
        save_all=True,
        append_images=others,
        duration=1000 // FPS,
        loop=0,
        quality=55,
        method=6,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
