"""One meaning of what the detector shows: the report, `--tune` and `Detector` at the same thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch import Detector
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample, read_voc
from maskwatch.data.formats.voc import voc_xml
from maskwatch.evaluation import candidates
from maskwatch.evaluation.calibration import fit_calibration
from maskwatch.evaluation.candidates import FLOOR, Candidates
from maskwatch.evaluation.errors import IOU, NEAR_IOU
from maskwatch.evaluation.predictor import predict
from maskwatch.evaluation.report import ReportOptions, measure_set
from maskwatch.evaluation.thresholds import (
    OperatingPoint,
    ThresholdObjective,
    choose,
    operating_points,
)
from maskwatch.labels import MASK_CLASSES
from maskwatch.media.images import Placement
from maskwatch.models import Calibration, ModelMetadata

if TYPE_CHECKING:
    from maskwatch.training.torch_detector import TorchDetector

    Model = tuple[Path, TorchDetector]

SIZE = 64
PICTURES = 5


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    from tiny_network import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module", params=["plain", "voting, two scales, calibration"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model file that finds much in noise, with boxes of several classes on one another."""
    from maskwatch.export.onnx import export_network
    from maskwatch.export.photographs import Photograph
    from maskwatch.network import TwoScales
    from maskwatch.training.torch_detector import TorchDetector
    from tiny_network import noisy_pictures, tiny_network

    voting = request.param != "plain"
    calibration = ((1.5, 0.5), (0.8, -0.25), (1.0, 0.75)) if voting else ()
    single = tiny_network(size=SIZE)
    network = TwoScales(single).eval() if voting else single
    about = ModelMetadata(
        "tiny", "1", MASK_CLASSES, (SIZE, SIZE), "letterbox", (0.5, 0.4, 0.3), box_voting=voting,
        calibration=calibration,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("shown") / "tiny.onnx"
    export_network(network, about, path, [Photograph("noise", noisy_pictures(1, SIZE)[0])])
    detector = TorchDetector(network, MASK_CLASSES, (SIZE, SIZE), voting=voting)
    return path, detector.calibrated(calibration)


@pytest.fixture(scope="module")
def data(model: Model, tmp_path_factory: pytest.TempPathFactory) -> DetectionSet:
    """Pictures of two shapes, labelled with some of what the model finds, moved, some of another class."""
    from tiny_network import noisy_pictures

    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(3)
    detector = Detector(model[0], threshold=0.3)
    for number, image in enumerate(noisy_pictures(PICTURES, SIZE, seed=8)):
        image = image[: 48 if number % 2 else SIZE]
        found = detector(image)
        rows = rng.permutation(len(found))[:12]
        height, width = image.shape[:2]
        boxes = (found.xyxy[rows] + rng.normal(0, 1.5, (len(rows), 4))).clip(0, [width, height] * 2)
        rows, boxes = (
            rows[(boxes[:, 2:] > boxes[:, :2] + 2).all(1)],
            boxes[(boxes[:, 2:] > boxes[:, :2] + 2).all(1)],
        )
        ids = np.where(rng.random(len(rows)) < 0.8, found.class_id[rows], rng.integers(0, 3, len(rows)))
        difficult = rng.random(len(rows)) < 0.2
        sample = Sample(
            folder / f"{number}.png", None, (height, width), boxes.astype(np.float32), ids, difficult
        )
        Image.fromarray(image).save(sample.image_path)
        (folder / f"{number}.xml").write_bytes(voc_xml(sample, MASK_CLASSES))
    return read_voc(folder)


def at(detector: Detector | TorchDetector, thresholds: tuple[float, ...]) -> Detector | TorchDetector:
    return detector.variant(threshold=dict(zip(MASK_CLASSES, thresholds, strict=True)))


score = st.one_of(st.floats(FLOOR, 0.95), st.sampled_from([0.3, 0.4, 0.5]))
thresholds = st.tuples(score, score, score)


@settings(max_examples=10, deadline=None)
@given(chosen=thresholds)
def test_candidates_know_what_any_thresholds_show(
    model: Model, data: DetectionSet, chosen: tuple[float, float, float]
) -> None:
    """Each against itself: torch and a model file round differently where two boxes are on the edge."""
    for detector in (Detector(model[0]), model[1]):
        shown = predict(at(detector, chosen), data)
        for one, found in zip(candidates.gather(detector, data), shown, strict=True):
            rows = one.shown(np.array(chosen, np.float32))
            assert one.class_ids[rows].tolist() == found.class_id.tolist()
            np.testing.assert_allclose(one.scores[rows], found.confidence, atol=1e-5)
            np.testing.assert_allclose(one.output_xyxy[rows], found.xyxy, atol=1e-2)


@settings(max_examples=10, deadline=None)
@given(chosen=thresholds)
def test_the_report_tells_of_what_detect_gives(
    model: Model, data: DetectionSet, chosen: tuple[float, float, float]
) -> None:
    detector = Detector(model[0])
    every = predict(detector.variant(threshold=0.0, class_agnostic=False), data)
    report = measure_set(
        "noise", data, every, predict(at(detector, chosen), data), chosen, ReportOptions("noise")
    )
    for picture, sample in enumerate(data.samples):
        found = Detector(model[0], threshold=dict(zip(MASK_CLASSES, chosen, strict=True)))(sample.image_path)
        mine = [o for o in report.outcomes if o.picture == picture]
        told = sorted((o.found_class, o.score) for o in mine if o.detection is not None)
        excused = _excused(sample, found)
        expected = sorted(
            (int(c), float(s))
            for c, s, free in zip(found.class_id, found.confidence, excused, strict=True)
            if not free
        )
        assert [c for c, _ in told] == [c for c, _ in expected]
        np.testing.assert_allclose([s for _, s in told], [s for _, s in expected], atol=1e-6)
        places = np.array([report.shown[picture].xyxy[o.detection] for o in mine if o.detection is not None])
        assert all((np.abs(found.xyxy - place).max(1) < 1e-3).any() for place in places)
        assert sum(o.truth is not None for o in mine) == len(sample.counted())


def _excused(sample: Sample, found: sv.Detections) -> list[bool]:
    """Which detections find no box to be found, but lie in an ignore region by half; by hand, best first."""

    def shared(a: np.ndarray, b: np.ndarray) -> float:
        sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        return float(sides.clip(0).prod())

    def area(box: np.ndarray) -> float:
        return float((box[2:] - box[:2]).prod())

    taken: set[int] = set()
    excused = []
    for box in found.xyxy.astype(np.float64):
        overlaps = [
            (shared(box, b) / (area(box) + area(b) - shared(box, b)), g)
            for g, b in enumerate(sample.boxes_xyxy.astype(np.float64))
            if not sample.ignore[g] and g not in taken
        ]
        best, g = max(overlaps, default=(0.0, -1))
        if best >= IOU:
            taken.add(g)
        regions = sample.boxes_xyxy[sample.ignore].astype(np.float64)
        excused.append(best < IOU and any(shared(box, b) >= IOU * area(box) for b in regions))
    return excused


def test_a_weak_box_of_another_class_makes_room() -> None:
    """In the file's order a box below its own threshold suppresses nothing; else nothing would be shown."""
    import torch

    from maskwatch.network.postprocess import TensorDetections

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    pairs = TensorDetections(boxes, torch.tensor([0.6, 0.5]), torch.tensor([0, 1]))
    one = Candidates.of_pairs(pairs, Placement(1, 1, 64, 64), (64, 64), voting=False)
    assert one.shown(np.array([0.3, 0.3], np.float32)) == [0]
    assert one.shown(np.array([0.7, 0.3], np.float32)) == [1]
    assert one.shown(np.array([0.6, 0.3], np.float32)) == [1], "a score must exceed its threshold"


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 12), st.integers(0, 12), st.sampled_from([4, 6, 10]),
            st.sampled_from([0.1, 0.3, 0.5, 0.5, 0.7]), st.integers(0, 2),
        ),
        min_size=1, max_size=12,
    ),
    chosen=st.tuples(*[st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.6])] * 3),
    voting=st.booleans(),
    calibration=st.sampled_from([(), ((2.0, 0.5), (0.5, -1.0), (1.0, 1.0))]),
)  # fmt: skip
def test_ties_are_broken_as_in_the_model_file(
    rows: list[tuple[int, int, int, float, int]],
    chosen: tuple[float, float, float],
    voting: bool,
    calibration: Calibration,
) -> None:
    """Held against the file's own last part, on whole numbers: equal scores, equal boxes, IoU on the edge."""
    import onnxruntime as ort
    import torch

    from maskwatch.export.nms_graph import nms_graph
    from maskwatch.network.postprocess import TensorDetections

    rows = sorted(rows, key=lambda row: -row[3])
    boxes = np.array([(x, y, x + side, y + side) for x, y, side, *_ in rows], np.float32)
    scores, ids = np.array([row[3] for row in rows], np.float32), np.array([row[4] for row in rows])
    spare = 100 - len(rows)
    feeds = {
        "candidate_boxes": np.pad(boxes, ((0, spare), (0, 0)))[None],
        "candidate_scores": np.pad(scores, (0, spare), constant_values=-np.inf)[None],
        "candidate_classes": np.pad(ids, (0, spare))[None],
        "score_thresholds": np.array(chosen, np.float32),
    }
    about = {"voting": voting, "calibration": calibration}
    graph = nms_graph(100, (SIZE, SIZE), (0.5,) * 3, **about).SerializeToString()
    out_boxes, out_scores, out_classes, (count,) = ort.InferenceSession(graph).run(None, feeds)
    pairs = TensorDetections(*map(torch.from_numpy, (boxes, scores, ids)))
    one = Candidates.of_pairs(pairs, Placement(1, 1, SIZE, SIZE), (SIZE, SIZE), **about)
    shown = one.shown(np.array(chosen, np.float32))
    assert one.class_ids[shown].tolist() == out_classes[0, :count].tolist()
    np.testing.assert_allclose(one.scores[shown], out_scores[0, :count], rtol=1e-5)
    np.testing.assert_allclose(one.output_xyxy[shown], out_boxes[0, :count], atol=1e-4)


# ---- Choosing --------------------------------------------------------------------------------------------


def measured(detector: Detector, data: DetectionSet, chosen: tuple[float, ...]) -> list[OperatingPoint]:
    """What the detector itself comes to."""
    return operating_points(data, predict(at(detector, chosen), data), chosen)


def worth(points: list[OperatingPoint], objective: ThresholdObjective) -> float:
    if objective.false_negative_cost is None:
        return sum(point.f1 for point in points)
    return -sum(objective.cost(point.truths - point.hits, point.shown - point.hits) for point in points)


@pytest.mark.parametrize(
    "objective",
    [
        ThresholdObjective(),
        ThresholdObjective(false_negative_cost=1, false_positive_cost=1),
        ThresholdObjective(false_negative_cost=4),
    ],
)
def test_no_other_threshold_of_a_class_is_better(
    model: Model, data: DetectionSet, objective: ThresholdObjective
) -> None:
    detector = Detector(model[0])
    found = candidates.gather(detector, data)
    points = choose(data, found, objective, (0.5,) * 3)
    chosen = tuple(point.threshold for point in points)
    assert measured(detector, data, chosen) == list(points)
    assert all(round(threshold, 4) == threshold for threshold in chosen)
    best = worth(list(points), objective)
    for class_id, other in itertools.product(range(3), np.linspace(0.06, 0.94, 8).round(4)):
        moved = tuple(float(other) if n == class_id else t for n, t in enumerate(chosen))
        assert worth(measured(detector, data, moved), objective) <= best + 1e-9


def test_a_wanted_recall_is_reached_where_it_can_be(model: Model, data: DetectionSet) -> None:
    detector = Detector(model[0])
    points = choose(data, candidates.gather(detector, data), ThresholdObjective(recall=0.6), (0.5,) * 3)
    for class_id, point in enumerate(measured(detector, data, tuple(p.threshold for p in points))):
        low = tuple(FLOOR if n == class_id else p.threshold for n, p in enumerate(points))
        assert point.recall >= min(0.6, measured(detector, data, low)[class_id].recall)


@pytest.mark.parametrize("calibrate", [False, True])
def test_what_the_command_writes_is_what_was_chosen(
    model: Model, data: DetectionSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], calibrate: bool
) -> None:
    folder, detector = data.samples[0].image_path.parent, Detector(model[0])
    with pytest.raises(SystemExit) as status:
        main([
            "evaluate", str(model[0]), str(folder), "--tune", str(folder),
            "--write", str(tmp_path / "tuned.onnx"), "--bootstrap", "0", *["--calibrate"] * calibrate,
        ])  # fmt: skip
    assert not status.value.code
    printed = capsys.readouterr().err
    assert "the best F1 of each class" in printed
    found = candidates.gather(detector, data)
    about = detector.metadata
    if calibrate:
        fit = fit_calibration(data, found)
        assert fit.error_after < fit.error_before
        assert fit.summary(MASK_CLASSES) in printed
        found = [one.calibrated(fit.calibration) for one in found]
        about = replace(about, calibration=fit.calibration, calibrated_on=PICTURES)
    points = choose(data, found, ThresholdObjective(), about.thresholds)
    written = Detector(tmp_path / "tuned.onnx")
    assert written.metadata == replace(about, thresholds=written.metadata.thresholds)
    assert written.metadata.thresholds == tuple(point.threshold for point in points)
    assert operating_points(data, predict(written, data), written.metadata.thresholds) == list(points)
    for point in points:
        assert f"precision {point.precision:.3f}, recall {point.recall:.3f}" in printed


def test_a_checkpoint_is_tuned_as_its_file_is(model: Model, data: DetectionSet) -> None:
    """`export --tune` chooses in torch. Rounding may tip the scales, but not the worth of what was chosen."""
    sums = []
    for detector in (Detector(model[0]), model[1]):
        points = choose(data, candidates.gather(detector, data), ThresholdObjective(), (0.5,) * 3)
        sums.append(sum(point.f1 for point in points))
    assert sums[0] == pytest.approx(sums[1], abs=0.1)


def test_a_detector_that_gives_detections_only(tiny_model: Path, street: np.ndarray, tmp_path: Path) -> None:
    """A file whose inside is not known is tuned on what it finds within its classes."""
    Image.fromarray(street).save(tmp_path / "a.png")
    box = "<bndbox><xmin>16</xmin><ymin>0</ymin><xmax>32</xmax><ymax>16</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation><object><name>mask</name>{box}</object></annotation>")
    data = read_voc(tmp_path)
    (one,) = candidates.gather(Detector(tiny_model), data)
    assert (
        one.output_xyxy[one.shown(np.array([0.5, 0.4, 0.3], np.float32))].tolist()
        == Detector(tiny_model)(street).xyxy.tolist()
    )
    assert NEAR_IOU < IOU
