"""Takes the pictures of docs/label.md and of the loop in docs/improve.md, by the real commands.

    python tools/loop_pictures.py docs/images --work /tmp/loop

The photographs are made of the two portraits in examples/, which are in the public domain. Their labels are
right but for three. What the commands print goes to /tmp/loop/commands.txt. It needs the extras `serve` and
`train`, Playwright, and Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING:
    from playwright.sync_api import Page

EXAMPLES = Path(__file__).parents[1] / "examples"
PORTRAITS = {"no_mask": "astronaut.jpg", "mask": "astronaut_masked.jpg"}
HEAD = (120, 20, 330, 230)
"""Corners of the part of a portrait that is used, xyxy in pixels."""

FACE = (181, 77, 270, 182)
"""Corners of the face in a portrait, xyxy in pixels."""

SIDE, COUNT = 320, 24
MODEL = "maskwatch-320"
MOST_BYTES = 120_000

Label = tuple[str, tuple[int, int, int, int]]


def photograph(rng: np.random.Generator) -> tuple[Image.Image, list[Label]]:
    """Two heads side by side on a plain wall, each with or without a mask, mirrored, smaller, darker."""
    wall = tuple(int(value) for value in rng.integers(90, 200, 3))
    photo, labels = Image.new("RGB", (2 * SIDE, SIDE), wall), []
    for place in range(2):
        name = ("mask", "no_mask")[int(rng.integers(2))]
        with Image.open(EXAMPLES / PORTRAITS[name]) as portrait:
            head = portrait.convert("RGB").crop(HEAD)
        left, top, right, bottom = (value - HEAD[i % 2] for i, value in enumerate(FACE))
        if rng.random() < 0.5:
            head, left, right = ImageOps.mirror(head), head.width - right, head.width - left
        scale = float(rng.uniform(0.8, 1.4))
        head = ImageEnhance.Brightness(head).enhance(float(rng.uniform(0.6, 1.2)))
        head = head.resize((round(head.width * scale), round(head.height * scale)))
        x = place * SIDE + int(rng.integers(SIDE - head.width))
        y = int(rng.integers(SIDE - head.height))
        photo.paste(head, (x, y))
        corners = [round(value * scale) + (x, y)[i % 2] for i, value in enumerate((left, top, right, bottom))]
        labels.append((name, (corners[0], corners[1], corners[2], corners[3])))
    return photo, labels


def write_labels(photo: Path, labels: Sequence[Label]) -> None:
    """Pascal VOC beside a photograph."""
    objects = []
    for name, corners in labels:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        objects.append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
    photo.with_suffix(".xml").write_text(f"<annotation>{''.join(objects)}</annotation>\n")


def draw_photographs(folder: Path) -> list[list[Label]]:
    """Writes the photographs; returns the labels that they should have."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    every = []
    for number in range(COUNT):
        photo, labels = photograph(rng)
        photo.save(folder / f"door-{number + 1:02}.jpg", quality=92)
        every.append(labels)
    return every


def label_photographs(folder: Path, every: Sequence[Sequence[Label]]) -> None:
    """As a person may do it: one class is wrong, one face is left out, one box is on nothing."""
    for number, labels in enumerate(every):
        written = list(labels)
        if number == 4:
            other = {"mask": "no_mask", "no_mask": "mask"}[written[0][0]]
            written[0] = (other, written[0][1])
        if number == 9:
            del written[1]
        if number == 14:
            written.append(("mask", (4, 4, 64, 70)))
        write_labels(folder / f"door-{number + 1:02}.jpg", written)


def run(log: Path, *words: str) -> None:
    """Runs a command in the folder of the log, and keeps what it prints."""
    process = subprocess.run(
        [sys.executable, "-m", "maskwatch", *words], cwd=log.parent, capture_output=True, text=True
    )
    if process.returncode not in (0, 1):
        sys.exit(f"maskwatch {' '.join(words)}: {process.stderr}")
    with log.open("a") as file:
        file.write(f"$ maskwatch {' '.join(words)}\n{process.stdout}\n")


@contextlib.contextmanager
def labelling(work: Path, *options: str) -> Iterator[str]:
    """`maskwatch label` on a free port, and its address."""
    line = [sys.executable, "-m", "maskwatch", "label", *options]
    line += ["--model", MODEL, "--port", "0", "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(line, cwd=work, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, "maskwatch label did not start"
            yield found[0]
        finally:
            process.kill()


def save(page: Page, path: Path) -> None:
    """Takes a screenshot as WebP."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(path, quality=80, method=6)
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path} has {path.stat().st_size} bytes; show less of the page")


def picture_of_labelling(page: Page, work: Path, target: Path) -> None:
    """One proposal is accepted, the other one is left."""
    with labelling(work, "photos") as address:
        page.goto(address)
        page.wait_for_function("() => document.querySelectorAll('#stage .proposal').length === 2")
        for key in ("Enter", "Enter"):
            before = page.text_content("#name")
            page.keyboard.press(key)
            page.wait_for_function("name => document.querySelector('#name').textContent !== name", arg=before)
            page.wait_for_function("() => document.querySelectorAll('#stage .proposal').length === 2")
        page.keyboard.press("Tab")
        page.keyboard.press("a")
        page.wait_for_function(
            "() => document.querySelector('#progress-text').textContent.startsWith('2 of')"
        )
        page.wait_for_selector("#save-state[data-state=saved]")
        save(page, target)


def picture_of_correcting(page: Page, work: Path, target: Path) -> None:
    with labelling(work, "photos", "--suspects", "report") as address:
        page.goto(address)
        page.wait_for_selector("#suspect:visible")
        save(page, target)


def picture_of_report(page: Page, work: Path, target: Path) -> None:
    """The errors in the report."""
    page.goto((work / "report" / "report.html").as_uri())
    heading = page.locator("h3", has_text="Errors").first
    heading.evaluate("one => window.scrollTo(0, one.getBoundingClientRect().top + scrollY - 16)")
    save(page, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of the pictures")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything else; must not exist")
    arguments = parser.parse_args()
    work, log = arguments.work, arguments.work / "commands.txt"
    every = draw_photographs(work / "photos")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 720})
        page.set_default_timeout(300_000)
        picture_of_labelling(page, work, arguments.images / "label.webp")
        shutil.rmtree(work / "photos" / ".maskwatch-label")
        label_photographs(work / "photos", every)
        run(log, "data", "check", "photos")
        run(log, "evaluate", MODEL, "photos", "--report", "report")
        page.set_viewport_size({"width": 1000, "height": 700})
        picture_of_report(page, work, arguments.images / "loop_report.webp")
        page.set_viewport_size({"width": 1200, "height": 720})
        picture_of_correcting(page, work, arguments.images / "loop_correct.webp")
        browser.close()


if __name__ == "__main__":
    main()
