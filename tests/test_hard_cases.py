"""Hard cases: which faces are hard, what is stored of them, within which limits, and for how long."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from live_scenes import BARE, MASK, START, face
from maskwatch.errors import OptionError, OutputError
from maskwatch.hard_cases import (
    NAMES,
    FullError,
    HardCase,
    HardCaseLimits,
    HardCaseStore,
    hard_reason,
    is_labelled,
    proposal_xml,
)
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.config import WatchConfig
from maskwatch.live.output.hard_cases import INTERVAL_S, HardCases
from maskwatch.live.output.retention import Retention, hard_case_rules
from maskwatch.live.tracking.faces import Faces
from maskwatch.live.tracking.results import FrameResult, Person, SceneState
from maskwatch.text import parse_xml

CLASSES = ("mask", "no_mask", "mask_incorrect")
THRESHOLDS = {"mask": 0.5, "no_mask": 0.5, "mask_incorrect": 0.5}
CLOSE = (0.7, 0.6, 0.0)
NEAR = (0.53, 0.0, 0.0)


def noise(seed: int, size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


def case(seed: int = 0, **changes: object) -> HardCase:
    one = HardCase(
        noise(seed),
        "margin",
        "front door/1",
        datetime(2026, 3, 2, 7, 15, 4, tzinfo=UTC),
        "tiny",
        CLASSES,
        np.array([[1.5, 2, 30, 99]], np.float32),
        np.array([1]),
        np.array([CLOSE], np.float32),
        None,
        12,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (MASK, None),
        (CLOSE, "margin"),
        ((0.7, 0.54, 0.0), None),
        (NEAR, "threshold"),
        ((0.0, 0.47, 0.0), "threshold"),
        ((0.44, 0.42, 0.0), None),  # below the threshold it is no face at all
        ((0.56, 0.0, 0.0), None),
    ],
)
def test_which_faces_are_hard(scores: Sequence[float], reason: str | None) -> None:
    thresholds = np.array([*THRESHOLDS.values()], np.float32)
    assert hard_reason(np.array(scores, np.float32), thresholds) == reason


def test_one_class_has_no_margin() -> None:
    assert hard_reason(np.array([0.9], np.float32), np.array([0.5], np.float32)) is None


# ---- The folder --------------------------------------------------------------------------------------------


def test_the_folder_is_labelled_as_it_is(tmp_path: Path) -> None:
    """Proposed until a person saves it; why and when it was stored stays."""
    from maskwatch.label.project import open_project
    from maskwatch.label.store import LabelStore

    path = HardCaseStore(tmp_path).keep(case())
    assert path is not None
    project = open_project(tmp_path)
    store, (picture,) = LabelStore(project), project.pictures
    before = store.read(picture)
    assert (before.state, [box.name for box in before.proposals]) == ("unlabelled", ["no_mask"])
    assert not is_labelled(path)
    after, _ = store.save(picture, before.proposals, before.revision)
    assert after.state == "labelled"
    assert is_labelled(path)
    root = parse_xml(path.with_suffix(".xml").read_bytes())
    assert root.find("maskwatch/state") is None
    assert root.findtext("maskwatch/reason") == "margin"


def test_what_is_stored(tmp_path: Path) -> None:
    path = HardCaseStore(tmp_path / "hard").keep(case())
    assert path is not None
    assert path.name.startswith("20260302T071504Z_front-door-1_t12_margin_")
    assert sorted(one.suffix for one in path.parent.iterdir()) == [".jpg", ".xml"]
    assert all(NAMES.fullmatch(one.name) for one in path.parent.iterdir())
    with Image.open(path) as image:
        assert (image.size, image.getexif()) == ((60, 40), {})
    root = parse_xml(path.with_suffix(".xml").read_bytes())
    assert root.findtext("maskwatch/state") == "proposed"
    assert root.findtext("maskwatch/reason") == "margin"
    assert root.findtext("maskwatch/model") == "tiny"
    assert root.findtext("maskwatch/source") == "front door/1"
    assert root.findtext("maskwatch/time") == "2026-03-02T07:15:04.000+00:00"
    assert [node.text for node in root.iterfind("maskwatch/scores/object/class")] == [
        "0.7000",
        "0.6000",
        "0.0000",
    ]
    if os.name == "posix":
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007


def test_the_folder_is_a_data_set(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="data sets need the extra 'train'")
    from maskwatch.data import read_data

    HardCaseStore(tmp_path).keep(case())
    (sample,) = read_data(tmp_path).samples
    assert sample.boxes_xyxy.tolist() == [[1.5, 2, 30, 40]]
    assert sample.class_ids.tolist() == [1]


def test_near_duplicates_are_left_out(tmp_path: Path) -> None:
    store = HardCaseStore(tmp_path)
    assert store.keep(case())
    again = np.clip(noise(0).astype(int) + 2, 0, 255).astype(np.uint8)
    assert store.keep(case(image_rgb=again)) is None
    assert store.keep(case(1))
    # Another person in the same room: what counts is the hard face.
    room = np.tile(np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None], (40, 1, 3))
    assert store.keep(case(image_rgb=room, focus_xyxy=np.array([0, 0, 10, 10], np.float32)))
    assert store.keep(case(image_rgb=room, focus_xyxy=np.array([40, 0, 50, 10], np.float32)))
    assert len([*tmp_path.glob("*.jpg")]) == 4


def test_the_folder_has_limits(tmp_path: Path) -> None:
    store = HardCaseStore(tmp_path, HardCaseLimits(most_pictures=2))
    assert [bool(store.keep(case(n))) for n in range(2)] == [True, True]
    with pytest.raises(FullError, match="holds 2 hard cases, which is the limit; move the labelled ones"):
        store.keep(case(3))
    for path in tmp_path.glob("*"):
        path.unlink()
    assert store.keep(case(3))  # there is room again
    with pytest.raises(FullError, match="MiB, which is the limit"):
        HardCaseStore(tmp_path, HardCaseLimits(most_bytes=100)).keep(case(4))
    with pytest.raises(FullError):  # those of earlier runs count
        HardCaseStore(tmp_path, HardCaseLimits(most_pictures=1)).keep(case(5))


def test_nothing_is_half_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maskwatch.hard_cases.proposal_xml", full)
    store = HardCaseStore(tmp_path)
    with pytest.raises(OutputError, match="No space left"):
        store.keep(case())
    assert not [*tmp_path.iterdir()]
    monkeypatch.undo()
    assert store.keep(case())  # what failed is no duplicate


def test_old_cases_go_and_labelled_ones_stay(tmp_path: Path) -> None:
    store = HardCaseStore(tmp_path)
    old, labelled, young = (store.keep(case(n)) for n in range(3))
    assert old
    assert labelled
    assert young
    xml = labelled.with_suffix(".xml")
    xml.write_text(xml.read_text().replace("proposed", ""))
    assert [is_labelled(path) for path in (old, labelled, xml)] == [False, True, True]
    for path in (young, young.with_suffix(".xml")):
        path.rename(path.with_name(path.name.replace("20260302", "20260401")))
    (tmp_path / "20200101T000000Z_door_t1_holiday_00aa11bb.jpg").write_bytes(b"\xff\xd8\xff")
    done = Retention(20, hard_case_rules(tmp_path)).run(datetime(2026, 4, 2, tzinfo=UTC))
    assert str(done) == "deleted what is older than 20 days: 1 hard case, 1 proposal"
    names = sorted(path.name[:8] for path in tmp_path.iterdir())
    assert names == ["20200101", "20260302", "20260302", "20260401", "20260401"]


def test_retention_needs_something_that_is_stored(tmp_path: Path) -> None:
    WatchConfig(sources=("0",), keep_hard=tmp_path, retain_days=3)
    with pytest.raises(OptionError, match="--retain"):
        WatchConfig(sources=("0",), retain_days=3)


def test_names_of_classes_that_xml_cannot_hold() -> None:
    xml = proposal_xml(case(class_names=("a", "b\x00&<", "c")), "a.jpg")
    assert parse_xml(xml).findtext("object/name") == "b&<"


# ---- Watching ----------------------------------------------------------------------------------------------


def person(track: int, state: str | None, static: bool = False) -> Person:
    return Person(track, np.array(face(100), np.float32), state, 0.9, 1.0, (), True, False, static)


def result(time_s: float, *seen: tuple[Person, Sequence[float]], source: str = "door") -> FrameResult:
    """A frame of noise with people and the scores of their faces."""
    image = noise(int(time_s * 10), (400, 600))
    frame = LiveFrame(source, 0, time_s, START + timedelta(seconds=time_s), 0.0, image)
    scores = np.array([one[1] for one in seen], np.float32).reshape(-1, 3)
    boxes = np.array([face(100 * (n + 1)) for n in range(len(seen))], np.float32).reshape(-1, 4)
    found = Faces(boxes, scores, scores.max(1, initial=0) > 0.5)
    people, tracks = tuple(one[0] for one in seen), np.array([one[0].track for one in seen], np.int64)
    return FrameResult(frame, found, SceneState(people, (), sv.Detections.empty(), tracks), 0.1)


def watched(folder: Path, *results: FrameResult) -> list[str]:
    """Track and reason of each case that watching these frames stores."""
    with HardCases(HardCaseStore(folder), "tiny", THRESHOLDS) as observer:
        for one in results:
            observer.on_frame(one)
            drained(observer)
    return ["_".join(path.stem.split("_")[2:4]) for path in sorted(folder.glob("*.jpg"))]


def drained(observer: HardCases) -> None:
    until = time.monotonic() + 10
    while not observer._waiting.empty() and time.monotonic() < until:
        time.sleep(0.005)


def test_one_case_for_each_person_and_reason(tmp_path: Path) -> None:
    seen = [result(n * INTERVAL_S, (person(1, "mask"), CLOSE)) for n in range(4)]
    seen += [result((4 + n) * INTERVAL_S, (person(1, "mask"), NEAR)) for n in range(3)]
    seen.append(result(8 * INTERVAL_S, (person(2, "mask"), CLOSE)))
    assert watched(tmp_path, *seen) == ["t1_margin", "t1_threshold", "t2_margin"]


def test_a_source_has_a_least_interval(tmp_path: Path) -> None:
    seen = [result(n, (person(n + 1, "mask"), CLOSE)) for n in range(12)]
    seen.append(result(12, (person(99, "mask"), CLOSE), source="gate"))
    assert watched(tmp_path, *seen) == ["t1_margin", "t11_margin", "t99_margin"]


def test_a_flip_is_kept_once_even_after_a_wait(tmp_path: Path) -> None:
    first, mask, bare = person(1, "mask"), person(2, "mask"), person(2, "no_mask")
    seen = [result(0, (first, CLOSE), (mask, MASK)), result(1, (first, MASK), (bare, BARE))]
    seen += [result(2 + n, (bare, BARE)) for n in range(30)]
    assert watched(tmp_path, *seen) == ["t1_margin", "t2_flip"]
    xml = parse_xml(next(tmp_path.glob("*flip*.xml")).read_bytes())
    assert [node.text for node in xml.iterfind("object/name")] == ["no_mask"]


def test_what_is_not_hard(tmp_path: Path) -> None:
    seen = [
        result(0, (person(1, None), MASK)),
        result(1, (person(1, "mask"), MASK)),  # decided, not flipped
        result(2, (person(2, None, static=True), CLOSE)),
        result(3, (person(-1, "mask"), MASK)),
    ]
    assert watched(tmp_path, *seen) == []


def test_a_face_below_the_threshold_is_proposed_too(tmp_path: Path) -> None:
    assert watched(tmp_path, result(0, (person(1, "mask"), (0.47, 0.1, 0)), (person(2, "mask"), MASK))) == [
        "t1_threshold"
    ]
    xml = parse_xml(next(tmp_path.glob("*.xml")).read_bytes())
    assert len(xml.findall("object")) == 2


def test_a_full_disk_never_ends_the_watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    store = HardCaseStore(tmp_path / "hard")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with HardCases(store, "tiny", THRESHOLDS, lambda name, text: said.append(f"{name}: {text}")) as observer:
        monkeypatch.setattr(Image.Image, "save", full)
        monkeypatch.setattr(
            "maskwatch.hard_cases._stem", lambda case: "20260302T071504Z_a_t1_margin_00000000"
        )
        for n in range(3):
            observer.on_frame(result(n * INTERVAL_S, (person(n, "mask"), CLOSE)))
            drained(observer)
        time.sleep(0.05)
        monkeypatch.undo()
        observer.on_frame(result(5 * INTERVAL_S, (person(9, "mask"), CLOSE)))
    assert len(said) == 1
    assert said[0].startswith("keep-hard: ")
    assert "No space left on device" in said[0]
    assert len([*(tmp_path / "hard").glob("*.jpg")]) == 1


def test_a_slow_disk_costs_cases_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HardCaseStore(tmp_path)
    observer = HardCases(store, "tiny", THRESHOLDS)  # its thread is not started: nothing is taken
    began = time.monotonic()
    for n in range(20):
        observer.on_frame(result(n * INTERVAL_S, (person(n, "mask"), CLOSE)))
    assert observer._waiting.qsize() == 2
    assert time.monotonic() - began < 5
