"""The loop of watching, from a video of coloured cells to events, records and pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from camera_servers import HttpCamera, begin_mjpeg, send_picture
from drawn_events import event, wait_until
from maskwatch.cli.app import main
from maskwatch.errors import OutputError
from maskwatch.live.capture import hwaccel
from maskwatch.live.config import WatchConfig
from maskwatch.live.events import Event
from maskwatch.live.output.recorder import Recorder
from maskwatch.live.run import run_watch
from maskwatch.live.sinks.event_store import EventQuery, EventStore
from maskwatch.live.sinks.events_table import EVENTS
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.tracking.counts import sum_by_hour
from maskwatch.media.videos import Video, video_writer

SIDE = 256  # four times the network's: a cell is a face of 64 pixels
FPS = 10
RED, GREEN = (255, 0, 0), (0, 255, 0)


def street(color_rgb: tuple[int, int, int] | None) -> np.ndarray:
    """A grey picture, with a face in the cell of the second row and column unless the colour is None."""
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    if color_rgb is not None:
        image[64:128, 64:128] = color_rgb
    return image


def film(path: Path, *scenes: tuple[float, tuple[int, int, int] | None]) -> Path:
    """A video of (seconds, colour) one after the other."""
    with video_writer(path, FPS) as write:
        for seconds, color_rgb in scenes:
            for _ in range(round(seconds * FPS)):
                write(street(color_rgb))
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Four seconds of a person without a mask, after one empty second."""
    return film(tmp_path / "door.mp4", (1, None), (4, RED))


def read_events(path: Path) -> list[Event]:
    return [Event.from_record(json.loads(text)) for text in path.read_text("utf-8").splitlines()]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["watch", *arguments])
    return int(stopped.value.code or 0)


def test_a_person_is_one_alert_and_its_end(
    bare: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(bare), "--model", str(tiny_model), "--events", str(tmp_path / "e.jsonl")]) == 0
    events = read_events(tmp_path / "e.jsonl")
    assert [e.kind for e in events if e.kind != "minute"] == ["source", "alert", "alert_end", "source"]
    alert, end = (next(e for e in events if e.kind == kind) for kind in ("alert", "alert_end"))
    assert (alert.state, alert.source, alert.model) == ("no_mask", "door", "tiny")
    assert alert.duration_s is not None
    assert 2.0 <= alert.duration_s <= 2.3
    assert (end.alert, end.reason) == (alert.id, "stopped")
    assert end.duration_s == pytest.approx(3.9, abs=0.3)
    assert end.time > alert.time
    counts, *more = sum_by_hour(events).values()
    for rest in more:  # of a test that runs at the turn of an hour
        counts.add(rest)
    assert counts.total.people == {"mask": 0, "no_mask": 1, "mask_incorrect": 0}
    assert counts.frames == 50

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] == "model: tiny (64x64)"
    assert [text.split(" (")[0] for text in lines[1:5]] == [
        "0:00:00 door: live, 256x256, faces from 96 px",
        "0:00:03 door: person 1 no mask for 2 s",
        "0:00:04 door: person 1 still no mask after 4 s",
        "0:00:04 door: ended",
    ]
    assert lines[6].split() == [
        "source",
        "people",
        "mask",
        "mask",
        "incorrect",
        "undecided",
        "masked",
        "alerts",
    ]
    assert lines[7].split() == ["door", "1", "0", "1", "0", "0", "0%", "1"]
    assert lines[9].split() == ["source", "watched", "frames", "dropped"]
    assert lines[10].split() == ["door", "5", "s", "50", "0"]


def test_a_small_face_in_a_zone_alerts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An eighth of a real portrait: 8 pixels at the size of the network, 24 in the tile of the zone."""
    from maskwatch import read_image

    portrait = read_image(Path(__file__).parents[1] / "examples" / "astronaut.jpg")[:260, 90:350]
    image = np.full((540, 960, 3), 120, np.uint8)
    image[240:300, 400:460] = cv2.resize(portrait, (60, 60), interpolation=cv2.INTER_AREA)
    clip, zones = tmp_path / "hall.mp4", tmp_path / "zones.toml"
    with video_writer(clip, 5) as write:
        for _ in range(20):
            write(image)
    zones.write_text(
        'format = "maskwatch.zones/1"\nonly_zones = true\n[[zone]]\nname = "desk"\n'
        "points = [[0.4, 0.4], [0.5, 0.4], [0.5, 0.6], [0.4, 0.6]]\n",
        "utf-8",
    )
    command = [str(clip), "--model", "maskwatch-320", "--threads", "1", "--zones", str(zones)]
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model: maskwatch-320 (320x320)"
    assert lines[1] == "0:00:00 hall: live, 960x540, faces from 72 px, in zones from 24 px"
    assert lines[2].startswith("0:00:02 hall: person 1 no mask for 2 s in desk (")
    assert run([*command, "--tiles", "off"]) == 0
    assert "person" not in capsys.readouterr().out.replace("people", "")


@pytest.mark.usefixtures("tiny_embedded")
def test_a_file_is_watched_with_the_better_model_six_times_a_second(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(bare)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] == "model: maskwatch-640 (64x64), 6 frames/s"
    watched = next(line for line in lines if line.startswith("door") and " s " in line).split()
    assert watched == ["door", "5", "s", "50", "20", "0"]  # of ten frames a second four are left out


@pytest.mark.parametrize("tiles", ["0", "many", "9", "-1"])
def test_a_wrong_number_of_tiles(bare: Path, tiles: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(bare), "--tiles", tiles]) == 2
    assert "off" in capsys.readouterr().err


def test_times_of_a_file_are_its_own(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert run([str(bare), "--model", str(tiny_model), "--events", str(tmp_path / "e.jsonl")]) == 0
    events = [e for e in read_events(tmp_path / "e.jsonl") if e.kind != "minute"]
    assert [e.time for e in events] == sorted(e.time for e in events)
    assert 4.5 < (events[-1].time - events[0].time).total_seconds() < 5.5


def test_events_of_a_file_say_where_in_the_film(
    tiny_model: Path, tmp_path: Path, database: Path | str
) -> None:
    """A recording with a pause, whose own timestamps begin at 10 s: three empty seconds, then a person."""
    path = tmp_path / "hall.mp4"
    times_s = [0, 0.1, 0.2, *(3 + index / 10 for index in range(40))]
    with video_writer(path, FPS) as write:
        for time_s in times_s:
            write(street(None if time_s < 3 else RED), 10 + time_s)
    file, table = tmp_path / "e.jsonl", tmp_path / "e.csv"
    sinks = ["--events", str(file), "--db", str(database), "--outboxes", str(tmp_path)]
    assert run([str(path), "--model", str(tiny_model), *sinks]) == 0
    events = read_events(file)
    places = {e.kind if e.kind != "source" else e.state: e.time_s for e in events if e.kind != "minute"}
    assert places["live"] == 0
    assert places["alert"] == pytest.approx(5.1, abs=0.2)
    assert places["alert_end"] == places["ended"] == pytest.approx(6.9, abs=0.01)
    assert next(e.time_s for e in events if e.kind == "minute") == 0
    with EventStore(database) as store:
        assert [record["time_s"] for record in store.every_record()] == [e.time_s for e in events]
        alerts = EventQuery(kind=("alert",)).conditions()
        assert store._select([EVENTS.c.time_s], alerts) == [(places["alert"],)]
    with pytest.raises(SystemExit) as stopped:
        main(["events", "export", str(database), "--csv", str(table), "--kind", "alert"])
    assert not stopped.value.code
    (row,) = csv.DictReader(io.StringIO(table.read_text("utf-8")))
    assert float(row["time_s"]) == places["alert"]


def test_who_was_never_decided_is_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = film(tmp_path / "door.mp4", (1, None), (0.5, RED), (3, None))
    assert run([str(path), "--model", str(tiny_model), "--events", str(tmp_path / "e.jsonl")]) == 0
    counts = [e.counts["all"] for e in read_events(tmp_path / "e.jsonl") if e.counts is not None]
    assert (sum(c["undecided"] for c in counts), sum(c["people"] for c in counts)) == (1, 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6].split() == ["door", "0", "0", "0", "0", "1", "–", "0"]


def test_what_a_limit_leaves_out_of_a_file_is_not_dropped(
    bare: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(bare), "--model", str(tiny_model), "--fps", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].split() == ["source", "watched", "frames", "out", "dropped"]
    assert lines[-3].split() == ["door", "5", "s", "50", "25", "0"]


def test_a_file_that_is_cut_off_is_given_up(
    bare: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(bare.read_bytes()[: bare.stat().st_size * 7 // 10])
    assert run([str(torn), "--model", str(tiny_model)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"torn: failed: broken video, only \d+ of 50 frames could be read", out)


def test_a_video_that_exists_is_replaced_only_with_force(
    bare: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    common = [str(bare), "--model", str(tiny_model)]
    assert run([*common, "--save-video", str(out)]) == 2
    assert (
        "out.mp4: exists already; write somewhere else, or overwrite with --force" in capsys.readouterr().err
    )
    assert out.read_bytes() == b"mine"
    assert run([*common, "--save-video", str(bare), "--force"]) == 2
    assert "would overwrite a source" in capsys.readouterr().err
    assert run([*common, "--save-video", str(out), "--force"]) == 0
    with Video(out) as video:
        assert len(list(video.frames())) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.mp4", "out.mp4"]
    # With --retain, parts have the moment of their beginning as names.
    assert run([*common, "--save-video", str(out), "--retain", "3"]) == 0
    assert len([*tmp_path.glob("out_*.mp4")]) == 1


def test_json_is_all_that_is_printed(
    bare: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(bare), "--model", str(tiny_model), "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    kinds = [Event.from_record(json.loads(text)).kind for text in out]
    assert Counter(kinds) == {"source": 2, "alert": 1, "alert_end": 1, "minute": len(kinds) - 4}


def test_several_sources_share_the_model_and_keep_their_names(
    bare: Path, tiny_model: Path, tmp_path: Path
) -> None:
    masked = film(tmp_path / "hall.mp4", (4, GREEN))
    db = tmp_path / "e.sqlite"
    assert run([f"in={bare}", str(masked), "--model", str(tiny_model), "--db", str(db)]) == 0
    with EventStore(db) as store:
        events = [Event.from_record(record) for record in store.records()]
    assert {e.source for e in events} == {"in", "hall"}
    assert {(e.source, e.state) for e in events if e.kind == "alert"} == {("in", "no_mask")}
    assert len({e.run for e in events}) == 1


def test_zones_dwell_and_classes(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    zones = tmp_path / "zones.toml"
    zones.write_text(
        'format = "maskwatch.zones/1"\n[[zone]]\n'
        'name = "desk"\npoints = [[0.2, 0.2], [0.6, 0.2], [0.6, 0.6]]\n'
    )
    file = tmp_path / "e.jsonl"
    common = [str(bare), "--model", str(tiny_model), "--events", str(file)]
    # In a tile the face is larger than a cell, which this model takes for several.
    assert run([*common, "--zones", str(zones), "--dwell", "1", "--tiles", "off"]) == 0
    (alert,) = (e for e in read_events(file) if e.kind == "alert")
    assert alert.zone == "desk"
    assert alert.duration_s == pytest.approx(1.0, abs=0.15)
    file.unlink()
    assert run([*common, "--alert", "mask_incorrect"]) == 0
    assert not [e for e in read_events(file) if e.kind == "alert"]


def test_recording_and_thumbnails_are_blurred_unless_asked(
    bare: Path, tiny_model: Path, tmp_path: Path
) -> None:
    common = [str(bare), "--model", str(tiny_model), "--json"]
    for name, more in (("blurred", []), ("kept", ["--keep-faces"])):
        folder = tmp_path / name
        stored = ["--save-video", str(folder / "out.mp4"), "--thumbnails", str(folder / "pictures")]
        assert run([*common, *stored, *more]) == 0
        frames = [frame.image_rgb for frame in Video(folder / "out.mp4").frames()]
        assert len(frames) == 50
        (picture,) = (folder / "pictures").iterdir()
        assert cv2.imread(str(picture)).shape[0] > 64
        inside = np.mean([frame[80:112, 80:112].mean((0, 1)) for frame in frames[20:]], 0)
        # Under a patch the red mixes with the grey around it.
        assert (inside[0] > 220) == (name == "kept"), inside


def test_events_name_the_clip(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The state began at about one second, so the clip has the whole film; the face is blurred."""
    file, folder, db, table = (tmp_path / name for name in ("e.jsonl", "clips", "e.sqlite", "e.csv"))
    common = [str(bare), "--model", str(tiny_model), "--clips", str(folder)]
    assert run([*common, "--events", str(file), "--db", str(db)]) == 0
    events = {e.kind: e for e in read_events(file)}
    (clip,) = folder.iterdir()
    assert events["alert"].clip == events["alert_end"].clip == str(clip)
    assert events["minute"].clip is None
    with Video(clip) as video:
        frames = list(video.frames())
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(50) / FPS, abs=1e-3)
    assert not any(frame.image_rgb[80:112, 80:112, 0].mean() > 220 for frame in frames)
    with pytest.raises(SystemExit):
        main(["events", "export", str(db), "--csv", str(table), "--kind", "alert"])
    (row,) = csv.DictReader(io.StringIO(table.read_text("utf-8")))
    assert row["clip"] == str(clip)
    assert run([*common, "--keep-faces"]) == 0
    (kept,) = set(folder.iterdir()) - {clip}
    with Video(kept) as video:
        assert any(frame.image_rgb[80:112, 80:112, 0].mean() > 220 for frame in video.frames())


def test_other_classes_work_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of helmets: green is `helmet`, red is `bare head`, which a person is after two seconds."""
    from tiny_model import metadata, write_tiny_model

    model = write_tiny_model(tmp_path / "hats.onnx", metadata(classes=("helmet", "bare head")))
    path = film(tmp_path / "site.mp4", (2, GREEN), (5, RED))
    common = [str(path), "--model", str(model)]
    assert run(common) == 2
    assert "but helmet, bare head; name those that alert, for example --alert" in capsys.readouterr().err
    db, folder, video = tmp_path / "e.sqlite", tmp_path / "alerts", tmp_path / "v.mp4"
    stored = ["--db", str(db), "--thumbnails", str(folder), "--clips", str(folder)]
    assert run([*common, "--alert", "bare-head", *stored, "--save-video", str(video)]) == 0
    said = capsys.readouterr().out
    assert "site: person 1 bare head for 2 s" in said
    assert "mask" not in said.replace("maskwatch", "")
    with EventStore(db) as store:
        events = [Event.from_record(record) for record in store.records()]
    alert, end = (next(e for e in events if e.kind == kind) for kind in ("alert", "alert_end"))
    assert (alert.state, end.state, end.reason) == ("bare head", "bare head", "stopped")
    assert {Path(str(name)).name.split("_")[3] for name in (alert.clip, end.clip)} == {"bare-head"}
    assert sorted(map(str, folder.iterdir())) == sorted([str(alert.thumbnail), str(alert.clip)])
    counts = [e.counts["all"] for e in events if e.counts is not None]
    assert [sum(c["by_state"][name] for c in counts) for name in ("helmet", "bare head")] == [1, 0]
    assert sum(c["seconds"]["bare head"] for c in counts) > 3
    with Video(video) as shown:
        last = [frame.image_rgb for frame in shown.frames()][-1]
    red, green, blue = last[96, 64].astype(int)  # the edge of the box, in the colour of the second class
    assert red > green > blue
    for arguments in (["list", str(db)], ["hours", str(db)]):
        with pytest.raises(SystemExit):
            main(["events", *arguments])
        said = capsys.readouterr().out
        assert "bare head" in said
        assert "masked" not in said


def test_a_model_of_a_single_class(tmp_path: Path) -> None:
    from tiny_model import metadata, write_tiny_model

    model = write_tiny_model(tmp_path / "one.onnx", metadata(classes=("face",)))
    path, file = film(tmp_path / "door.mp4", (5, GREEN)), tmp_path / "e.jsonl"
    assert run([str(path), "--model", str(model), "--alert", "face", "--events", str(file)]) == 0
    events = read_events(file)
    assert [e.state for e in events if e.kind == "alert"] == ["face"]
    assert [e.counts["all"]["by_state"] for e in events if e.counts is not None][-1] == {"face": 1}


def test_an_event_names_its_picture(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    folder = tmp_path / "pictures"
    assert (
        run([str(bare), "--model", str(tiny_model), "--events", str(file), "--thumbnails", str(folder)]) == 0
    )
    (alert,) = (e for e in read_events(file) if e.kind == "alert")
    assert [str(path) for path in folder.iterdir()] == [alert.thumbnail]


def test_several_videos_get_the_names_of_their_sources(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    sources = [f"in={bare}", f"out={bare}"]
    assert run([*sources, "--model", str(tiny_model), "--save-video", str(tmp_path / "v.mp4")]) == 0
    assert (tmp_path / "v_in.mp4").is_file()
    assert (tmp_path / "v_out.mp4").is_file()


def test_a_full_disk_ends_the_recording_and_nothing_else(
    bare: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("v.mp4: no space left; free some")

    monkeypatch.setattr(Recorder, "add", fail)
    monkeypatch.setattr("maskwatch.live.output.thumbnails.save_picture", fail)
    file = tmp_path / "e.jsonl"
    stored = ["--save-video", str(tmp_path / "v.mp4"), "--thumbnails", str(tmp_path / "t")]
    assert run([str(bare), "--model", str(tiny_model), "--events", str(file), *stored]) == 0
    (alert,) = (e for e in read_events(file) if e.kind == "alert")
    assert alert.thumbnail is None
    said = capsys.readouterr().err
    assert said.count("no space left") == 2
    assert "recording has ended, watching goes on" in said


def test_retain_deletes_what_is_old(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder, db = tmp_path / "t", tmp_path / "e.sqlite"
    folder.mkdir()
    old = folder / "20200131T080000Z_door_t12_3f2a9c01.jpg"
    old.write_bytes(b"\xff\xd8\xff")
    (folder / "mine.jpg").write_bytes(b"\xff\xd8\xff")
    with EventStore(db, create=True) as store:
        store.add(event(0))  # of 2025
    stored = ["--thumbnails", str(folder), "--db", str(db), "--retain", "7"]
    assert run([str(bare), "--model", str(tiny_model), *stored]) == 0
    assert not old.exists()
    assert (folder / "mine.jpg").exists()
    with EventStore(db) as store:
        assert event(0).id not in {record["id"] for record in store.records()}


def test_a_device_that_does_not_open_costs_one_line(
    bare: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hwaccel, "HWAccel", lambda device: device)  # which has no `create`
    hwaccel.open_device.cache_clear()
    try:
        assert run([str(bare), "--model", str(tiny_model), "--hwaccel", "auto"]) == 0
    finally:
        hwaccel.open_device.cache_clear()
    said = capsys.readouterr().err
    assert said.count("hwaccel: decoding on the processor, since no device can be opened") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        (["door.mp4", "--fps", "0"], "0 frames per second"),
        (["door.mp4", "--dwell", "-1"], "dwell_s is -1.0"),
        (["door.mp4", "--alert", "helmet"], "--alert helmet: the model has no such class"),
        (["door.mp4", "--transport", "pigeon"], "use tcp or udp"),
        (["door.mp4", "--hwaccel", "abacus"], "'abacus' is no device"),
        (["door.mp4", "--zones", "none.toml"], "none.toml: cannot be read"),
        (["door.mp4", "--keep-faces"], "add --save-video, --thumbnails or --clips"),
        (["door.mp4", "--retain", "3"], "add something that stores, as --db"),
        (["door.mp4", "--save-video", "x.avi"], "name a file ending in .mp4"),
        (["door.mp4", "--send", "post=all"], "'post=all' names no sink"),
        (["door.mp4", "--model", "maskwatch-640", "--size", "320"], "give only one"),
        (["door.mp4", "--webhook", "ftp://x"], "ftp://x"),
        (["a=door.mp4", "a=door.mp4"], "'a'"),
        (["door.mp4", "--show"], "--show"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    arguments: list[str],
    said: str,
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bare.parent)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in bare.parent.iterdir()) == ["door.mp4"]


def test_without_the_extra_the_command_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "trackers.py").write_text("raise ModuleNotFoundError('no', name='trackers')")
    done = subprocess.run(
        [sys.executable, "-m", "maskwatch", "watch", str(bare)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert "(module trackers)" in done.stderr
    assert "pip install 'maskwatch[live]'" in done.stderr


def test_an_opencv_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    """The OpenCV with windows, on a server without the libraries of a screen."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    done = subprocess.run(
        [sys.executable, "-m", "maskwatch", "detect", "a.jpg"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: OpenCV cannot be loaded (libGL.so.1")
    assert done.stderr.endswith("opencv-python-headless\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(number: signal.Signals, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    with HttpCamera(endless(RED)) as camera:
        command = [sys.executable, "-m", "maskwatch", "watch", f"door={camera.url}"]
        options = ["--model", str(tiny_model), "--events", str(file), "--dwell", "0.5"]
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            wait_until(lambda: file.is_file() and '"kind": "alert"' in file.read_text("utf-8"), "an alert")
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, err
    assert err == ""
    events = read_events(file)
    assert [e.reason for e in events if e.kind == "alert_end"] == ["stopped"]
    assert events[-1].kind == "minute"
    assert "person 1 still no mask" in out


def test_a_camera_that_is_lost_ends_what_was_seen_and_comes_back(tiny_model: Path) -> None:
    """The same person causes a new alert after the break, as it may be another person."""
    connections = iter([25, 1 << 30])

    def answer(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
        endless(RED, next(connections))(handler, ended)

    seen: list[Event] = []
    with HttpCamera(answer) as camera:
        plan = watch_plan(f"door={camera.url}", tiny_model, dwell_s=0.5)
        thread, stop = in_background(plan, seen.append)
        alerts = lambda: [e for e in seen if e.kind == "alert"]  # noqa: E731
        wait_until(lambda: len([e for e in seen if e.state == "live"]) == 2, "the camera again", 60)
        stop()
        thread.join(30)
    states = [e.state for e in seen if e.kind == "source"]
    assert states[:3] == ["live", "waiting", "live"]
    first = next(e for e in seen if e.kind == "alert_end")
    assert (first.reason, first.alert) == ("stopped", alerts()[0].id)
    assert seen.index(first) < [e.state for e in seen].index("waiting")


def endless(
    color_rgb: tuple[int, int, int], frames: int = 1 << 30
) -> Callable[[BaseHTTPRequestHandler, threading.Event], None]:
    picture = cv2.imencode(".jpg", cv2.cvtColor(street(color_rgb), cv2.COLOR_RGB2BGR))[1].tobytes()

    def answer(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
        begin_mjpeg(handler)
        for _ in range(frames):
            send_picture(handler, picture)
            if ended.wait(1 / 25):
                return

    return answer


def watch_plan(source: str, model: Path, **alerts: Any) -> WatchConfig:
    from maskwatch.live.capture.settings import CaptureSettings
    from maskwatch.live.tracking.alerts import AlertSettings
    from maskwatch.live.tracking.settings import PeopleSettings

    return WatchConfig(
        sources=(source,),
        model=str(model),
        capture=CaptureSettings(first_wait_s=0.2),
        people=PeopleSettings(alerts=AlertSettings(**alerts)),
    )


def in_background(
    plan: WatchConfig, put: Callable[[Event], None]
) -> tuple[threading.Thread, Callable[[], None]]:
    """Watches in a thread, which takes no signals, as a program that has the parts but not the command."""
    from maskwatch.live.capture.core import open_captures
    from maskwatch.live.loop import Outputs, WatchLoop, WatchPipeline
    from maskwatch.live.tracking.faces import FaceFinder
    from maskwatch.live.tracking.people_tracker import PeopleTracker

    captures = open_captures(plan.sources, plan.capture)
    finder = FaceFinder(plan.model)
    trackers = {c.name: PeopleTracker(c.name, "run", finder.metadata, plan.people) for c in captures}
    watch = WatchLoop(WatchPipeline(captures, finder, trackers, {}, "run"), Outputs(put=put))
    thread = threading.Thread(target=watch.run)
    thread.start()
    return thread, watch.stop


def test_a_plan_can_be_run_without_the_command_line(
    bare: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = WatchConfig((str(bare),), str(tiny_model), sinks=SinkSettings(db=tmp_path / "e.sqlite"))
    assert run_watch(plan)
    with EventStore(tmp_path / "e.sqlite") as store:
        assert len(store.records()) >= 5
    assert "door: ended" in capsys.readouterr().out


def test_a_terminal_gets_the_live_view(bare: Path, tiny_model: Path) -> None:
    """In a real pseudo-terminal: a view that is redrawn, then the totals."""
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "maskwatch", "watch", str(bare), "--model", str(tiny_model)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    shown = b"".join(read_all(leader)).decode()
    assert process.wait(60) == 0
    assert "people now" in shown
    assert "person 1 still no mask" in shown
    assert "\x1b[" in shown
    assert "0:00:04 of 0:00:05" in shown
    assert "━" in shown


def test_lines_in_a_pipe_leave_the_progress_to_the_terminal(bare: Path, tiny_model: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "maskwatch", "watch", str(bare), "--model", str(tiny_model), "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env=environment, text=True)
    os.close(follower)
    shown = b"".join(read_all(leader)).decode()
    assert process.stdout is not None
    with process.stdout as out:
        kinds = [json.loads(text)["kind"] for text in out]
    assert process.wait(60) == 0
    assert kinds.count("alert") == 1
    assert "of 0:00:05" in shown


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
@pytest.mark.skipif("QT" not in cv2.getBuildInformation(), reason="this OpenCV opens no windows")
def test_a_window_opens_where_there_is_a_screen(bare: Path, tiny_model: Path, tmp_path: Path) -> None:
    with (tmp_path / "display").open("w+") as number:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "640x480x24"],
            stdout=number,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: (tmp_path / "display").read_text().strip(), "a screen")
            display = ":" + (tmp_path / "display").read_text().strip()
            command = [sys.executable, "-m", "maskwatch", "watch", str(bare), "--model", str(tiny_model)]
            environment = {**os.environ, "DISPLAY": display}
            done = subprocess.run(
                [*command, "--show"],
                capture_output=True,
                text=True,
                env=environment,
                timeout=120,
                check=False,
            )
        finally:
            server.terminate()
            server.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert "person 1 still no mask" in done.stdout


def read_all(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                part = file.read(4096)
            except OSError:  # a terminal whose last program has ended
                return
            if not part:
                return
            yield part
