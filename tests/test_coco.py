"""COCO numbers against hand-computed cases, and against pycocotools run on JSON files."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskwatch.data import DetectionSet, Sample
from maskwatch.errors import LabelError, MissingExtraError
from maskwatch.evaluation import CocoResult, coco_evaluate
from maskwatch.evaluation.coco import STAT_NAMES

NAMES = ("mask", "no_mask", "mask_incorrect")
Box = tuple[float, float, float, float]
Truth = tuple[int, Box]
Found = tuple[int, float, Box]


def truth_set(*pictures: list[Truth]) -> DetectionSet:
    return DetectionSet(
        NAMES,
        tuple(
            Sample(
                Path(f"{number}.jpg"),
                None,
                (200, 200),
                np.array([box for _, box in boxes], np.float32).reshape(-1, 4),
                np.array([class_id for class_id, _ in boxes], np.int64),
                np.zeros(len(boxes), np.bool_),
            )
            for number, boxes in enumerate(pictures)
        ),
    )


def found(*rows: Found) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        class_id=np.array([class_id for class_id, _, _ in rows], np.int64),
        confidence=np.array([score for _, score, _ in rows], np.float32),
    )


def independently(pictures: list[list[Truth]], predictions: list[list[Found]], folder: Path) -> COCOeval:
    """The way pycocotools' own demo does it: a file of annotations and a file of results."""

    def xywh(box: Box) -> list[float]:
        x0, y0, x1, y1 = (float(np.float32(value)) for value in box)
        return [x0, y0, x1 - x0, y1 - y0]

    annotations = [
        {"image_id": i, "category_id": c + 1, "bbox": xywh(b), "area": xywh(b)[2] * xywh(b)[3], "iscrowd": 0}
        for i, boxes in enumerate(pictures)
        for c, b in boxes
    ]
    dataset = {
        "info": {},
        "images": [{"id": i, "width": 200, "height": 200} for i in range(len(pictures))],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(NAMES)],
        "annotations": [{"id": n + 1, **row} for n, row in enumerate(annotations)],
    }
    results = [
        {"image_id": i, "category_id": c + 1, "bbox": xywh(b), "score": float(np.float32(s))}
        for i, rows in enumerate(predictions)
        for c, s, b in rows
    ]
    (folder / "truth.json").write_text(json.dumps(dataset), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


BOX: Box = (10, 10, 30, 30)
FAR: Box = (100, 100, 120, 120)


def test_a_perfect_answer_scores_one() -> None:
    result = coco_evaluate(truth_set([(0, BOX)]), [found((0, 0.3, BOX))])
    assert [result.stats[name] for name in ("AP", "AP50", "AR1")] == pytest.approx([1, 1, 1])
    assert (result.pictures, result.boxes) == (1, 1)
    assert result.per_class[0].ap == pytest.approx(1)


def test_a_false_alarm_before_one_of_two_hits() -> None:
    # Precision is 0 and then 1/2, recall ends at 1/2: of COCO's 101 recall points, 0 to 0.5 hold 1/2.
    result = coco_evaluate(
        truth_set([(0, BOX), (0, FAR)]), [found((0, 0.9, (50, 50, 60, 60)), (0, 0.8, BOX))]
    )
    assert result.stats["AP"] == pytest.approx(51 * 0.5 / 101)
    assert result.stats["AR100"] == pytest.approx(0.5)
    assert result.stats["AR1"] == 0


def test_an_overlap_of_071_counts_at_five_of_the_ten_levels() -> None:
    result = coco_evaluate(truth_set([(0, BOX)]), [found((0, 0.9, (10, 10, 30, 24.2)))])
    assert result.stats["AP"] == pytest.approx(0.5)
    assert (result.stats["AP50"], result.stats["AP75"]) == (pytest.approx(1), 0)
    assert (result.per_class[0].ap, result.per_class[0].ap50) == (pytest.approx(0.5), pytest.approx(1))


def test_sizes_are_those_of_the_boxes() -> None:
    small, medium, large = (0.0, 0.0, 31.0, 31.0), (40.0, 40.0, 90.0, 90.0), (0.0, 0.0, 199.0, 199.0)
    result = coco_evaluate(truth_set([(0, small), (1, medium), (2, large)]), [found((1, 0.5, medium))])
    assert [result.stats[f"AP_{size}"] for size in ("small", "medium", "large")] == [0, pytest.approx(1), 0]


def test_classes_without_boxes_have_no_score_and_do_not_count() -> None:
    result = coco_evaluate(truth_set([(1, BOX)]), [found((1, 0.9, BOX), (0, 0.9, FAR))])
    assert result.stats["AP"] == pytest.approx(1)
    assert [(s.name, s.boxes, s.ap, s.ap50) for s in result.per_class] == [
        ("mask", 0, None, None),
        ("no_mask", 1, pytest.approx(1), pytest.approx(1)),
        ("mask_incorrect", 0, None, None),
    ]


def test_the_right_box_of_the_wrong_class_is_a_miss() -> None:
    result = coco_evaluate(truth_set([(1, BOX)]), [found((0, 0.9, BOX))])
    assert result.stats["AP"] == result.stats["AR100"] == 0


def test_nothing_found_is_zero_and_nothing_to_find_is_unknown() -> None:
    assert coco_evaluate(truth_set([(0, BOX)]), [sv.Detections.empty()]).stats["AP"] == 0
    nothing = coco_evaluate(truth_set([]), [found((0, 0.9, BOX))])
    assert set(nothing.stats.values()) == {-1}
    assert set(nothing.as_dict()["stats"].values()) == {None}
    assert all(line.endswith("= -1.000") for line in nothing.lines())
    assert coco_evaluate(truth_set(), []).stats["AP50"] == -1


def test_the_dictionary_is_strict_json() -> None:
    result = coco_evaluate(truth_set([(0, BOX)], []), [found((0, 0.9, BOX)), found()])
    read = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert list(read["stats"]) == list(STAT_NAMES)
    assert (read["pictures"], read["boxes"]) == (2, 1)
    nothing = dict.fromkeys(STAT_NAMES)
    assert read["classes"]["no_mask"] == {"boxes": 0, "AP": None, "AP50": None, "stats": nothing}
    assert read["classes"]["mask"]["AP"] == pytest.approx(1)
    assert read["stats"]["AP_large"] is None


def test_it_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    coco_evaluate(truth_set([(0, BOX)]), [found((0, 0.9, BOX))])
    assert capfd.readouterr() == ("", "")


def test_predictions_that_do_not_fit_the_set_are_refused() -> None:
    with pytest.raises(ValueError, match="0 predictions for 1 samples"):
        coco_evaluate(truth_set([(0, BOX)]), [])
    with pytest.raises(LabelError, match=r"classes \[3\].*has 3"):
        coco_evaluate(truth_set([(0, BOX)]), [found((3, 0.9, BOX))])


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingExtraError, match=r"maskwatch\[train\]"):
        coco_evaluate(truth_set([(0, BOX)]), [found()])


def boxes() -> st.SearchStrategy[Box]:
    start, side = st.integers(0, 90), st.sampled_from([1, 7, 20, 33, 60, 97, 110])
    return st.tuples(start, start, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[Truth]], list[list[Found]]]:
    """Pictures and predictions, half of which lie near a ground truth."""
    pictures = draw(
        st.lists(st.lists(st.tuples(st.integers(0, 2), boxes()), max_size=6), min_size=1, max_size=4)
    )
    predictions: list[list[Found]] = []
    for truth in pictures:
        near = [(c, draw(st.floats(0, 1, width=32)), _moved(b, draw(st.integers(-4, 4)))) for c, b in truth]
        stray = draw(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, width=32), boxes()), max_size=4))
        predictions.append(near + stray)
    predictions[0].append((0, 0.5, (0, 0, 5, 5)))  # pycocotools cannot load an empty file of results
    return pictures, predictions


def _moved(box: Box, by: int) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


def assert_same(result: CocoResult, reference: COCOeval) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        reference.summarize()
    assert result.lines() == tuple(printed.getvalue().splitlines())
    assert len(result.lines()) == 12
    assert list(result.stats) == list(STAT_NAMES)
    assert list(result.stats.values()) == list(reference.stats)
    for class_id, score in enumerate(result.per_class):
        alone = reference.eval["precision"][:, :, class_id, 0, 2]
        assert (score.ap is None) == (alone[0, 0] == -1)
        if score.ap is not None:
            assert score.ap == pytest.approx(alone.mean(), abs=1e-12)
            assert score.ap50 == pytest.approx(alone[0].mean(), abs=1e-12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(world=worlds())
def test_every_number_is_that_of_pycocotools(
    tmp_path: Path, world: tuple[list[list[Truth]], list[list[Found]]]
) -> None:
    pictures, predictions = world
    result = coco_evaluate(truth_set(*pictures), [found(*rows) for rows in predictions])
    assert_same(result, independently(pictures, predictions, tmp_path))
