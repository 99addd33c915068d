"""The report: outcomes, curves, thresholds, comparison, suspects and pages, on literal boxes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch import Detector
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample, correct, read_corrections, read_voc
from maskwatch.errors import DataError, OptionError, OutputError
from maskwatch.evaluation import coco_evaluate
from maskwatch.evaluation.candidates import Candidates
from maskwatch.evaluation.coco import STAT_NAMES
from maskwatch.evaluation.curves import class_curves
from maskwatch.evaluation.errors import confusion, outcomes
from maskwatch.evaluation.intervals import Bootstrap, Difference
from maskwatch.evaluation.matching import match_set
from maskwatch.evaluation.page import write_report
from maskwatch.evaluation.report import Report, ReportOptions, measure_set
from maskwatch.evaluation.slices import FACE_AREAS, by_crowd, by_size, by_source, read_sources
from maskwatch.evaluation.suspects import fault_of, suspects, write_suspects
from maskwatch.evaluation.thresholds import ThresholdObjective, choose, operating_points
from maskwatch.labels import MASK_CLASSES
from tiny_model import metadata, write_tiny_model

Box = tuple[float, float, float, float]


def sample(name: str, *objects: tuple[int, Box]) -> Sample:
    return Sample(
        Path(f"{name}.png"),
        Path(f"{name}.xml"),
        (200, 200),
        np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        np.array([class_id for class_id, _ in objects], np.int64),
        np.zeros(len(objects), np.bool_),
    )


def found(*objects: tuple[int, float, Box]) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
        confidence=np.array([score for _, score, _ in objects], np.float32),
        class_id=np.array([class_id for class_id, _, _ in objects], int),
    )


A, B, C, D = (10, 10, 30, 30), (60, 10, 90, 40), (10, 100, 60, 150), (120, 120, 180, 180)


@pytest.fixture
def town() -> tuple[DetectionSet, list[sv.Detections]]:
    """Right, wrong class, bad localization, not found (with a weak detection); and a false positive."""
    truth = (sample("k_1", (0, A), (1, B), (0, C), (2, D)), sample("j_2"))
    predictions = [
        found(
            (0, 0.9, A),
            (0, 0.8, (60, 10, 90, 39)),
            (0, 0.7, (10, 130, 60, 180)),  # 20 of 80 rows in common with C
            (2, 0.2, D),
        ),
        found((1, 0.95, A), (1, 0.1, B)),
    ]
    return DetectionSet(MASK_CLASSES, truth), predictions


# ---- Outcomes --------------------------------------------------------------------------------------------


def test_each_face_and_detection_has_one_outcome(town: tuple[DetectionSet, list[sv.Detections]]) -> None:
    rows = [
        (o.picture, o.kind, o.truth, o.detection, round(o.score, 2), round(o.iou, 2))
        for o in outcomes(*town, [0.5] * 3)
    ]
    assert rows == [
        (0, "true_positive", 0, 0, 0.9, 1.0),
        (0, "class", 1, 1, 0.8, 0.97),
        (0, "localization", 2, 2, 0.7, 0.25),
        (0, "false_negative", 3, None, 0.2, 0.0),
        (1, "false_positive", None, 0, 0.95, 0.0),
    ]


def test_the_matrix_has_false_negatives_and_false_positives(
    town: tuple[DetectionSet, list[sv.Detections]],
) -> None:
    matrix = confusion(outcomes(*town, [0.5] * 3), 3)
    assert matrix.tolist() == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]


boxes = st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(5, 60), st.integers(5, 60)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), boxes), max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.01, 0.99), boxes), max_size=6),
)
def test_nothing_is_counted_twice(
    truths: list[tuple[int, Box]], answers: list[tuple[int, float, Box]]
) -> None:
    result = outcomes(DetectionSet(MASK_CLASSES, (sample("a", *truths),)), [found(*answers)], [0.5] * 3)
    seen = [o.truth for o in result if o.truth is not None]
    assert sorted(seen) == list(range(len(truths)))
    counted = [n for n, (_, score, _) in enumerate(answers) if np.float32(score) > 0.5]
    assert sorted(o.detection for o in result if o.detection is not None) == counted


# ---- COCO by class ---------------------------------------------------------------------------------------


def test_the_twelve_numbers_of_a_class_are_those_of_pycocotools_alone() -> None:
    """Held against COCOeval with one category at a time, on files as its own tools read them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(4)
    samples, predictions = [], []
    for number in range(12):
        corners = rng.integers(0, 120, (4, 2))
        truth = [
            (int(rng.integers(3)), (x, y, x + s, y + s))
            for (x, y), s in zip(corners, (8, 20, 45, 75), strict=True)
        ]
        samples.append(sample(f"p{number}", *truth))
        answers = []
        for class_id, (x0, y0, x1, y1) in truth:
            dx, dy = rng.integers(-4, 5, 2)
            other = class_id if rng.random() < 0.8 else int(rng.integers(3))
            answers.append((other, float(rng.random()), (x0 + dx, y0 + dy, x1 + dx, y1 + dy)))
        predictions.append(found(*answers))
    result = coco_evaluate(DetectionSet(MASK_CLASSES, tuple(samples)), predictions)
    rows = [
        {"id": n + 1, "image_id": i, "category_id": int(c), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0,
         "area": (x1 - x0) * (y1 - y0)}
        for n, (i, c, (x0, y0, x1, y1)) in enumerate(
            (i, c, b.tolist())
            for i, s in enumerate(samples)
            for c, b in zip(s.class_ids, s.boxes_xyxy, strict=True)
        )
    ]  # fmt: skip
    answers_json = [
        {"image_id": i, "category_id": int(c), "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(s)}
        for i, d in enumerate(predictions)
        for (x0, y0, x1, y1), c, s in zip(d.xyxy.tolist(), d.class_id, d.confidence, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth_file = COCO()
        truth_file.dataset = {
            "images": [{"id": i} for i in range(12)],
            "categories": [{"id": n, "name": name} for n, name in enumerate(MASK_CLASSES)],
            "annotations": rows,
        }
        truth_file.createIndex()
        answer_file = truth_file.loadRes(answers_json)
        for class_id, score in enumerate(result.per_class):
            evaluation = COCOeval(truth_file, answer_file, "bbox")
            evaluation.params.catIds = [class_id]
            evaluation.evaluate()
            evaluation.accumulate()
            printed.truncate(0)
            evaluation.summarize()
            lines = printed.getvalue().replace("\0", "").splitlines()
            assert list(score.stats) == list(STAT_NAMES)
            np.testing.assert_allclose(list(score.stats.values()), evaluation.stats, atol=1e-12)
            assert list(score.printed) == lines
            assert score.ap50 == pytest.approx(evaluation.stats[1])


# ---- Curves and thresholds -------------------------------------------------------------------------------


def ladder() -> tuple[DetectionSet, list[sv.Detections]]:
    """Class 0: four faces; by falling score hit, hit, miss, hit, miss."""
    truth = [(0, A), (0, B), (0, C), (0, D)]
    empty = (100.0, 10.0, 115.0, 25.0)
    empty2 = (140.0, 10.0, 155.0, 25.0)
    answers = [(0, 0.95, A), (0, 0.85, B), (0, 0.75, empty), (0, 0.65, C), (0, 0.55, empty2)]
    return DetectionSet(MASK_CLASSES, (sample("a", *truth),)), [found(*answers)]


def test_curves_are_literal() -> None:
    (curve, *_), calibration = class_curves(match_set(*ladder()))
    np.testing.assert_allclose(curve.precision, [1, 1, 2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [0.25, 0.5, 0.5, 0.75, 0.75])
    assert curve.at(0.7) == (pytest.approx(2 / 3), 0.5)
    assert curve.at(0.96) == (1.0, 0.0)
    # One detection in each of five bins: |0.55 - 0|, |0.65 - 1|, |0.75 - 0|, |0.85 - 1|, |0.95 - 1|.
    assert calibration.error == pytest.approx((0.55 + 0.35 + 0.75 + 0.15 + 0.05) / 5, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "threshold"),
    [
        (ThresholdObjective(), 0.6),  # F1 0.4, 0.67, 0.57, 0.75, 0.67
        (
            ThresholdObjective(false_negative_cost=1, false_positive_cost=1),
            0.8,
        ),  # costs 3, 2, 3, 2, 3: the first of the least
        (ThresholdObjective(false_negative_cost=3, false_positive_cost=1), 0.6),  # 9, 6, 7, 4, 5
        (ThresholdObjective(false_negative_cost=1, false_positive_cost=9), 0.8),
        (ThresholdObjective(recall=0.5), 0.8),
        (ThresholdObjective(recall=0.7), 0.6),
        (ThresholdObjective(recall=1.0), 0.6),  # out of reach: what raises it counts
    ],
)
def test_thresholds_follow_the_objective(objective: ThresholdObjective, threshold: float) -> None:
    data, predictions = ladder()
    points = choose(data, [Candidates.of_detections(one) for one in predictions], objective, [0.5, 0.4, 0.3])
    assert [point.threshold for point in points] == [threshold, 0.4, 0.3]
    assert list(points) == operating_points(data, predictions, [threshold, 0.4, 0.3])


def test_points_are_literal() -> None:
    data, predictions = ladder()
    point, *_ = operating_points(data, predictions, [0.7, 0.5, 0.5])
    assert (point.truths, point.shown, point.hits) == (4, 3, 2)
    assert (point.precision, point.recall, point.f1) == (pytest.approx(2 / 3), 0.5, pytest.approx(4 / 7))
    assert ThresholdObjective(false_negative_cost=5).cost(2, 1) == 11
    nothing, *_ = operating_points(data, predictions, [0.96, 0.5, 0.5])
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 0.0, 0.0)


def test_senseless_objectives_are_refused() -> None:
    with pytest.raises(OptionError, match="must be positive"):
        ThresholdObjective(false_negative_cost=0)
    with pytest.raises(OptionError, match="not above 0"):
        ThresholdObjective(recall=1.5)
    with pytest.raises(OptionError, match="must be positive"):
        ThresholdObjective(false_positive_cost=float("nan"))


def test_thresholds_are_written_where_detect_reads_them(
    tiny_model: Path, street: np.ndarray, tmp_path: Path
) -> None:
    from maskwatch.export.onnx import write_tuned

    before = Detector(tiny_model)(street)
    assert len(before) == 3
    target = tmp_path / "tuned.onnx"
    write_tuned(tiny_model, target, [0.1, 0.999999, 0.25])
    tuned = Detector(target)
    assert tuned.metadata.thresholds == (0.1, 1.0, 0.25)
    import onnxruntime

    images = tuned.prepare([street])[0]
    *_, number = onnxruntime.InferenceSession(target).run(None, {"images": images})
    assert number.tolist() == [len(tuned(street))] == [2]
    with pytest.raises(OptionError, match="2 thresholds for the classes"):
        write_tuned(tiny_model, target, [0.1, 0.2])


# ---- Slices ----------------------------------------------------------------------------------------------


def test_slices_are_literal(town: tuple[DetectionSet, list[sv.Detections]], tmp_path: Path) -> None:
    data, predictions = ladder()
    assert [(s.name, s.boxes, s.ap50) for s in by_size(match_set(data, predictions, FACE_AREAS))] == [
        ("0 to 16 px", 0, None),
        ("16 to 32 px", 2, pytest.approx(1)),
        ("32 to 96 px", 2, pytest.approx(51 / 101)),  # one of two found: precision 1 up to recall 0.5
        ("from 96 px", 0, None),
    ]
    assert [(s.name, s.pictures, s.boxes) for s in by_crowd(match_set(*town))] == [
        ("1 face", 0, 0),
        ("2 to 4 faces", 1, 4),
        ("5 to 9 faces", 0, 0),
        ("from 10 faces", 0, 0),
    ]
    table = tmp_path / "sources.tsv"
    table.write_text("split\tstem\tset\ntest\tk_1\tstreet\ntest\tj_2\tbooth\n")
    parts = by_source(match_set(*town), read_sources(table))
    assert [(s.name, s.pictures) for s in parts] == [("booth", 1), ("street", 1)]
    table.write_text("a,b\n")
    with pytest.raises(DataError, match="its columns are a, b; write stem and source"):
        read_sources(table)


# ---- Comparison ------------------------------------------------------------------------------------------


def differences(
    truth: DetectionSet, first: list[sv.Detections], second: list[sv.Detections]
) -> Mapping[str, Difference]:
    ours, theirs = (Bootstrap.of(match_set(truth, found), 50) for found in (first, second))
    return ours.against(theirs)


def test_a_real_difference_is_told_from_none() -> None:
    truth = DetectionSet(MASK_CLASSES, tuple(sample(f"p{n}", (0, A)) for n in range(20)))
    good = [found((0, 0.9, A)) for _ in range(20)]
    poor = [found((0, 0.9, A if n < 8 else D)) for n in range(20)]
    same = differences(truth, good, good)["AP50"]
    assert not same.real
    assert same.words("one", "two") == "no difference that these pictures can show"
    apart = differences(truth, good, poor)["AP50"]
    assert apart.real
    assert apart.words("one", "two") == "one is better"
    assert differences(truth, poor, good)["AP50"].words("one", "two") == "two is better"
    assert differences(truth, good, poor)["AP50 no_mask"].words("one", "two") == "nothing to measure"


def test_pycocotools_matches_a_data_set_once(
    town: tuple[DetectionSet, list[sv.Detections]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a report shows; a second model is matched once as well."""
    from pycocotools.cocoeval import COCOeval

    calls = []
    evaluate = COCOeval.evaluate
    monkeypatch.setattr(COCOeval, "evaluate", lambda self: (calls.append(self), evaluate(self)))
    data, found = town
    for second, count in ((None, 1), (found, 2)):
        calls.clear()
        one = measure_set("town", data, found, found, [0.5] * 3, ReportOptions("a", draws=5), second)
        assert one.result.stats == coco_evaluate(data, found).stats
        assert len(calls) == count + 1  # and the one of this test


def test_the_json_keeps_the_words_of_its_schema_and_the_page_uses_those_of_the_field(
    town: tuple[DetectionSet, list[sv.Detections]], tmp_path: Path
) -> None:
    data, found = town
    options = ReportOptions("a model")
    one = measure_set("town", data, found, found, [0.5] * 3, options)
    report = Report(options, MASK_CLASSES, (0.5,) * 3, (one,))
    first = report.as_dict()["sets"][0]
    assert [mistake["kind"] for mistake in first["mistakes"]] == ["class", "place", "missed", "invented"]
    assert (first["confusion"]["rows"][-1], first["confusion"]["columns"][-1]) == ("invented", "missed")
    write_report(report, tmp_path / "report", force=False)
    for page in ("report.html", "report.md"):
        text = (tmp_path / "report" / page).read_text()
        for word in ("false positive", "false negative", "localization: a detection that overlaps"):
            assert word in text
        assert "invented" not in text
    with pytest.raises(OutputError, match="exists already"):
        write_report(report, tmp_path / "report", force=False)


# ---- Suspects --------------------------------------------------------------------------------------------


def test_suspects_become_corrections(town: tuple[DetectionSet, list[sv.Detections]], tmp_path: Path) -> None:
    data, predictions = town
    predictions[0] = predictions[0][np.array([True, True, True, False])]  # nothing at all where D is
    listed = suspects(data, predictions, outcomes(data, predictions, [0.5] * 3))
    assert [(s.picture, s.fault, s.class_name, s.label_name) for s in listed] == [
        (1, "missing", "no_mask", ""),
        (0, "class", "mask", "no_mask"),
        (0, "box", "mask", "mask"),
        (0, "no_face", "", "mask_incorrect"),
    ]
    write_suspects(data, listed, tmp_path / "s.csv", force=False)
    mended = correct(data, read_corrections(tmp_path / "s.csv"))
    assert [s.class_ids.tolist() for s in mended.samples] == [[0, 0, 0], [1]]
    assert mended.samples[0].boxes_xyxy[2].tolist() == [10, 130, 60, 180]
    for stem in ("k_1", "j_2"):
        Image.new("RGB", (200, 200)).save(tmp_path / f"{stem}.png")
    write_suspects(data, listed, tmp_path / "voc", force=False)
    for stem in ("k_1", "j_2"):
        (tmp_path / f"{stem}.png").rename(tmp_path / "voc" / f"{stem}.png")
    again = read_voc(tmp_path / "voc")
    assert [s.class_ids.tolist() for s in again.samples] == [[1], [0, 0, 2]]
    assert again.samples[1].notes[0] == {"suspect": "class", "label": "no_mask", "score": "0.800"}


def test_a_suspect_changes_no_other_label_than_its_own() -> None:
    apart, between, near = (0, 0, 40, 40), (22, 0, 62, 40), (50, 0, 90, 40)
    data = DetectionSet(MASK_CLASSES, (sample("k_1", (0, apart), (0, near)),))
    predictions = [found((0, 0.95, near), (0, 0.9, between))]
    (_, moved) = outcomes(data, predictions, [0.5] * 3)
    assert (moved.kind, moved.truth, fault_of(moved)) == ("localization", 0, "box")
    assert [s.fault for s in suspects(data, predictions, [moved])] == ["box"]
    closer = (28, 0, 68, 40)  # overlaps the other label more, which a correction would change
    predictions = [found((0, 0.95, near), (0, 0.9, closer))]
    (_, moved) = outcomes(data, predictions, [0.5] * 3)
    assert (moved.kind, moved.truth) == ("localization", 0)
    assert suspects(data, predictions, [moved]) == []


# ---- The command -----------------------------------------------------------------------------------------


@pytest.fixture
def annotated(tmp_path: Path, street: np.ndarray) -> Path:
    """Four pictures that the tiny model reads right, but for one label of another class."""
    folder = tmp_path / "street"
    folder.mkdir()
    cells = {"mask": (16, 0, 32, 16), "no_mask": (0, 32, 16, 48), "mask_incorrect": (48, 48, 64, 64)}
    for number in range(4):
        objects = ""
        for name, corners in cells.items():
            name = "no_mask" if number == 3 else name
            box = "".join(
                f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            )
            objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        Image.fromarray(street).save(folder / f"{number}.png")
        (folder / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as status:
        main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(status.value.code or 0), captured.out, captured.err


def test_the_report_stands_alone(
    tiny_model: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "report"
    code, out, err = run(
        capsys, tiny_model, annotated, annotated, "--report", folder, "--against", tiny_model,
        "--bootstrap", 20,
    )  # fmt: skip
    assert code == 0
    assert out.count("Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ]") == 2
    assert "no difference that these pictures can show" in err
    page = (folder / "report.html").read_text()
    assert "https://" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 6
    assert "data:image/jpeg" in page
    assert 'href="../street/3.png"' in page
    assert "label or model?" in page
    assert (folder / "suspects.csv").read_text().splitlines()[1:] == [
        "3,class,mask,16,0,32,16", "3,class,mask_incorrect,48,48,64,64",
    ]  # fmt: skip
    command = f"maskwatch label {annotated} --suspects {folder}"
    assert all(command in (folder / name).read_text() for name in ("report.html", "report.md"))
    assert "own thresholds. Cost: a missed face costs 1, a false alarm 1." in page
    markdown = (folder / "report.md").read_text()
    assert "own thresholds. Cost: a missed face costs 1, a false alarm 1." in markdown
    for name in ("precision_recall-1.png", "f1-2.png", "calibration-2.png"):
        assert f"({name})" in markdown
        assert (folder / name).stat().st_size > 5000
    document = json.loads((folder / "report.json").read_text())
    assert document["schema"] == "maskwatch.report/1"
    assert (document["chosen_on"], document["goal"]) == (None, "a missed face costs 1, a false alarm 1")
    first = document["sets"][0]
    assert first["confusion"]["counts"] == [[3, 0, 0, 0], [1, 4, 1, 0], [0, 0, 3, 0], [0, 0, 0, 0]]
    assert {mistake["kind"] for mistake in first["mistakes"]} == {"class"}
    assert first["against"]["AP"]["real"] is False
    code, _, err = run(capsys, tiny_model, annotated, "--report", folder)
    assert code == 2
    assert "exists already" in err


def test_tune_write_and_suspects(
    tiny_model: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned, listed = tmp_path / "tuned.onnx", tmp_path / "suspects.csv"
    code, _, err = run(
        capsys, tiny_model, annotated, "--tune", annotated, "--cost-missed", 5, "--write", tuned,
        "--suspects", listed, "--bootstrap", 0,
    )  # fmt: skip
    assert code == 0
    assert "a missed face costs 5, a false alarm 1" in err
    assert Detector(tuned).metadata.thresholds != Detector(tiny_model).metadata.thresholds
    assert listed.read_text().splitlines()[1:] == [
        "3,class,mask,16,0,32,16",
        "3,class,mask_incorrect,48,48,64,64",
    ]


def test_what_cannot_be_is_refused_before_any_work(
    tiny_model: Path,
    annotated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No picture is looked at before every option has been."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("it began to work")

    monkeypatch.setattr("maskwatch.evaluation.predictor.in_batches", work)
    monkeypatch.setattr("maskwatch.evaluation.candidates.in_batches", work)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "empty" / "a.png")
    (tmp_path / "empty" / "a.xml").write_text("<annotation></annotation>")
    (tmp_path / "file").touch()
    (tmp_path / "sources.csv").write_text("name,source\n")
    other = tmp_path / "other.onnx"
    write_tiny_model(other, replace(metadata(), classes=("face", "back", "side")))
    labels = tmp_path / "labels.json"
    labels.write_text("precious")
    tune = ["--tune", annotated]
    for options, message in (
        (["--write", tmp_path / "x.onnx"], "choose them with --tune DATA"),
        ([*tune, "--write", tmp_path / "x.ckpt"], "ends in .onnx"),
        ([*tune, "--write", tmp_path / "file" / "x.onnx"], "this is a file, not a folder"),
        ([*tune, "--write", tmp_path / "x.onnx", "--json", tmp_path / "x.onnx"], "named twice"),
        (["--recall", "0.9"], "add --tune DATA"),
        (["--calibrate"], "--calibrate needs a data set to fit on; add --tune DATA"),
        (["--recall", "1.9", *tune], "not above 0"),
        (["--tune", tmp_path / "nowhere"], "nowhere"),
        (["--tune", tmp_path / "empty"], "holds no box of mask, no_mask, mask_incorrect"),
        ([*tune, "--cost-alarm", "-1"], "must be positive"),
        ([*tune, "--cost-missed", "nan"], "must be positive"),
        (["--cost-missed", "5"], "are for --tune or --report"),
        ([annotated, "--suspects", tmp_path / "y.csv"], "takes the labels of one data set, not 2"),
        (["--suspects", annotated, "--force"], "which is read"),
        (["--report", tmp_path / "file" / "report"], "this is a file, not a folder"),
        (["--report", annotated, "--force"], "which is read"),
        (["--sources", tmp_path / "sources.csv"], "add --report FOLDER"),
        (["--report", tmp_path / "r", "--sources", tmp_path / "sources.csv"], "its columns are"),
        (["--report", tmp_path / "r", "--sources", tmp_path / "nowhere"], "cannot be read"),
        (["--stems", labels, "--json", labels, "--force"], "named twice"),
        (["--against", tiny_model, "--bootstrap", "0"], "--against needs draws"),
        (["--against", tmp_path / "nowhere"], "no model"),
        (["--report", tmp_path / "r", "--classes", "face,back"], "the data set was read as face, back"),
        (["--against", other], "knows face, back, side, not mask, no_mask, mask_incorrect"),
    ):
        code, out, err = run(capsys, tiny_model, annotated, *options)
        assert (code, out) == (2, ""), options
        assert message in err
    assert labels.read_text() == "precious"
    code, _, err = run(capsys, tmp_path / "x.ckpt", annotated, *tune, "--write", tmp_path / "x.onnx")
    assert code == 2
    assert "is a checkpoint; export it with --tune" in err
