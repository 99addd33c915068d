from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from drawn_data import draw_faces
from maskwatch.data import DetectionSet, Sample, merge, read_data
from maskwatch.errors import DataError


def sample(stem: str, class_ids: list[int], boxes: int | None = None) -> Sample:
    count = len(class_ids) if boxes is None else boxes
    return Sample(
        Path(f"{stem}.jpg"),
        None,
        (10, 20),
        np.tile(np.array([1, 2, 3, 4], np.float32), (count, 1)),
        np.array(class_ids, np.int64),
        np.zeros(len(class_ids), np.bool_),
    )


@pytest.fixture
def three() -> DetectionSet:
    return DetectionSet(("a", "b", "c"), (sample("x", [0, 2, 2]), sample("y", []), sample("z", [0])))


def test_counts_name_every_class_also_those_without_boxes(three: DetectionSet) -> None:
    assert three.class_counts() == {"a": 2, "b": 0, "c": 2}
    assert DetectionSet(("a",), ()).class_counts() == {"a": 0}


def test_length_is_that_of_pictures_and_of_boxes(three: DetectionSet) -> None:
    assert len(three) == 3
    assert [len(item) for item in three.samples] == [3, 0, 1]


def test_subset_by_index_keeps_the_order_asked_for(three: DetectionSet) -> None:
    assert [item.stem for item in three.subset([2, 0]).samples] == ["z", "x"]
    assert [item.stem for item in three.subset(np.array([1])).samples] == ["y"]
    assert three.subset([]).samples == ()


def test_subset_by_stem_keeps_the_order_of_the_set(three: DetectionSet) -> None:
    assert [item.stem for item in three.subset({"z", "x"}).samples] == ["x", "z"]


def test_subset_names_every_stem_that_is_missing(three: DetectionSet) -> None:
    with pytest.raises(DataError) as error:
        three.subset(["x", "nobody", "none"])
    assert len(error.value.problems) == 2
    assert "nobody" in str(error.value)


def test_the_stem_is_the_annotations_own() -> None:
    one = dataclasses.replace(sample("photo", []), annotation_path=Path("notes.xml"))
    assert (sample("photo", []).stem, one.stem) == ("photo", "notes")


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DataError, match=r"bad\.jpg.*shapes"):
        DetectionSet(("a",), (sample("bad", [0, 0], boxes=1),))


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_class_id_without_a_name_is_refused(class_id: int) -> None:
    with pytest.raises(DataError, match=r"class ids .*0…2"):
        DetectionSet(("a", "b", "c"), (sample("bad", [class_id]),))


def test_no_classes_are_refused() -> None:
    with pytest.raises(DataError, match="no class"):
        DetectionSet((), ())


def test_merge_keeps_the_order_and_refuses_other_classes(three: DetectionSet) -> None:
    other = DetectionSet(("a", "b", "c"), (sample("w", [1]),))
    assert [item.stem for item in merge([three, other]).samples] == ["x", "y", "z", "w"]
    with pytest.raises(DataError, match="different classes"):
        merge([three, DetectionSet(("a", "b"), ())])
    with pytest.raises(DataError, match="cannot be merged"):
        merge([])


def test_samples_know_which_of_the_sets_they_came_from(tmp_path: Path, three: DetectionSet) -> None:
    draw_faces(tmp_path / "a", 3)
    draw_faces(tmp_path / "b", 2)
    whole = read_data([tmp_path / "a", tmp_path / "b", tmp_path / "a"])
    assert [one.dataset_index for one in whole.samples] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [one.dataset_index for one in whole.subset([4, 0]).samples] == [1, 0]
    assert [one.dataset_index for one in merge([three, three], [3, 1]).samples] == [3, 3, 3, 1, 1, 1]
    one_name = whole.samples[3].image_id
    listed = read_data([tmp_path / "a", tmp_path / "b"], image_ids=[f"b/{one_name}"])
    assert [one.dataset_index for one in listed.samples] == [1]
