"""Contact sheets of labels that look wrong, to decide by eye which corrections of `--suspects` are right.

    maskwatch evaluate MODEL DATA --class-agnostic-nms --suspects suspects.csv
    python tools/label_sheets.py draw suspects.csv --data DATA --out sheets
    python tools/label_sheets.py keep suspects.csv accepted.txt --out corrections.csv

A cell shows the face with some of its surroundings, its line in suspects.csv, and what would change: "+mask"
is a face without a label, "mask>no_mask" another class, "-mask" a label that would go. The sheets are sorted
by that change. accepted.txt lists lines of suspects.csv, one or several a row, as 12 or 15-20; `12=no_mask`
keeps line 12 with another class. Text after # is a note.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskwatch.boxes import box_iou
from maskwatch.data import DetectionSet, Sample, read_data
from maskwatch.data.corrections import COLUMNS, Correction, read_corrections
from maskwatch.data.dataset import name_index
from maskwatch.labels import MASK_CLASSES
from maskwatch.media.images import read_image

CELL = 168
"""Side of a cell in pixels."""

COLUMNS_OF_SHEET, ROWS_OF_SHEET = 8, 6
SURROUNDINGS = 2.0
"""Side of the part that is shown, as a multiple of the longer side of the face."""


@dataclass(frozen=True)
class Cell:
    """One suspect: its line in the file, the picture, and what would change."""

    line: int
    sample: Sample
    correction: Correction
    change: str


def cells(suspects: Path, data: DetectionSet) -> Iterator[Cell]:
    names = name_index([data])
    for line, correction in enumerate(read_corrections(suspects), start=2):
        (sample,) = names.find(correction.picture)
        new = "" if correction.class_id is None else MASK_CLASSES[correction.class_id]
        old = ""
        if correction.kind != "missing":
            ious = box_iou(correction.box_xyxy[None], sample.boxes_xyxy)[0]
            old = MASK_CLASSES[sample.class_ids[int(np.argmax(ious))]]
        change = {"missing": f"+{new}", "no_face": f"-{old}"}.get(correction.kind, f"{old}>{new}")
        yield Cell(line, sample, correction, change)


def draw_cell(cell: Cell) -> Image.Image:
    image = Image.fromarray(read_image(cell.sample.image_path))
    x0, y0, x1, y1 = map(float, cell.correction.box_xyxy)
    half = max(x1 - x0, y1 - y0) * SURROUNDINGS / 2
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    scale = CELL / (2 * half)
    box = (left, top, left + 2 * half, top + 2 * half)
    tile = image.transform((CELL, CELL), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(tile)
    corners = [(x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale]
    pen.rectangle(corners, outline=(255, 255, 0))
    text = f"{cell.line} {cell.change}"
    font = ImageFont.load_default(13)
    pen.rectangle((0, 0, pen.textlength(text, font) + 4, 16), fill=(0, 0, 0))
    pen.text((2, 1), text, fill=(255, 255, 255), font=font)
    return tile


def draw(suspects: Path, data: list[Path], out: Path) -> None:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells(suspects, read_data(data)):
        groups[cell.change].append(cell)
    out.mkdir(parents=True, exist_ok=True)
    a_sheet = COLUMNS_OF_SHEET * ROWS_OF_SHEET
    for change, group in sorted(groups.items()):
        name = change.replace(">", "_to_").replace("+", "missing_").replace("-", "no_face_")
        for start in range(0, len(group), a_sheet):
            sheet = Image.new("RGB", (COLUMNS_OF_SHEET * CELL, ROWS_OF_SHEET * CELL))
            for place, cell in enumerate(group[start : start + a_sheet]):
                row, column = divmod(place, COLUMNS_OF_SHEET)
                sheet.paste(draw_cell(cell), (column * CELL, row * CELL))
            sheet.save(out / f"{name}_{start // a_sheet + 1:02}.png")
        print(f"{change}: {len(group)}")


def accepted(path: Path) -> dict[int, str | None]:
    """Line → its class if it is another than in suspects.csv."""
    lines: dict[int, str | None] = {}
    for row in path.read_text("utf-8").splitlines():
        for word in row.partition("#")[0].replace(",", " ").split():
            number, _, name = word.partition("=")
            first, _, last = number.partition("-")
            lines |= dict.fromkeys(range(int(first), int(last or first) + 1), name or None)
    return lines


def keep(suspects: Path, chosen: Path, out: Path) -> None:
    with suspects.open(encoding="utf-8", newline="") as file:
        rows = dict(enumerate(csv.DictReader(file), start=2))
    kept = []
    for line, name in accepted(chosen).items():
        if line not in rows:
            raise SystemExit(f"{chosen}: line {line} is not in {suspects}; correct it")
        kept.append(rows[line] | ({"class": name} if name else {}))
    kept.sort(key=lambda row: (row["picture"], row["fault"]))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    print(f"{len(kept)} of {len(rows)} corrections")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("draw", "draw the sheets"), ("keep", "write the accepted corrections")):
        command = commands.add_parser(name, help=what)
        command.add_argument("suspects", type=Path)
        command.add_argument("--out", type=Path, required=True)
        if name == "draw":
            command.add_argument("--data", type=Path, nargs="+", required=True)
        else:
            command.add_argument("chosen", type=Path, metavar="accepted")
    given = parser.parse_args()
    if given.command == "draw":
        draw(given.suspects, given.data, given.out)
    else:
        keep(given.suspects, given.chosen, given.out)


if __name__ == "__main__":
    main()
