"""`maskwatch data stats, show, split, convert` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_data import draw_faces
from maskwatch.cli.app import main
from maskwatch.cli.datasets import count_table
from maskwatch.data import DetectionSet, Sample, read_data
from maskwatch.data.contact_sheet import contact_sheet
from maskwatch.data.quality.duplicates import find_duplicates, fingerprint
from maskwatch.data.split import split_groups
from maskwatch.data.stats import collect_stats
from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap
from maskwatch.media.images import read_image


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    draw_faces(folder, 20)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as status:
        main(["data", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(status.value.code or 0), captured.out, captured.err


def samples(class_ids: list[list[int]]) -> DetectionSet:
    made = [
        Sample(
            Path(f"{n}.png"),
            None,
            (100, 200),
            np.tile(np.array([10, 10, 30, 50], np.float32), (len(ids), 1)),
            np.array(ids, np.int64),
            np.zeros(len(ids), np.bool_),
        )
        for n, ids in enumerate(class_ids)
    ]
    return DetectionSet(("a", "b", "c"), tuple(made))


# ---- split -----------------------------------------------------------------------------------------------


def test_classes_are_dealt_by_share_and_groups_stay_together() -> None:
    data = samples([[0]] * 70 + [[0, 1]] * 20 + [[2]] * 10)
    groups = [[n, n + 1] if n < 20 else [n] for n in range(100) if n >= 20 or n % 2 == 0]
    shares = {"train": 80.0, "val": 10.0, "test": 10.0}
    dealt = split_groups(data, groups, shares, seed=3)
    assert sorted(index for indices in dealt.values() for index in indices) == list(range(100))
    where = {index: name for name, indices in dealt.items() for index in indices}
    assert all(len({where[index] for index in group}) == 1 for group in groups)
    counts = {name: data.subset(indices).class_counts() for name, indices in dealt.items()}
    assert counts == {
        "train": {"a": 72, "b": 16, "c": 8},
        "val": {"a": 9, "b": 2, "c": 1},
        "test": {"a": 9, "b": 2, "c": 1},
    }
    assert split_groups(data, groups, shares, seed=3) == dealt
    assert split_groups(data, groups, shares, seed=4) != dealt


def test_impossible_splits_are_refused() -> None:
    data = samples([[0]] * 4)
    with pytest.raises(OptionError, match="2 groups of pictures cannot fill 3 splits"):
        split_groups(data, [[0, 1], [2, 3]], {"train": 1, "val": 1, "test": 1})
    with pytest.raises(OptionError, match="not all positive"):
        split_groups(data, [[0], [1], [2], [3]], {"train": 1, "val": 0})


def test_split_copies_and_keeps_duplicates_together(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for file in faces.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
        if file.stem in ("1", "2", "3"):
            (root / f"{file.stem}-again{file.suffix}").write_bytes(file.read_bytes())
    code, out, _ = run(capsys, "split", root, "-o", tmp_path / "out", "--shares", "60,20,20")
    assert code == 0
    assert "6 of 23 pictures have near-duplicates" in out
    sets = {name: read_data(tmp_path / "out", split=name) for name in ("train", "val", "test")}
    assert sum(map(len, sets.values())) == 23
    assert min(map(len, sets.values())) >= 3
    prints = {
        (name, sample.stem): fingerprint(read_image(sample.image_path))
        for name, a_set in sets.items()
        for sample in a_set.samples
    }
    keys = list(prints)
    for pair in find_duplicates(list(prints.values())):
        assert keys[pair.first][0] == keys[pair.second][0]
    code, _, err = run(capsys, "split", root, "-o", tmp_path / "out")
    assert code == 2
    assert "exists already" in err
    code, _, err = run(capsys, "split", root, "-o", tmp_path / "new", "--shares", "80;20")
    assert code == 2
    assert "--shares '80;20' are not two or three positive numbers; write 80,10,10" in err


# ---- stats -----------------------------------------------------------------------------------------------


def test_sides_are_measured_at_network_size() -> None:
    stats = collect_stats({"": samples([[0, 1], [2]])}, 640)
    assert stats.boxes[""] == {"a": 1, "b": 1, "c": 1}
    np.testing.assert_allclose(stats.sides, [np.sqrt(20 * 40) * 3.2] * 3)
    np.testing.assert_allclose(stats.ratios, [0.5] * 3)
    rows = {row["range"]: row["boxes"] for row in stats.as_dict()["sides"]}
    assert rows["90.5 to 128"] == 3
    assert sum(rows.values()) == 3


def test_columns_are_as_wide_as_their_letters() -> None:
    """A letter of East Asia takes two columns of a terminal."""
    boxes = {"train": {"戴口罩": 3, "未戴口罩": 1}}
    lines = list(count_table("split", ["戴口罩", "未戴口罩"], {"train": 4}, boxes, {"train": 2}))
    assert lines == [
        "split   pictures   戴口罩  未戴口罩  ignored",
        "train          4        3         1        2",
    ]


def test_stats_print_draw_and_write(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure, record = tmp_path / "stats.png", tmp_path / "stats.json"
    code, out, _ = run(capsys, "stats", faces, "--figure", figure, "--json", record)
    assert code == 0
    assert "anchors: 32, 45, 64, 91, 128, 181, 256, 362, 512, 724" in out
    with Image.open(figure) as image:
        assert image.width > 600
    document = json.loads(record.read_text())
    assert document["boxes"][""] == {"mask": 20, "no_mask": 20, "mask_incorrect": 0}
    code, out, _ = run(capsys, "stats", faces, "--json", "-")
    assert json.loads(out) == document
    code, _, err = run(capsys, "stats", faces, "--figure", tmp_path / "x.pdf")
    assert code == 2
    assert "write a .png or .svg file" in err
    assert not (tmp_path / "x.pdf").exists()


# ---- show ------------------------------------------------------------------------------------------------


def test_a_sheet_has_a_place_for_each_picture(faces: Path) -> None:
    data = read_data(faces)
    sheet = contact_sheet(data.samples[:5], data.class_names, columns=3, cell=100)
    assert sheet.shape == (2 * (100 + 22 + 6) + 6, 3 * 106 + 6, 3)
    empty = sheet[134:234, 218:318]  # the sixth place
    assert np.unique(empty).tolist() == [245]
    assert np.ptp(sheet[6:106, 6:106]) > 100


def test_show_writes_what_was_asked_for(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "show", faces, "-o", tmp_path / "s.jpg", "--count", 6, "--only", "mask")
    assert code == 0
    assert "6 of 20 pictures" in out
    assert (tmp_path / "s.jpg").stat().st_size > 10_000
    code, _, err = run(capsys, "show", faces, "-o", tmp_path / "t.jpg", "--only", "helmet")
    assert code == 2
    assert "--only 'helmet' is none of mask, no_mask, mask_incorrect" in err
    code, _, err = run(capsys, "show", faces, "-o", tmp_path / "t.jpg", "--only", "mask_incorrect")
    assert code == 2
    assert "no picture to show" in err


# ---- convert ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["voc", "coco", "yolo"])
def test_names_stay_as_written_unless_renamed(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    code, out, _ = run(capsys, "convert", faces, "--to", format, "-o", tmp_path / "a")
    assert code == 0
    assert "all: 20 pictures (20 with_mask, 20 without_mask)" in out
    code, out, _ = run(
        capsys, "convert", tmp_path / "a", "--to", "coco", "-o", tmp_path / "b",
        "--classes", "face=with_mask|without_mask",
    )  # fmt: skip
    assert "all: 20 pictures (40 face)" in out
    merged = read_data(tmp_path / "b", ClassMap(["face"]))
    before = read_data(faces)
    for one, other in zip(merged.samples, before.samples, strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-4)
    code, out, _ = run(
        capsys, "convert", tmp_path / "a", "--to", "voc", "-o", tmp_path / "c",
        "--classes", "bare=without_mask,=with_mask",
    )  # fmt: skip
    assert "all: 20 pictures (20 bare)" in out


def test_bad_targets_and_classes_are_named(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "convert", faces, "--to", "pdf", "-o", tmp_path / "a")
    assert code == 2
    assert "--to 'pdf' is not one of voc, yolo, label-studio, coco, cvat, tfrecord" in err
    code, _, err = run(capsys, "convert", faces, "--to", "coco", "-o", tmp_path / "a", "--classes", "cat")
    assert code == 2
    assert "unknown class 'with_mask'" in err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("above", [False, True])
def test_what_is_read_is_never_replaced(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], above: bool
) -> None:
    """Not even where an earlier command of ours had made it, nor a folder that it lies in."""
    source = tmp_path / "made"
    assert run(capsys, "convert", faces, "--to", "voc", "-o", source)[0] == 0
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    target = tmp_path if above else source
    for command in (
        ("check", source, "--fix", target),
        ("split", source, "-o", target),
        ("convert", source, "--to", "yolo", "-o", target),
    ):
        code, _, err = run(capsys, *command, "--force")
        assert code == 2
        assert "which is read; write somewhere else" in err
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before
