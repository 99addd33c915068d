"""Boxes of all classes → faces with a score for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from maskwatch import Detector
from maskwatch.errors import OptionError
from maskwatch.live.tracking.faces import FaceFinder, Faces, merge_classes

THRESHOLDS = np.array([0.5, 0.4, 0.3], np.float32)


def detections(*rows: tuple[tuple[float, ...], float, int]) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array([row[0] for row in rows], np.float32),
        confidence=np.array([row[1] for row in rows], np.float32),
        class_id=np.array([row[2] for row in rows], np.int64),
    )


def test_one_face_that_two_classes_see() -> None:
    found = merge_classes(detections(((0, 0, 40, 40), 0.6, 0), ((0, 4, 40, 44), 0.2, 1)), THRESHOLDS)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 1, 40, 41]])  # a quarter of the way to the weaker box
    np.testing.assert_allclose(found.scores, [[0.6, 0.2, 0]])
    assert found.confident.tolist() == [True]
    assert found.class_ids.tolist() == [0]


def test_neighbours_stay_two_faces_best_first() -> None:
    found = merge_classes(detections(((0, 0, 40, 40), 0.6, 0), ((20, 0, 60, 40), 0.45, 1)), THRESHOLDS)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 40, 40], [20, 0, 60, 40]])
    assert found.class_ids.tolist() == [0, 1]
    assert found.confident.tolist() == [True, True]


def test_a_face_counts_above_the_threshold_of_its_best_class() -> None:
    rows = (((0, 0, 9, 9), 0.5, 0), ((20, 0, 29, 9), 0.41, 1), ((40, 0, 49, 9), 0.3, 2))
    found = merge_classes(detections(*rows), THRESHOLDS)
    assert found.confident.tolist() == [False, True, False]


def test_two_boxes_of_one_class_on_one_face_are_one() -> None:
    """NMS leaves those that overlap by 0.5 to 0.6."""
    found = merge_classes(detections(((0, 0, 40, 40), 0.6, 0), ((0, 12, 40, 52), 0.5, 0)), THRESHOLDS)
    assert len(found) == 1
    np.testing.assert_allclose(found.scores, [[0.6, 0, 0]])


def test_a_double_box_on_a_profile_is_one_face_with_the_better_box() -> None:
    found = merge_classes(detections(((0, 0, 40, 40), 0.6, 0), ((18, 0, 58, 40), 0.5, 1)), THRESHOLDS)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 40, 40]])
    np.testing.assert_allclose(found.scores, [[0.6, 0, 0]])
    weak = merge_classes(detections(((0, 0, 40, 40), 0.6, 0), ((18, 0, 58, 40), 0.3, 1)), THRESHOLDS)
    assert weak.confident.tolist() == [True, False], "it begins no track, and may be a person half hidden"


def test_no_detections() -> None:
    found = merge_classes(sv.Detections.empty(), THRESHOLDS)
    assert (len(found), found.scores.shape, found.class_ids.shape) == (0, (0, 3), (0,))
    assert len(Faces.none(2)) == 0


def test_weak_faces_are_found_but_not_confident(tiny_model: Path) -> None:
    finder = FaceFinder(tiny_model, threads=1)
    image = np.full((64, 64, 3), 90, np.uint8)
    image[0:16, 16:32] = (0, 255, 0)
    image[32:48, 0:16] = (140, 90, 90)  # 50 of 255 above the weakest channel: a no_mask of 0.196
    image[48:64, 48:64] = (100, 90, 90)  # 0.04 is nothing
    confident, weak = finder([image])[0].boxes_xyxy
    np.testing.assert_allclose(confident, [16, 0, 32, 16])
    np.testing.assert_allclose(weak, [0, 32, 16, 48])
    found = finder([image, image])[1]
    np.testing.assert_allclose(found.scores, [[1, 0, 0], [0, 50 / 255, 0]], atol=1e-6)
    assert found.confident.tolist() == [True, False]
    assert finder.metadata.name == "tiny"


def test_lanes_find_the_same(tiny_model: Path) -> None:
    images = [np.full((64, 64, 3), 90, np.uint8) for _ in range(7)]
    for index, image in enumerate(images):
        image[0:16, 8 * index : 8 * index + 16] = (0, 255, 0)
    in_lanes = FaceFinder(tiny_model, threads=1, lanes=3)(images)
    for faces, image in zip(in_lanes, images, strict=True):
        (alone,) = FaceFinder(tiny_model, threads=1)([image])
        np.testing.assert_array_equal(faces.boxes_xyxy, alone.boxes_xyxy)
        np.testing.assert_array_equal(faces.scores, alone.scores)
        assert faces.confident.tolist() == alone.confident.tolist()


def test_the_threshold_decides_which_faces_are_confident(tiny_model: Path) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    image[32:48, 0:16] = (140, 90, 90)
    assert FaceFinder(tiny_model, threshold={"no_mask": 0.15}, threads=1)([image])[0].confident.tolist() == [
        True
    ]
    low = Detector(tiny_model, threshold=0.01, class_agnostic=False, threads=1)
    assert FaceFinder(low)([image])[0].confident.tolist() == [True]
    with pytest.raises(OptionError, match="2"):
        FaceFinder(tiny_model, threshold=2)
