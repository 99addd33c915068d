"""The graph behind the network, on candidates that a reader can check by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

K = 120
MASK, BARE = 0, 1
THRESHOLDS = (0.5, 0.25)

# IoU with the first: 80/120 = 0.67, 60/140 = 0.43, 0
FIRST, NEAR, FAR, ELSEWHERE = (0, 0, 10, 10), (2, 0, 12, 10), (4, 0, 14, 10), (40, 40, 50, 50)

Candidate = tuple[tuple[float, ...], float, int]


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    from maskwatch.export.nms_graph import nms_graph

    model = nms_graph(K, (64, 96), THRESHOLDS)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def run(
    session: ort.InferenceSession, pictures: list[list[Candidate]], **options: np.ndarray
) -> tuple[np.ndarray, ...]:
    boxes = np.zeros((len(pictures), K, 4), np.float32)
    scores = np.full((len(pictures), K), -np.inf, np.float32)
    classes = np.zeros((len(pictures), K), np.int64)
    for row, candidates in enumerate(pictures):
        for column, (box, score, class_id) in enumerate(candidates):
            boxes[row, column], scores[row, column], classes[row, column] = box, score, class_id
    feeds = {"candidate_boxes": boxes, "candidate_scores": scores, "candidate_classes": classes}
    return tuple(session.run(None, feeds | options))


def found(
    session: ort.InferenceSession, candidates: list[Candidate], **options: np.ndarray
) -> list[Candidate]:
    boxes, scores, classes, count = (output[0] for output in run(session, [candidates], **options))
    return [(tuple(boxes[i]), pytest.approx(scores[i]), classes[i]) for i in range(count)]


def test_of_boxes_that_overlap_the_best_stays(session: ort.InferenceSession) -> None:
    candidates = [(FIRST, 0.9, MASK), (NEAR, 0.8, MASK), (FAR, 0.7, MASK), (ELSEWHERE, 0.6, MASK)]
    assert found(session, candidates) == [candidates[0], candidates[2], candidates[3]]
    loose = found(session, candidates, iou_threshold=np.array([0.7], np.float32))
    assert loose == candidates
    strict = found(session, candidates, iou_threshold=np.array([0.4], np.float32))
    assert strict == [candidates[0], candidates[3]]


def test_classes_compete_unless_asked_not_to(session: ort.InferenceSession) -> None:
    candidates = [(FIRST, 0.9, MASK), (NEAR, 0.8, BARE), (NEAR, 0.7, MASK)]
    assert found(session, candidates) == candidates[:1]
    assert found(session, candidates, class_agnostic=np.array([False])) == candidates[:2]


def test_a_class_has_its_own_threshold_and_a_score_must_exceed_it(session: ort.InferenceSession) -> None:
    candidates = [(FIRST, 0.6, MASK), (ELSEWHERE, 0.5, MASK), (FAR, 0.4, BARE), ((80, 0, 90, 9), 0.25, BARE)]
    assert found(session, candidates) == [candidates[0], candidates[2]]
    other = np.array([0.7, 0.2], np.float32)
    assert found(session, candidates, score_thresholds=other) == candidates[2:]


def test_what_does_not_count_does_not_compete(session: ort.InferenceSession) -> None:
    candidates = [(FIRST, 0.45, MASK), (NEAR, 0.4, BARE)]
    assert found(session, candidates) == [candidates[1]]


def test_boxes_compete_before_they_are_clipped(session: ort.InferenceSession) -> None:
    # Clipped to a picture 64 high and 96 wide both are (0, 0, 96, 10); before, their IoU is 0.5.
    candidates = [((-96, 0, 96, 10), 0.9, MASK), ((0, 0, 192, 10), 0.8, MASK)]
    boxes = [box for box, _, _ in found(session, candidates)]
    assert boxes == [(0, 0, 96, 10)] * 2
    assert found(session, [((-5, -6, 200, 300), 0.9, MASK)])[0][0] == (0, 0, 96, 64)


def test_pictures_of_a_batch_do_not_mix_and_the_rest_is_padded(session: ort.InferenceSession) -> None:
    pictures = [[(FIRST, 0.9, MASK)], [], [(FIRST, 0.8, BARE), (ELSEWHERE, 0.7, MASK)]]
    boxes, scores, classes, counts = run(session, pictures)
    assert counts.tolist() == [1, 0, 2]
    assert (boxes.dtype, scores.dtype, classes.dtype, counts.dtype) == ("f4", "f4", "i8", "i8")
    assert (boxes.shape, scores.shape, classes.shape) == ((3, 100, 4), (3, 100), (3, 100))
    for row, count in enumerate(counts):
        assert not boxes[row, count:].any()
        assert not scores[row, count:].any()
        assert (classes[row, count:] == -1).all()
    assert boxes[2, :2].tolist() == [list(FIRST), list(ELSEWHERE)]
    assert classes[2, :2].tolist() == [BARE, MASK]


def test_boxes_of_a_class_vote_where_the_best_one_lies() -> None:
    """Weights by hand: IoU 2/3 and score 0.5 against 0.8 give (5/8)² (1/3)³ = 0.0145; below IoU 0.5, none."""
    from maskwatch.export.nms_graph import nms_graph

    model = nms_graph(K, (64, 96), THRESHOLDS, voting=True)
    onnx.checker.check_model(model, full_check=True)
    voting = ort.InferenceSession(model.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    weight = (5 / 8) ** 2 * (1 / 3) ** 3
    x0 = 2 * weight / (1 + weight)
    candidates = [(FIRST, 0.8, MASK), (NEAR, 0.6, BARE), (NEAR, 0.5, MASK), (FAR, 0.4, MASK)]
    boxes, scores, _, counts = run(voting, [candidates, []])
    assert counts.tolist() == [1, 0]
    np.testing.assert_allclose(boxes[0, 0], [x0, 0, 10 + x0, 10], rtol=1e-5)
    assert scores[0, 0] == pytest.approx(0.8)
    assert not boxes[1].any()
    point = [((5, 5, 5, 5), 0.9, MASK)]  # overlaps nothing, not even itself
    assert run(voting, [point])[0][0, 0].tolist() == [5, 5, 5, 5]


def test_scores_and_thresholds_are_calibrated_nms_and_voting_are_not() -> None:
    """By hand: logit(0.8) = ln 4, so slope 2 and offset ln(1/4) give odds 16/4 = 4/1; 0.9 gives 81/4."""
    from maskwatch.export.nms_graph import nms_graph

    calibration = ((2.0, -np.log(4.0)), (1.0, np.log(9.0)))
    about = {"voting": True, "calibration": calibration}
    session = ort.InferenceSession(nms_graph(K, (64, 96), THRESHOLDS, **about).SerializeToString(), _quiet())
    candidates = [(FIRST, 0.9, MASK), (NEAR, 0.8, BARE), (ELSEWHERE, 0.75, BARE), (FAR, 0.6, MASK)]
    boxes, scores, classes, (count,) = run(session, [candidates])
    # The bare face's score of 36/37 would be the best one, but its box loses to 0.9. 0.6 has odds 9/16, which
    # is not above 0.5; 0.75 has odds 3 · 9 = 27.
    assert (count, classes[0, :2].tolist()) == (2, [BARE, MASK])
    np.testing.assert_allclose(scores[0, :2], [27 / 28, 81 / 85], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, :2], [ELSEWHERE, FIRST], rtol=1e-6)
    assert not scores[0, 2:].any()


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_scores_keep_every_bit_where_nothing_is_calibrated(
    session: ort.InferenceSession, class_agnostic: bool
) -> None:
    rng = np.random.default_rng(1)
    values = np.sort(rng.random(K).astype(np.float32) ** 3)[::-1]
    values[0], values[-1] = 1, 1e-30
    pictures = [[((x, 0, x + 0.5, 1), value, x % 2) for x, value in enumerate(values)]]
    options = {"score_thresholds": np.zeros(2, np.float32), "class_agnostic": np.array([class_agnostic])}
    assert run(session, pictures, **options)[1].tobytes() == values[None, :100].tobytes()


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_the_best_hundred_of_all_classes_stay(session: ort.InferenceSession, class_agnostic: bool) -> None:
    candidates = [((x, 0, x + 0.5, 1), 0.99 - x / 1000, x % 2) for x in range(K)]
    kept = found(session, candidates, class_agnostic=np.array([class_agnostic]))
    assert [class_id for _, _, class_id in kept] == [0, 1] * 50
    assert kept[-1][1] == pytest.approx(0.99 - 99 / 1000)


def test_the_text_names_the_contract(tmp_path: Path) -> None:
    from maskwatch.export.nms_graph import nms_graph

    model = nms_graph(200, (32, 32), (0.1, 1e-6, 0.3, 1.0))
    onnx.save(model, str(tmp_path / "nms.onnx"))
    session = ort.InferenceSession(str(tmp_path / "nms.onnx"), _quiet(), providers=["CPUExecutionProvider"])
    optional = [value.name for value in session.get_overridable_initializers()]
    assert sorted(optional) == ["class_agnostic", "iou_threshold", "score_thresholds"]
    (defaults,) = [t for t in model.graph.initializer if t.name == "score_thresholds"]
    np.testing.assert_allclose(onnx.numpy_helper.to_array(defaults), [0.1, 1e-6, 0.3, 1.0])
