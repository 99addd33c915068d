"""What of the cluster's command line and files needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def run(*arguments: object) -> int:
    from maskwatch.cli.app import main

    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_without_the_extra_one_line_names_it(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(name='ray')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from maskwatch.cli.app import main
main(["detect", {str(photo)!r}, "--ray", "local"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: computing on a cluster needs the 'ray' extra; run: pip install 'maskwatch[ray]'\n"
    )


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no cluster answers (Connection refused); check host and port"),
        ("nowhere", "'nowhere' is not an address of a cluster; write local, auto, or host:port"),
        ("ray://127.0.0.1:1", "no cluster answers"),
    ],
)
def test_a_wrong_address_is_one_line(
    address: str, says: str, photo: Path, tiny_embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    assert run("detect", photo, "--ray", address) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --ray {address[:4]}" if says[0] != "'" else "error: --ray 'nowhere'")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--parquet", "out"), "--parquet is for a cluster; add --ray local"),
        (("--resume",), "--resume is for a cluster"),
        (("--ray", "local", "--out", "drawn"), "--out and --blur write on this machine"),
        (("--ray", "local", "--resume"), "add --parquet DIR or --jsonl DIR"),
        (("--ray", "local", "--parquet", "a", "--jsonl", "b"), "two formats of one result"),
        (("--ray", "local", "--parquet", "a", "--json", "b"), "choose"),
    ],
)
def test_options_that_do_not_fit(
    options: tuple[str, ...], says: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("detect", photo, *options) == 2
    assert says in capsys.readouterr().err


def test_storage_of_fsspec_is_listed_read_and_written(photo: Path) -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    from maskwatch.cluster.storage import list_files, open_storage, read_file, write_whole
    from maskwatch.errors import SourceError

    for name in ("b.png", "deep/a.PNG", "notes.txt", ".hidden.png"):
        write_whole(*open_storage(f"memory://album/{name}"), name.encode())
    wanted = frozenset([".png"])
    assert list_files("memory://album", wanted) == ["memory://album/b.png", "memory://album/deep/a.PNG"]
    assert list_files("memory://album/*a.PNG", wanted) == ["memory://album/deep/a.PNG"]
    assert list_files("memory://album/b.png", wanted) == ["memory://album/b.png"]
    assert read_file("memory://album/deep/a.PNG") == b"deep/a.PNG"
    with pytest.raises(SourceError, match="memory://album/none"):
        read_file("memory://album/none.png")
    with pytest.raises(SourceError, match="check the scheme"):
        open_storage("nosuch://album")


def test_a_file_shows_when_it_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    from maskwatch.cluster.storage import open_storage, write_whole

    target = tmp_path / "part.parquet"
    write_whole(*open_storage(str(target)), b"one")
    write_whole(*open_storage(str(target)), b"two")
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]


def test_keys_tell_parts_of_one_video_apart() -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    import numpy as np

    from maskwatch.cluster.rows import keys_of, not_among, work_table

    table = work_table([{"source": "a.mp4"}, {"source": "a.mp4", "part": 250}, {"source": "b.jpg"}])
    keys = keys_of(table)
    assert len(np.unique(keys)) == 3
    left = not_among(table, np.sort(keys[[0, 2]]))
    assert left.select(["source", "part"]).to_pylist() == [{"source": "a.mp4", "part": 250}]
    assert not_among(table, np.array([], keys.dtype)) == table


def test_a_pickled_detector_carries_its_model(tiny_model: Path, tmp_path: Path, photo: Path) -> None:
    import pickle

    from maskwatch.detector import Detector

    model = tmp_path / "mine.onnx"
    model.write_bytes(tiny_model.read_bytes())
    detector = Detector(model, threshold=0.25, threads=1)
    data = pickle.dumps(detector)
    model.unlink()
    other = pickle.loads(data)
    assert (other.thresholds, other.workers, other.metadata) == (
        detector.thresholds,
        detector.workers,
        detector.metadata,
    )
    assert other.detect_boxes(photo).xyxy.shape == (0, 4)


def test_the_benchmark_makes_different_names_of_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark_module import load_benchmark

    benchmark = load_benchmark("cluster", monkeypatch)
    for number in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "in" / f"{number}.jpg")
    (tmp_path / "made").mkdir()
    pictures = benchmark.make_links(tmp_path / "made", [tmp_path / "in"], 1005)
    made = sorted(pictures.rglob("*.jpg"))
    assert [path.parent.name for path in made[:1] + made[-5:]] == ["00000", *["00001"] * 5]
    assert (len(made), len({path.stat().st_ino for path in made})) == (1005, 3)
