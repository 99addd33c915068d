"""`maskwatch detect`, `maskwatch models` and the frame around all verbs, as a user meets them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import maskwatch
from maskwatch.cli.app import main
from maskwatch.cli.options import parse_names, parse_threshold
from maskwatch.errors import OptionError
from maskwatch.labels import color_rgb
from maskwatch.media.images import read_image

FOUND = "1 mask, 1 no_mask, 1 mask_incorrect"


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_embedded: Path) -> Run:
    """Runs the command line in this process, with tiny models in the place of the embedded ones."""

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def photo(tmp_path: Path, street: np.ndarray) -> Path:
    path = tmp_path / "in" / "street ünï.png"
    path.parent.mkdir()
    Image.fromarray(street).save(path)
    return path


@pytest.fixture
def album(photo: Path) -> Path:
    """A folder with two good pictures, one of them deeper, and four that cannot be read."""
    (photo.parent / "deep").mkdir()
    Image.new("RGB", (1, 1)).save(photo.parent / "deep" / "one.bmp")
    (photo.parent / "empty.jpg").touch()
    (photo.parent / "torn.png").write_bytes(photo.read_bytes()[:-60])
    (photo.parent / "text.webp").write_text("no picture")
    (photo.parent / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photo.parent / "notes.txt").write_text("not looked at")
    return photo.parent


@pytest.fixture
def film(tmp_path: Path, street: np.ndarray) -> Path:
    """Twenty frames: the street, then the street without anything in it."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for index in range(20):
        writer.write(cv2.cvtColor(street, cv2.COLOR_RGB2BGR) if index < 12 else np.zeros_like(street))
    writer.release()
    return path


def test_one_picture(run: Run, photo: Path) -> None:
    done = run("detect", photo)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == ["model: maskwatch-640 (64x64)", f"{photo}: {FOUND}"]
    assert [line.split() for line in lines[4:7]] == [
        ["mask", "1", "1"],
        ["no_mask", "1", "1"],
        ["mask_incorrect", "1", "1"],
    ]
    assert lines[7:] == ["1 picture, 0 skipped", "model: maskwatch-640 (64x64)"]


def test_broken_pictures_are_named_and_the_others_done(run: Run, album: Path) -> None:
    done = run("detect", album, "--json", album.parent / "r.json")
    assert done.code == 1
    assert f"one.bmp: nothing found\n{album}/street ünï.png: {FOUND}" in "\n".join(
        sorted(done.out.splitlines())
    )
    assert "2 pictures, 4 skipped" in done.out
    skipped = sorted(done.err.splitlines())
    assert [line.removeprefix(f"skipped: {album}/").partition(":")[0] for line in skipped] == [
        "empty.jpg",
        "phone.heic",
        "text.webp",
        "torn.png",
    ]
    assert "notes.txt" not in done.out + done.err
    document = json.loads((album.parent / "r.json").read_text("utf-8"))
    assert len(document["results"]) == 2
    assert {"source": f"{album}/empty.jpg", "reason": "the file is empty; get a complete copy of it"} in (
        document["failures"]
    )


def test_drawn_pictures(run: Run, album: Path, tmp_path: Path) -> None:
    assert run("detect", album, "--out", tmp_path / "new/out").code == 1
    written = sorted(str(path.relative_to(tmp_path / "new/out")) for path in (tmp_path / "new").rglob("*.*"))
    assert written == ["deep/one.bmp", "street ünï.png"]
    drawn = read_image(tmp_path / "new/out/street ünï.png")
    assert tuple(drawn[40, 0]) == color_rgb(1)


def test_results_inside_the_source_folder_are_no_sources(run: Run, photo: Path) -> None:
    for _ in range(2):
        done = run("detect", photo.parent, "--out", photo.parent / "out", "--force")
        assert done.code == 0
        assert "1 picture, 0 skipped" in done.out


def test_records_hold_what_the_detector_finds(run: Run, photo: Path, tmp_path: Path) -> None:
    done = run("detect", photo, "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv")
    assert done.code == 0
    document = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert document["model"] == {
        "name": "maskwatch-640",
        "version": "1",
        "classes": ["mask", "no_mask", "mask_incorrect"],
        "thresholds": {"mask": 0.5, "no_mask": 0.4, "mask_incorrect": 0.3},
    }
    (result,) = document["results"]
    assert result["source"] == str(photo)
    assert (result["width"], result["height"]) == (64, 64)
    assert result["detections"] == maskwatch.to_records(maskwatch.Detector()(photo))
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["mask", "no_mask", "mask_incorrect"]
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2")] == result["detections"][0]["box"]


@pytest.mark.parametrize("kind", ["--json", "--csv"])
def test_records_on_standard_output_stand_alone(run: Run, photo: Path, kind: str) -> None:
    done = run("detect", photo, kind, "-")
    assert done.code == 0
    assert f"{photo}: {FOUND}" in done.err
    if kind == "--json":
        assert len(json.loads(done.out)["results"]) == 1
    else:
        assert len(list(csv.DictReader(io.StringIO(done.out)))) == 3


def test_video(run: Run, film: Path, tmp_path: Path) -> None:
    done = run("detect", film, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1].startswith(
        f"{film}: 20 frames: 12 mask, 12 no_mask, 12 mask_incorrect, at most 3 at once"
    )
    assert "1 video, 0 skipped" in done.out
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [result["frame"] for result in results] == list(range(20))
    assert [len(result["detections"]) for result in results] == [3] * 12 + [0] * 8
    assert results[7]["time_s"] == 0.7
    assert results[7]["kind"] == "video"
    capture = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    frames = [capture.read()[1] for _ in range(20)]
    assert not capture.read()[0]
    capture.release()
    red, green, blue = (int(value) for value in frames[5][40, 1][::-1])
    assert red > 150 > green > blue  # the vermilion of no_mask, after the codec


def test_a_video_that_breaks_off_keeps_its_readable_part(
    run: Run, film: Path, photo: Path, tmp_path: Path
) -> None:
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 7 // 10])
    done = run("detect", film, photo, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert done.code == 1
    assert f"skipped: {film}: broken video, only " in done.err
    assert "1 video, 1 picture, 1 skipped" in done.out
    document = json.loads((tmp_path / "r.json").read_text())
    frames = [result["frame"] for result in document["results"] if result["kind"] == "video"]
    assert frames == list(range(len(frames)))
    assert frames
    assert f"only {len(frames)} of 20" in document["failures"][0]["reason"]
    assert (tmp_path / "out/film.mp4").is_file()


def test_a_file_that_is_no_video(run: Run, photo: Path) -> None:
    (photo.parent / "x.mp4").write_bytes(b"x")
    done = run("detect", photo.parent / "x.mp4", photo)
    assert done.code == 1
    assert "neither a picture nor a video" in done.err
    assert FOUND in done.out


def test_threshold_classes_and_overlap(run: Run, photo: Path, tmp_path: Path) -> None:
    assert ": nothing found" in run("detect", photo, "--threshold", "1").out
    assert ": 1 no_mask, 1 mask_incorrect\n" in run("detect", photo, "--threshold", "mask=1").out
    only = run("detect", photo, "--classes", "no_mask, mask", "--json", tmp_path / "r.json")
    assert ": 1 mask, 1 no_mask\n" in only.out
    assert "mask_incorrect" not in only.out
    found = json.loads((tmp_path / "r.json").read_text())["results"][0]["detections"]
    assert [one["class"] for one in found] == ["mask", "no_mask"]
    yellow = np.zeros((64, 64, 3), np.uint8)
    yellow[16:32, 16:32] = (255, 200, 0)
    Image.fromarray(yellow).save(photo)
    assert ": 1 no_mask\n" in run("detect", photo).out
    assert ": 1 mask, 1 no_mask\n" in run("detect", photo, "--per-class-nms").out


def test_model_and_size(run: Run, photo: Path, tiny_model: Path, tmp_path: Path) -> None:
    for options, name in (
        (["--size", "32"], "maskwatch-320"),
        (["--model", "maskwatch-320"], "maskwatch-320"),
        (["--model", tiny_model], "tiny"),
    ):
        assert run("detect", photo, *options, "--json", tmp_path / "r.json", "--force").code == 0
        assert json.loads((tmp_path / "r.json").read_text())["model"]["name"] == name


def test_standard_input(run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(photo.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    done = run("detect", "-", "--out", tmp_path / "out")
    assert done.code == 0
    assert f"\n-: {FOUND}\n" in done.out
    assert (tmp_path / "out/stdin.png").is_file()


def test_existing_results_stay_without_force(run: Run, photo: Path, tmp_path: Path) -> None:
    for options in (
        ["--out", tmp_path / "out"],
        ["--json", tmp_path / "r.json"],
        ["--csv", tmp_path / "r.csv"],
    ):
        assert run("detect", photo, *options).code == 0
        again = run("detect", photo, *options)
        assert again.code == 2
        assert "exists already" in again.err
        assert "--force" in again.err
        assert again.out == ""  # said before any work
        assert run("detect", photo, *options, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg"], "'gone.jpg': no such file or folder; check the path"),
        (["gone/*.jpg"], "the pattern matches no file"),
        (["rtsp://camera"], "only http and https"),
        (["PHOTO", "--model", "PHOTO"], "this is not an ONNX file; pass one that maskwatch export wrote"),
        (["PHOTO", "--model", "huge"], "no model 'huge': .*there are: maskwatch-640, maskwatch-320"),
        (["PHOTO", "--size", "640"], "no embedded model has size 640; .*: 32, 64"),
        (["PHOTO", "--size", "32", "--model", "tiny"], "give only one"),
        (["PHOTO", "--threshold", "2"], "threshold is 2.0; pass a number from 0 to 1"),
        (["PHOTO", "--threshold", "high"], "--threshold 'high' is not a number; write 0.5"),
        (["PHOTO", "--threshold", "helmet=0.5"], "class 'helmet', which maskwatch-640 does not have"),
        (["PHOTO", "--classes", "helmet"], "no class 'helmet'; use some of mask, no_mask"),
        (["PHOTO", "--classes", ","], "no class without a name"),
        (["PHOTO", "--threads", "0"], "threads is 0"),
        (["PHOTO", "--out", "PHOTO"], "this is a file, not a folder"),
        (["PHOTO", "--out", "FOLDER", "--force"], "would overwrite a source"),
        (["PHOTO", "--json", "FOLDER"], "this is a folder; name a file"),
        (["PHOTO", "--json", "gone/r.json"], "the folder gone does not exist; create it first"),
        (["PHOTO", "--json", "-", "--csv", "-"], "--json and --csv both write to -"),
        (["PHOTO", "--json", "PHOTO", "--force"], "would overwrite a source"),
    ],
)
def test_one_line_says_what_is_wrong(
    run: Run, photo: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = photo.read_bytes()
    names = {"PHOTO": str(photo), "FOLDER": str(photo.parent)}
    done = run("detect", *(names.get(argument, argument) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert re.search(message, done.err)
    assert photo.read_bytes() == before


def test_an_unwritable_folder(run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for options in (["--out", tmp_path / "out"], ["--json", tmp_path / "r.json"]):
        done = run("detect", photo, *options)
        assert done.code == 2
        assert "no permission to write here; choose another place" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
def test_a_full_disk(run: Run, photo: Path) -> None:
    done = run("detect", photo, "--json", "/dev/full")
    assert done.code == 2
    assert "error: /dev/full: cannot be written (No space left on device)" in done.err


def test_models(run: Run, tiny_embedded: Path) -> None:
    done = run("models")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 4
    assert "mask 0.50, no_mask 0.40, mask_incorrect 0.30" in lines[1]
    assert lines[1].startswith("maskwatch-640  64x64  float32")
    assert lines[2].endswith(str(tiny_embedded / "maskwatch-320.onnx"))


def test_models_of_files_say_what_is_in_int8(run: Run, tmp_path: Path) -> None:
    from tiny_model import metadata, write_tiny_model

    about = dataclasses.replace(metadata(), precision="int8", quantised_on="door: 9 pictures")
    write_tiny_model(tmp_path / "door.onnx", about)
    done = run("models", tmp_path / "door.onnx")
    lines = done.out.splitlines()
    assert lines[1].startswith("tiny  64x64  int8 ")
    assert lines[2] == f"{tmp_path / 'door.onnx'}: ranges of values from door: 9 pictures"
    assert "no model 'none.onnx'" in run("models", "none.onnx").err


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"maskwatch {maskwatch.__version__}\n"
    assert all(verb in run("--help").out for verb in ("detect", "models"))
    assert "--per-class-nms" in run("detect", "--help").out
    wrong = run("detect", "a.jpg", "--tresh", "0.5")
    assert wrong.code == 2
    assert "No such option: --tresh" in wrong.err


def test_a_defect_keeps_its_traceback(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr("maskwatch.media.sources.Source.read", broken)
    with pytest.raises(RuntimeError, match="defect"):
        main(["detect", str(photo)])


def test_threshold_texts() -> None:
    assert parse_threshold(None) is None
    assert parse_threshold("0.25") == 0.25
    assert parse_threshold("mask=0.5, no_mask = .2") == {"mask": 0.5, "no_mask": 0.2}
    assert parse_threshold("a=b=0.5") == {"a=b": 0.5}  # a name may hold the sign
    for text in ("", "a", "mask=", "mask=0.5,", "mask=0.5=x"):
        with pytest.raises(OptionError, match=r"write 0\.5, or mask=0.6"):
            parse_threshold(text)
    assert parse_names("a, b,") == ("a", "b")


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """Starts the command line as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(maskwatch.__file__).parents[1])}
    command = [sys.executable, "-c", "from maskwatch.cli.app import main; main()", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, env=environment, **streams)  # type: ignore[call-overload, no-any-return]


def test_interrupted(tiny_model: Path, photo: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"  # nobody writes to it, so that the work waits here
    os.mkfifo(pipe)
    process = start("detect", photo, pipe, "--model", tiny_model, "--json", tmp_path / "r.json")
    assert process.stdout is not None
    assert FOUND in [process.stdout.readline().decode() for _ in range(2)][1]
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == (b"", b"")
    assert not [path.name for path in tmp_path.iterdir() if "r." in path.name or "part" in path.name]


def test_interrupted_among_many_pictures(tiny_model: Path, photo: Path, tmp_path: Path) -> None:
    for number in range(400):
        photo.with_name(f"{number}.png").hardlink_to(photo)
    process = start("detect", photo.parent, "--model", tiny_model, "--json", tmp_path / "r.json")
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert not [path.name for path in tmp_path.iterdir() if "r." in path.name or "part" in path.name]


def test_many_pictures_are_computed_on_a_core_each(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        photo.with_name(f"{number}.png").write_bytes(photo.read_bytes())
    photo.with_name("1.png").write_bytes(b"no picture")
    texts = {}
    for cores in (1, 4):
        for module in ("runtimes.choice", "detector", "cli.detect_runner"):
            monkeypatch.setattr(f"maskwatch.{module}.usable_cores", lambda cores=cores: cores)
        done = run(
            "detect", photo.parent, "--json", tmp_path / f"{cores}.json", "--out", tmp_path / str(cores)
        )
        assert done.code == 1
        texts[cores] = done.out, done.err, (tmp_path / f"{cores}.json").read_text("utf-8")
    assert texts[1] == texts[4]
    assert [line.split(": ")[0][-5:] for line in texts[4][0].splitlines()[1:4]] == ["0.png", "2.png", "ï.png"]


@pytest.mark.parametrize("data", ["file", "stdin"])
def test_records_of_a_large_jpeg_are_the_same_with_an_annotated_copy(
    run: Run, street: np.ndarray, tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(street).resize((3840, 3840)).save(path)
    source = str(path)
    records = []
    for options in ([], ["--out", tmp_path / "out", "--blur"]):
        if data == "stdin":
            source = "-"
            monkeypatch.setattr("maskwatch.media.sources.read_stdin", path.read_bytes)
        done = run("detect", source, "--json", "-", *options)
        assert done.code == 0
        records.append(json.loads(done.out)["results"])
    assert records[0] == records[1]
    assert records[0][0]["width"] == 3840
    (drawn,) = (tmp_path / "out").iterdir()
    assert Image.open(drawn).size == (3840, 3840)


def test_a_reader_that_stops_reading(tiny_model: Path, photo: Path) -> None:
    process = start("detect", photo, photo.parent, "--model", tiny_model, "--json", "-")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    assert process.wait(30) == 1
    assert "Traceback" not in err
    process.stderr.close()


def test_a_name_that_the_terminal_cannot_show(tiny_model: Path, photo: Path) -> None:
    path = photo.with_name(os.fsdecode(b"b\xff \xe2\x98\x83.png"))
    path.write_bytes(photo.read_bytes())
    process = start("detect", path, "--model", tiny_model, "--json", "-")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["results"][0]["source"].endswith("b\\xff ☃.png")
    assert FOUND.encode() in err


def test_bar_on_a_terminal_and_plain_lines_on_a_pipe(tiny_model: Path, album: Path, film: Path) -> None:
    pty = pytest.importorskip("pty")
    plain, _ = start("detect", album, film, "--model", tiny_model).communicate(timeout=30)
    assert b"\x1b" not in plain
    assert "━".encode() not in plain
    leader, follower = pty.openpty()
    process = start("detect", album, film, "--model", tiny_model, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(leader)
    assert process.wait(30) == 1
    text = shown.decode()
    assert "━" in text
    assert "7/7" in text or "0/7" in text
    assert f"street ünï.png: {FOUND}" in text
