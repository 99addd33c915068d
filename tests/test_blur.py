"""What is left of a face under a patch: nine mean colours, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark_module import load_benchmark
from maskwatch import Detector
from maskwatch.drawing.blur import COVER_SCORE, blur, boxes_to_blur, cover_thresholds
from maskwatch.media.images import read_image


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_patch_is_the_box_and_a_quarter_on_each_side() -> None:
    image = noise(100, 120)
    blurred = blur(image, [[40, 20, 80, 60]])
    changed = np.argwhere((blurred != image).any(axis=2))
    assert changed.min(axis=0).tolist() == [10, 30]
    assert changed.max(axis=0).tolist() == [69, 89]
    np.testing.assert_array_equal(image, noise(100, 120))  # a copy


def test_nine_mean_colours_are_all_that_is_left() -> None:
    """Whatever stands in a cell: the same means give the same patch, to the last bit."""
    first = noise(60, 60)
    second = first.copy()
    random = np.random.default_rng(1)
    for y in range(0, 60, 20):
        for x in range(0, 60, 20):
            cell = second[y : y + 20, x : x + 20].reshape(-1, 3)
            second[y : y + 20, x : x + 20] = random.permutation(cell).reshape(20, 20, 3)
    assert (first != second).mean() > 0.9
    box = [[10, 10, 50, 50]]  # with its margin, the whole picture
    np.testing.assert_array_equal(blur(first, box), blur(second, box))


@pytest.mark.parametrize("side", [30, 300, 900])
def test_a_large_face_keeps_no_more_than_a_small_one(side: int) -> None:
    whole = side * 3 // 2
    image = noise(whole, whole)
    quarter = side / 4
    blurred = blur(image, [[quarter, quarter, whole - quarter, whole - quarter]])
    means = image.reshape(3, side // 2, 3, side // 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    np.testing.assert_array_equal(blurred, cv2.resize(means, (whole, whole)))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.lists(st.tuples(*[st.floats(-80, 140)] * 4), max_size=6),
)
def test_any_boxes(height: int, width: int, corners: list[tuple[float, ...]]) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    image = noise(height, width)
    blurred = blur(image, boxes)
    assert blurred.shape == image.shape
    outside = np.ones((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        inside = np.s_[max(0, round(y1)) : max(0, round(y2)), max(0, round(x1)) : max(0, round(x2))]
        part, original = blurred[inside], image[inside]
        if min(part.shape[:2]) >= 8:
            assert np.abs(part.astype(int) - original).mean() > 20  # noise against its own means
        dx, dy = max(6, (x2 - x1) * 0.75) + 7, max(6, (y2 - y1) * 0.75) + 7
        y, x = (y1 + y2) / 2, (x1 + x2) / 2
        outside[
            max(0, int(y - dy)) : max(0, int(y + dy) + 1), max(0, int(x - dx)) : max(0, int(x + dx) + 1)
        ] = False
    np.testing.assert_array_equal(blurred[outside], image[outside])


def test_a_box_of_one_pixel_still_takes_twelve() -> None:
    image = noise(40, 40)
    changed = (blur(image, [[20, 20, 21, 21]]) != image).any(axis=2)
    assert changed[15:26, 15:26].mean() > 0.95


def test_half_a_face_at_the_border_gets_no_finer_cells() -> None:
    image = noise(60, 60)
    shown = blur(image, [[-30, 0, 30, 40]])[:50, :45]  # the patch is (-45, -10, 45, 50)
    columns = {tuple(column.ravel()) for column in shown.transpose(1, 0, 2)[[0, 8, 40, 44]]}
    assert len(columns) == 2  # two cells of three are visible: flat to the middle of the first and the last


def test_a_patch_upon_a_patch_is_made_of_the_first() -> None:
    image = noise(90, 90)
    one, two = [20, 20, 60, 60], [15, 15, 65, 65]
    np.testing.assert_array_equal(blur(image, [one, two]), blur(blur(image, [one]), [two]))
    np.testing.assert_array_equal(blur(image, [two, one]), blur(image, [one, two]))


def test_nothing_to_blur() -> None:
    np.testing.assert_array_equal(blur(noise(5, 5), np.zeros((0, 4))), noise(5, 5))
    np.testing.assert_array_equal(blur(noise(5, 5), [[10, 10, 30, 30]]), noise(5, 5))
    with pytest.raises(ValueError, match="finite"):
        blur(noise(5, 5), [[0, 0, 1, 1], [0, 0, np.nan, 3]])


def test_unsure_faces_are_covered_too() -> None:
    assert cover_thresholds({"mask": 0.5, "no_mask": 0.05}) == {"mask": COVER_SCORE, "no_mask": 0.05}


@pytest.mark.parametrize("name", ["astronaut", "astronaut_masked"])
def test_no_face_is_found_afterwards(name: str) -> None:
    assert faces_before_and_after([Path(__file__).parents[1] / f"examples/{name}.jpg"]) == (1, 0)


def test_no_face_is_found_afterwards_in_photographs(shared: Path) -> None:
    before, after = faces_before_and_after(sorted((shared / "data/unseen/crowds").glob("*.jpg"))[:5])
    assert before > 40
    assert after == 0


def faces_before_and_after(pictures: list[Path]) -> tuple[int, int]:
    detector = Detector(threads=1)
    before = after = 0
    for path in pictures:
        image = read_image(path)
        before += len(detector(image))
        faint = detector(image, threshold=cover_thresholds(detector.thresholds))
        after += len(detector(blur(image, faint.xyxy)))
    return before, after


def test_the_benchmark_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("blur", monkeypatch)
    box = np.array([[40, 20, 80, 60]], np.float32)
    mask = benchmark.patches((100, 120), box)
    assert mask[10:70, 30:90].all()
    assert mask.sum() == 60 * 60
    faces = np.array([[40, 20, 80, 60], [80, 20, 92, 60], [80, 20, 93, 60], [0, 0, 9, 9]], np.float32)
    assert benchmark.hidden(mask, faces) == 2  # the second for ten columns of twelve, the third of thirteen
    assert benchmark.astray(np.concatenate([box, box + 30]), faces) == 1
    assert benchmark.found_again(faces, box + 1) == 1
    assert benchmark.found_again(faces, np.zeros((0, 4))) == 0


def test_faint_boxes_are_added_unless_they_are_known() -> None:
    found, faint = (
        np.array([[0, 0, 10, 10]], np.float32),
        np.array([[0, 0, 10, 10.5], [40, 0, 50, 10]], np.float32),
    )
    assert boxes_to_blur(found, faint).tolist() == [[0, 0, 10, 10], [40, 0, 50, 10]]
    assert boxes_to_blur(found[:0], faint).tolist() == faint.tolist()
    assert boxes_to_blur(found, faint[:0]).tolist() == found.tolist()
