"""A data set that tests draw: discs on noise, bare or half covered, with Pascal VOC XML beside them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def draw_faces(folder: Path, count: int, size: int = 128) -> None:
    """Pictures of discs on noise: plain (no_mask), with the lower half covered (mask)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        image = rng.integers(0, 120, (size, size, 3), dtype=np.uint8)
        objects = ""
        for place in range(2):
            radius = int(rng.integers(14, 24))
            cx = size // 4 + place * size // 2
            cy = int(rng.integers(radius, size - radius))
            cv2.circle(image, (cx, cy), radius, (140, 180, 230), -1)
            name = ("without_mask", "with_mask")[(number + place) % 2]
            if name == "with_mask":
                cv2.ellipse(image, (cx, cy), (radius, radius), 0, 0, 180, (250, 200, 90), -1)
            corners = zip(
                ("xmin", "ymin", "xmax", "ymax"),
                (cx - radius, cy - radius, cx + radius, cy + radius),
                strict=True,
            )
            box = "".join(f"<{k}>{v}</{k}>" for k, v in corners)
            objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        cv2.imwrite(str(folder / f"{number}.png"), image)
        (folder / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
