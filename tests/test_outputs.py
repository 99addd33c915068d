"""Where results go, and that nothing is overwritten or left half written."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePath

import pytest

from maskwatch.errors import OutputError
from maskwatch.media.sources import Source, plan_targets
from maskwatch.outputs import (
    atomic_write,
    check_targets,
    is_still_at,
    make_folder,
    new_file,
    new_folder,
    output_errors,
)


def source(relative: str, kind: str = "picture", path: Path | None = None) -> Source:
    return Source(relative, kind, PurePath(relative), path or Path("in", relative))  # type: ignore[arg-type]


def test_targets_keep_folders_and_formats() -> None:
    sources = [
        source("a.jpg"),
        source("deep/b.TIFF"),
        source("c.gif"),
        source("stdin"),
        source("v.avi", "video"),
    ]
    targets = plan_targets(sources, Path("out"))
    assert [str(target) for target in targets.values()] == [
        "out/a.jpg",
        "out/deep/b.TIFF",
        "out/c.png",
        "out/stdin.png",
        "out/v.mp4",
    ]


def test_targets_never_collide() -> None:
    sources = [
        source("a.jpg", path=Path("x/a.jpg")),
        source("a.jpg", path=Path("y/a.jpg")),
        source("A.JPG", path=Path("z/A.JPG")),
        source("v.avi", "video"),
        source("v.mp4", "video"),
        source("c.png"),
        source("c.gif"),
    ]
    targets = [str(target) for target in plan_targets(sources, Path("out")).values()]
    assert targets == [
        f"out/{name}" for name in ["a.jpg", "a-2.jpg", "A-3.JPG", "v.mp4", "v-2.mp4", "c.png", "c-2.png"]
    ]


def test_existing_files_need_force(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    check_targets(files, [], force=False)
    files[0].touch()
    with pytest.raises(OutputError, match=r"a\.jpg: exists already; .*--force"):
        check_targets(files, [], force=False)
    files[2].touch()
    with pytest.raises(OutputError, match=r"a\.jpg and 1 more: exists already"):
        check_targets(files, [], force=False)
    check_targets(files, [], force=True)


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.touch()
    (tmp_path / "link.jpg").symlink_to(photo)
    for target in (photo, tmp_path / "x/../a.jpg", tmp_path / "link.jpg"):
        with pytest.raises(OutputError, match="would overwrite a source"):
            check_targets([target], [photo], force=True)


def test_targets_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "folder": "this is a folder",
        tmp_path / "file/a.jpg": "this is a file, not a folder",
        tmp_path / ("a" * 5000): "cannot be written",
    }
    for target, message in cases.items():
        with pytest.raises(OutputError, match=message):
            check_targets([target], [], force=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission to write here"):
        check_targets([tmp_path / "deep/er/a.jpg"], [], force=True)


def test_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    for name, message in (
        ("file", "a file is in the way"),
        ("file/x", "cannot create"),
        ("a" * 300, "too long"),
    ):
        with pytest.raises(OutputError, match=message):
            make_folder(tmp_path / name)


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.suffix == ".json"
    assert path.read_text() == "new"

    def interrupted() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_an_old_folder_stays_until_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"

    def write(text: str) -> None:
        with new_folder(path, force=True) as part:
            (part / "a.txt").write_text(text)

    write("old")
    replace = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OutputError, match="No space left"):
            write("new")
    assert Path.replace is replace
    assert (path / "a.txt").read_text() == "old"
    write("new")
    assert (path / "a.txt").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_errors_name_the_file_but_a_closed_pipe_is_none() -> None:
    with (
        pytest.raises(OutputError, match=r"a\.json: cannot be written .No space left on device"),
        output_errors(Path("a.json")),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(BrokenPipeError), output_errors(Path("-")):
        raise BrokenPipeError


def test_a_new_file_makes_its_folder_and_is_named_in_errors(tmp_path: Path) -> None:
    with new_file(tmp_path / "deep/er/a.txt") as part:
        part.write_text("x")
    assert (tmp_path / "deep/er/a.txt").read_text() == "x"
    with (
        pytest.raises(OutputError, match=r"b\.txt: cannot be written \(full\)"),
        new_file(tmp_path / "b.txt"),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert not (tmp_path / "b.txt").exists()


def test_a_moved_file_is_no_longer_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    status = path.stat()
    assert is_still_at(path, status)
    path.rename(tmp_path / "events.jsonl.1")
    assert not is_still_at(path, status)
    path.touch()
    assert not is_still_at(path, status)
