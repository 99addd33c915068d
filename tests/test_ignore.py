"""Ignore regions in evaluation, held against pycocotools run here, and on boxes that a reader can check."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskwatch import Detector
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample
from maskwatch.evaluation import bootstrap_intervals, coco_evaluate
from maskwatch.evaluation.coco import weighted_scores
from maskwatch.evaluation.curves import class_curves
from maskwatch.evaluation.errors import confusion, outcomes
from maskwatch.evaluation.matching import match_set, overlaps, ranked
from maskwatch.evaluation.slices import FACE_AREAS, by_crowd, by_size

NAMES = ("mask", "no_mask", "mask_incorrect")
Box = tuple[float, float, float, float]
Truth = tuple[int, Box, str]  # class, box, "" or "difficult" or "crowd"
Found = tuple[int, float, Box]


def truths(*pictures: list[Truth]) -> DetectionSet:
    samples = [
        Sample(
            Path(f"{number}.jpg"),
            None,
            (200, 200),
            np.array([box for _, box, _ in boxes], np.float32).reshape(-1, 4),
            np.array([class_id for class_id, _, _ in boxes], np.int64),
            np.array([mark == "difficult" for *_, mark in boxes], np.bool_),
            tuple({"iscrowd": "1"} if mark == "crowd" else {} for *_, mark in boxes),
        )
        for number, boxes in enumerate(pictures)
    ]
    return DetectionSet(NAMES, tuple(samples))


def found(*rows: Found) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array([box for *_, box in rows], np.float32).reshape(-1, 4),
        class_id=np.array([class_id for class_id, *_ in rows], np.int64),
        confidence=np.array([score for _, score, _ in rows], np.float32),
    )


def reference(
    pictures: list[list[Truth]], predictions: list[list[Found]], *, classes: bool = True
) -> COCOeval:
    """pycocotools as its own tools call it, with `iscrowd` where a box is to be ignored."""

    def row(image_id: int, class_id: int, box: Box, number: int) -> dict[str, object]:
        x0, y0, x1, y1 = box
        xywh = [x0, y0, x1 - x0, y1 - y0]
        area = xywh[2] * xywh[3]
        return {"id": number, "image_id": image_id, "category_id": class_id, "bbox": xywh, "area": area}

    truth, answer = COCO(), COCO()
    images = {
        "images": [{"id": number} for number in range(len(pictures))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
    }
    annotations = [(i, c, b, mark) for i, boxes in enumerate(pictures) for c, b, mark in boxes]
    answers = [(i, c, b, s) for i, rows in enumerate(predictions) for c, s, b in rows]
    truth.dataset = images | {
        "annotations": [
            row(i, c, b, n) | {"iscrowd": int(mark != "")} for n, (i, c, b, mark) in enumerate(annotations, 1)
        ]
    }
    answer.dataset = images | {
        "annotations": [
            row(i, c, b, n) | {"iscrowd": 0, "score": float(np.float32(s))}
            for n, (i, c, b, s) in enumerate(answers, 1)
        ]
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answer.createIndex()
        evaluation = COCOeval(truth, answer, "bbox")
        evaluation.params.useCats = int(classes)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


# Whole numbers, so that ours (float32) and pycocotools' own (float64) are the same.
sides = st.sampled_from([4, 10, 16, 33, 60, 97, 150])
boxes = st.tuples(st.integers(0, 90), st.integers(0, 90), sides, sides).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
marks = st.sampled_from(["", "", "difficult", "crowd"])
levels = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.5, 0.7, 0.9])  # ties included


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[Truth]], list[list[Found]]]:
    """Detections near truths, inside crowds and anywhere; crowds of the same class and of others."""
    pictures = draw(
        st.lists(st.lists(st.tuples(st.integers(0, 2), boxes, marks), max_size=6), min_size=1, max_size=4)
    )
    predictions: list[list[Found]] = []
    for truth in pictures:
        rows = []
        for class_id, (x0, y0, x1, y1), _ in truth:
            other = draw(st.sampled_from([class_id, class_id, 0]))
            by = draw(st.integers(-4, 4))
            rows.append((other, draw(levels), (x0 + by, y0, x1 + by, y1)))
            rows.append((other, draw(levels), (x0, y0, (x0 + x1) // 2, (y0 + y1) // 2)))
        rows += draw(st.lists(st.tuples(st.integers(0, 2), levels, boxes), max_size=4))
        predictions.append(rows)
    return pictures, predictions


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_all_numbers_are_those_of_pycocotools(world: tuple[list[list[Truth]], list[list[Found]]]) -> None:
    pictures, predictions = world
    data, answers = truths(*pictures), [found(*rows) for rows in predictions]
    expected = reference(pictures, predictions)
    result = coco_evaluate(data, answers)
    assert list(result.stats.values()) == list(expected.stats)
    matches = match_set(data, answers, FACE_AREAS)
    scores_of_all = weighted_scores(matches)
    for name, value in (("AP", expected.stats[0]), ("AP50", expected.stats[1]), ("AR100", expected.stats[8])):
        score_of_all = scores_of_all[name]
        assert score_of_all == pytest.approx(value, abs=1e-9) or (value == -1 and np.isnan(score_of_all))
    half = expected.eval["precision"][0, :, :, 0, -1]  # (recall, class)
    for class_id, score in enumerate(result.per_class):
        entries = [e for e in expected.evalImgs[class_id * 4 * len(pictures) :][: len(pictures)] if e]
        kept = [(e["dtScores"], e["dtMatches"][0] > 0, e["dtIgnore"][0] > 0) for e in entries]
        scores, hits, number = ranked(data, answers, class_id)
        for ours, theirs in zip((scores, hits, number), matches.ranked(class_id), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert number == score.boxes == sum(int((e["gtIgnore"] == 0).sum()) for e in entries)
        assert len(hits) == sum(int((~ignored).sum()) for *_, ignored in kept)
        assert hits.sum() == sum(int((matched & ~ignored).sum()) for _, matched, ignored in kept)
        assert (score.ap50 is None) == (half[0, class_id] == -1)
        assert np.all(np.diff(scores) <= 0)


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_outcomes_are_those_of_pycocotools_without_classes(
    world: tuple[list[list[Truth]], list[list[Found]]],
) -> None:
    pictures, predictions = world
    # Of equal scores pycocotools takes them class by class; here all are different.
    predictions = [[(c, s + n / 1000, b) for n, (c, s, b) in enumerate(rows)] for rows in predictions]
    expected = reference(pictures, predictions, classes=False)
    entries = {e["image_id"]: e for e in expected.evalImgs[: len(pictures)] if e}
    result = outcomes(truths(*pictures), [found(*rows) for rows in predictions], [0.0] * 3)
    for picture in range(len(pictures)):
        mine = [o for o in result if o.picture == picture]
        hits = sum(o.kind in ("true_positive", "class") for o in mine)
        false_positives = sum(o.kind in ("false_positive", "localization") for o in mine)
        entry = entries.get(picture)
        if entry is None:
            assert not mine
            continue
        matched, ignored = entry["dtMatches"][0] > 0, entry["dtIgnore"][0] > 0
        assert hits == (matched & ~ignored).sum()
        assert false_positives == (~matched & ~ignored).sum()
        faces = sum(o.truth is not None for o in mine)
        assert faces == (entry["gtIgnore"] == 0).sum()


@settings(max_examples=40, deadline=None)
@given(worlds(), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_a_draw_of_the_pictures_scores_as_pycocotools_scores_that_set(
    world: tuple[list[list[Truth]], list[list[Found]]], times: list[int]
) -> None:
    """What intervals and slices are made of; pictures that are drawn twice are there twice."""
    pictures, predictions = world
    # Of equal scores the order is that of the pictures, which differs between a weight and a second picture.
    predictions = [
        [(c, s + (100 * p + n) / 1e5, b) for n, (c, s, b) in enumerate(rows)]
        for p, rows in enumerate(predictions)
    ]
    weights = np.array(times[: len(pictures)], np.int64)
    matches = match_set(truths(*pictures), [found(*rows) for rows in predictions])
    scores = weighted_scores(matches, weights)
    drawn = [number for number, count in enumerate(weights) for _ in range(count)]
    chosen = reference([pictures[n] for n in drawn], [predictions[n] for n in drawn])
    for name, value in (("AP", chosen.stats[0]), ("AP75", chosen.stats[2]), ("AR100", chosen.stats[8])):
        known = None if np.isnan(scores[name]) else scores[name]
        assert known == (None if value == -1 else pytest.approx(value, abs=1e-9))


# ---- Literal boxes ---------------------------------------------------------------------------------------

FACE, REGION = (10, 10, 30, 30), (50, 50, 150, 150)
IN_REGION, HALF_IN, BARELY_IN = (60, 60, 80, 80), (40, 60, 60, 80), (35, 60, 55, 80)


def town(mark: str) -> tuple[DetectionSet, list[sv.Detections]]:
    answers = [(0, 0.9, FACE), (0, 0.8, IN_REGION), (0, 0.7, HALF_IN), (0, 0.6, BARELY_IN)]
    return truths([(0, FACE, ""), (0, REGION, mark)]), [found(*answers)]


@pytest.mark.parametrize("mark", ["difficult", "crowd"])
def test_what_lies_in_a_region_by_half_counts_for_nothing(mark: str) -> None:
    data, predictions = town(mark)
    result = coco_evaluate(data, predictions)
    assert (result.boxes, result.ignored) == (1, 1)
    assert result.as_dict()["ignored"] == 1
    assert result.per_class[0].boxes == 1
    assert result.stats["AP"] == pytest.approx(1)
    kinds = [(o.kind, o.detection) for o in outcomes(data, predictions, [0.5] * 3)]
    assert kinds == [("true_positive", 0), ("false_positive", 3)]
    assert confusion(outcomes(data, predictions, [0.5] * 3), 3).sum() == 2
    scores, hits, number = ranked(data, predictions, 0)
    assert (scores.round(2).tolist(), hits.tolist(), number) == ([0.9, 0.6], [True, False], 1)
    (curve, *_), calibration = class_curves(match_set(data, predictions))
    assert (curve.truths, curve.recall.tolist(), calibration.number.sum()) == (1, [1, 1], 2)
    matches = match_set(data, predictions, FACE_AREAS)
    assert [(s.name, s.boxes) for s in by_size(matches) if s.boxes] == [("16 to 32 px", 1)]
    assert [(s.name, s.boxes) for s in by_crowd(matches) if s.pictures] == [("1 face", 1)]


def test_a_region_of_another_class_excuses_nothing_but_in_the_matrix() -> None:
    data = truths([(0, FACE, ""), (1, REGION, "crowd")])
    predictions = [found((0, 0.95, IN_REGION), (0, 0.9, FACE))]
    assert coco_evaluate(data, predictions).per_class[0].ap == pytest.approx(0.5)
    assert [o.kind for o in outcomes(data, predictions, [0.5] * 3)] == ["true_positive"]


def test_a_region_that_nothing_was_found_in_is_not_missed() -> None:
    data = truths([(0, REGION, "difficult")])
    assert outcomes(data, [found()], [0.5] * 3) == []
    assert coco_evaluate(data, [found()]).stats["AP"] == -1


def test_a_box_in_a_region_is_still_to_be_found() -> None:
    data = truths([(0, IN_REGION, ""), (0, REGION, "crowd")])
    assert [o.kind for o in outcomes(data, [found((0, 0.9, IN_REGION))], [0.5] * 3)] == ["true_positive"]
    assert [o.kind for o in outcomes(data, [found((0, 0.9, (100, 100, 120, 120)))], [0.5] * 3)] == [
        "false_negative"
    ]


def test_overlaps_are_those_of_pycocotools_to_the_last_digit() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (2, 200, 2, 2)).astype(np.float32)
    found, labelled = np.sort(corners, axis=2).reshape(2, 200, 4)
    found[:20] = labelled[:20]
    sample = Sample(Path("a.jpg"), None, (64, 64), labelled, np.zeros(200, np.int64), rng.random(200) < 0.3)

    def xywh(boxes: np.ndarray) -> np.ndarray:
        wide = boxes.astype(np.float64)
        return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], 1)

    expected = mask.iou(xywh(found), xywh(labelled), sample.ignore.astype(int).tolist())
    np.testing.assert_array_equal(overlaps(found, sample), expected)


def test_overlaps_do_not_depend_on_the_order_in_memory() -> None:
    (sample,) = truths([(0, FACE, ""), (0, REGION, "crowd"), (1, (0, 0, 20, 40), "")]).samples
    answers = np.array([FACE, IN_REGION, HALF_IN, (10, 20, 30, 40)], np.float32)
    expected = [[1, 0, 200 / 1000], [0, 1, 0], [0, 0.5, 0], [200 / 600, 0, 200 / 1000]]
    np.testing.assert_allclose(overlaps(answers, sample), overlaps(np.asfortranarray(answers), sample))
    turned = replace(sample, boxes_xyxy=np.asfortranarray(sample.boxes_xyxy))
    np.testing.assert_allclose(overlaps(answers, sample), overlaps(answers, turned))
    np.testing.assert_allclose(overlaps(answers, sample), expected)


def test_intervals_and_draws_leave_regions_out() -> None:
    data = truths(*[[(0, FACE, ""), (0, REGION, "crowd")]] * 3)
    predictions = [found((0, 0.9, IN_REGION), (0, 0.8, FACE))] * 3
    assert bootstrap_intervals(data, predictions, 5)["AP50"].low == pytest.approx(1)


def test_the_command_gives_the_numbers_of_pycocotools_on_the_same_file(
    tiny_model: Path, street: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A COCO file with a run-length encoded crowd, in which the model's surest detection lies."""
    street = street.copy()
    street[0:16, 16:32] = (0, 200, 0)
    street[32:48, 32:48] = (0, 255, 0)
    Image.fromarray(street).save(tmp_path / "a.png")
    rows = [(1, [16, 0, 16, 16], 0), (1, [0, 16, 64, 48], 1), (3, [48, 48, 16, 14], 0)]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": category, "bbox": bbox, "iscrowd": crowd,
             "area": bbox[2] * bbox[3],
             "segmentation": {"counts": [0, 4096], "size": [64, 64]} if crowd else []}
            for number, (category, bbox, crowd) in enumerate(rows, 1)
        ],
    }  # fmt: skip
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        main(["evaluate", str(tiny_model), str(tmp_path / "instances.json"), "--json", "-"])
    ours = json.loads(capsys.readouterr().out)["results"][0]
    answers = Detector(tiny_model, threshold=0.0, class_agnostic=False)(street)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "instances.json"))
        results = [
            {"image_id": 1, "category_id": int(c) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(s)}
            for (x0, y0, x1, y1), c, s in zip(
                answers.xyxy.tolist(), answers.class_id, answers.confidence, strict=True
            )
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = [None if value == -1 else value for value in evaluation.stats.tolist()]
    assert list(ours["stats"].values()) == expected
    assert (ours["boxes"], ours["ignored"], ours["stats"]["AP50"]) == (2, 1, pytest.approx(1))
