"""Drawn pictures: what is drawn, where, and that labels stay legible and inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch.drawing.annotate import _place_label, _wanted_text_size, draw, save_picture, text_rgb
from maskwatch.errors import OutputError
from maskwatch.labels import MASK_CLASSES, PALETTE_RGB, color_rgb
from maskwatch.media.images import read_image


def detections(
    *boxes_xyxy: tuple[float, float, float, float], class_ids: tuple[int, ...] = ()
) -> sv.Detections:
    ids = np.array(class_ids or [0] * len(boxes_xyxy), np.int64)
    return sv.Detections(
        xyxy=np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        confidence=np.linspace(0.9, 0.5, len(boxes_xyxy)).astype(np.float32),
        class_id=ids,
        data={"class_name": np.array(MASK_CLASSES)[ids]},
    )


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def pixels_of(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((image == color).all(axis=2))


def test_nothing_found_is_a_copy() -> None:
    image = grey(50, 80)
    drawn = draw(image, detections())
    np.testing.assert_array_equal(drawn, image)
    drawn[:] = 0
    assert image.min() == 128


def test_the_box_has_the_colour_of_its_class_and_its_inside_stays() -> None:
    drawn = draw(grey(480, 640), detections((200, 150, 400, 350), class_ids=(1,)))
    color = color_rgb(1)
    for y, x in ((150, 300), (349, 300), (250, 200), (250, 399)):
        assert tuple(drawn[y, x]) == color
    assert (drawn[170:330, 220:380] == 128).all()
    assert (drawn[360:] == 128).all()


def test_classes_have_different_colours() -> None:
    drawn = draw(
        grey(480, 640),
        detections((0, 200, 99, 300), (200, 200, 299, 300), (400, 200, 499, 300), class_ids=(0, 1, 2)),
    )
    assert all(len(pixels_of(drawn, color_rgb(class_id))) > 200 for class_id in range(3))


def test_lines_and_labels_grow_with_the_picture() -> None:
    heights, lines = [], []
    for scale in (1, 4, 10):
        box = (100 * scale, 100 * scale, 200 * scale, 200 * scale)
        drawn = draw(grey(300 * scale, 400 * scale), detections(box))
        color = pixels_of(drawn, color_rgb(0))
        heights.append(100 * scale - color[:, 0].min())
        lines.append(int((drawn[150 * scale, 90 * scale : 120 * scale] == color_rgb(0)).all(axis=1).sum()))
    assert heights[0] >= 10
    assert heights == sorted(heights)
    assert heights[2] > 5 * heights[0]
    assert lines[0] < lines[1] < lines[2]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.lists(st.tuples(*[st.floats(-0.2, 1.2)] * 4), min_size=1, max_size=8),
)
def test_labels_stay_inside_and_apart(height: int, width: int, units: list[tuple[float, ...]]) -> None:
    boxes = [
        (
            round(min(a, c) * width),
            round(min(b, d) * height),
            round(max(a, c) * width) + 1,
            round(max(b, d) * height) + 1,
        )
        for a, b, c, d in units
    ]
    assert draw(grey(height, width), detections(*boxes)).shape == (height, width, 3)
    taken: list[tuple[int, int, int, int]] = []
    for box in boxes:
        size = _wanted_text_size(box, width, height)
        label = _place_label(("mask incorrect 90%", "mask incorrect"), size, box, (width, height), taken, [])
        if label is None:
            continue
        x1, y1, x2, y2 = label.place
        assert label.size >= 8
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert not any(x1 < b[2] and b[0] < x2 and y1 < b[3] and b[1] < y2 for b in taken)
        taken.append(label.place)


def test_a_label_does_not_cover_another_face() -> None:
    # The place above the lower box is the upper one's; the label goes below.
    boxes = [(100, 80, 140, 120), (100, 121, 140, 161)]
    label = _place_label(("mask 90%",), 20, boxes[1], (400, 300), [], boxes[:1])
    assert label is not None
    assert label.place[1] >= 161
    # Walled in by faces, it is left off.
    wall = [(x, y, x + 30, y + 12) for x in range(0, 400, 30) for y in range(0, 300, 12)]
    assert _place_label(("mask 90%",), 20, boxes[1], (400, 300), [], wall) is None


def test_a_label_without_room_for_the_score() -> None:
    label = _place_label(("mask incorrect 90%", "mask"), 12, (0, 0, 30, 30), (40, 60), [], [])
    assert label is not None
    assert label.text == "mask"
    assert _place_label(("mask incorrect 90%", "mask"), 12, (0, 0, 5, 5), (10, 10), [], []) is None


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (5, 5)])
def test_tiny_pictures(size_hw: tuple[int, int]) -> None:
    drawn = draw(grey(*size_hw), detections((0, 0, size_hw[1], size_hw[0])))
    assert drawn.shape == (*size_hw, 3)
    assert tuple(drawn[0, 0]) == color_rgb(0)


def test_without_names_or_scores() -> None:
    bare = sv.Detections(xyxy=np.array([[50, 50, 100, 100]], np.float32))
    assert len(pixels_of(draw(grey(200, 200), bare), color_rgb(0))) > 100


def test_text_has_contrast_on_every_colour() -> None:
    def luminance(rgb: tuple[int, int, int]) -> float:
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for color in PALETTE_RGB:
        low, high = sorted((luminance(color), luminance(text_rgb(color))))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, level AA
    assert text_rgb((255, 255, 0)) == (0, 0, 0)
    assert text_rgb((0, 0, 128)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_saved_pictures_can_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"new folder/ünï{suffix}"
    save_picture(grey(20, 30), path)
    with Image.open(path) as image:
        assert image.size == (30, 20)
    np.testing.assert_allclose(read_image(path), grey(20, 30), atol=2)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    save_picture(grey(4, 4), str(path))
    assert read_image(path).shape == (4, 4, 3)


def test_a_place_where_nothing_can_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create this folder"):
        save_picture(grey(2, 2), tmp_path / "file/a.png")
    with pytest.raises(OutputError, match="cannot be written"):
        save_picture(grey(2, 2), tmp_path / ("a" * 300 + ".png"))
