"""Corrections of labels: what each fault does, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drawn_data import draw_faces
from maskwatch.cli.app import main
from maskwatch.data import DetectionSet, Sample, correct, read_corrections
from maskwatch.errors import DataError
from maskwatch.labels import MASK_CLASSES, ClassMap

HEAD = "picture,fault,class,xmin,ymin,xmax,ymax\n"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def two_faces() -> DetectionSet:
    boxes = np.array([[10, 10, 30, 40], [50, 10, 70, 40]], np.float32)
    sample = Sample(Path("a.jpg"), Path("a.xml"), (60, 100), boxes, np.array([0, 1]), np.array([True, False]))
    other = Sample(Path("b.jpg"), None, (60, 100), boxes[:0], np.empty(0, np.int64), np.empty(0, np.bool_))
    return DetectionSet(MASK_CLASSES, (sample, other))


def corrected(a_set: DetectionSet, tmp_path: Path, *lines: str) -> DetectionSet:
    path = tmp_path / "c.csv"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return correct(a_set, read_corrections(path))


def test_each_fault_changes_what_it_says(two_faces: DetectionSet, tmp_path: Path) -> None:
    after = corrected(
        two_faces,
        tmp_path,
        "a,class,with_incorrect_mask,10,10,30,40",
        "a,box,mask,52,12,74,44",
        "a,missing,no_mask,80,20,120,50",
        "b,missing,mask,1,2,3,4.5",
        "elsewhere,missing,mask,1,2,3,4",
    )
    first, second = after.samples
    np.testing.assert_array_equal(first.boxes_xyxy, [[10, 10, 30, 40], [52, 12, 74, 44], [80, 20, 100, 50]])
    assert first.class_ids.tolist() == [2, 0, 1]
    assert first.difficult.tolist() == [True, False, False]
    assert second.boxes_xyxy.tolist() == [[1, 2, 3, 4.5]]
    assert two_faces.samples[0].class_ids.tolist() == [0, 1], "the set that was given stays as it is"


def test_a_label_of_no_face_goes(two_faces: DetectionSet, tmp_path: Path) -> None:
    (first, _) = corrected(two_faces, tmp_path, "a,no_face,,10,10,30,40").samples
    assert first.class_ids.tolist() == [1]
    assert first.boxes_xyxy.shape == (1, 4)
    assert first.difficult.tolist() == [False]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,class,mask,10,10,30", "has 6 columns"),
        ("a,colour,mask,10,10,30,40", "fault 'colour' is not one of class, box, missing, no_face"),
        ("a,class,maks,10,10,30,40", "did you mean 'mask'"),
        ("a,class,mask,10,ten,30,40", "are not numbers"),
        ("a,class,mask,10,nan,30,40", "span no box"),
        ("a,missing,mask,30,10,10,40", "span no box"),
        ("a,class,mask,80,10,99,40", "no label at 80, 10, 99, 40"),
        ("a,no_face,,80,10,99,40", "no label at"),
        ("b,box,mask,10,10,30,40", "no label at"),
        ("a,missing,mask,200,10,220,40", "outside the picture of 100x60"),
    ],
)
def test_every_mistake_names_its_line(
    two_faces: DetectionSet, tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(DataError, match=r"c\.csv:3") as error:
        corrected(two_faces, tmp_path, "a,class,mask,10,10,30,40", line)
    assert message in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("picture;fault\n")
    with pytest.raises(DataError, match="first line must be picture,fault"):
        read_corrections(tmp_path / "c.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "none.csv")
    (tmp_path / "c.csv").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_corrections(tmp_path / "c.csv")


def test_classes_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(HEAD + "a,class,Hat,1,1,2,2\n")
    (one,) = read_corrections(tmp_path / "c.csv", ClassMap.parse("head,helmet=hat"))
    assert one.class_id == 1


def test_train_says_that_none_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="training needs it")
    draw_faces(tmp_path / "data", 4)
    (tmp_path / "c.csv").write_text(HEAD + "nobody,missing,mask,1,1,9,9\n")
    with pytest.raises(SystemExit) as end:
        main(["train", str(tmp_path / "data"), "--corrections", str(tmp_path / "c.csv")])
    assert end.value.code == 2
    assert "corrects none of these pictures" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_files_in_the_repository_fit_the_shared_data(part: str) -> None:
    folder = ROOT.parent / "shared" / "data" / "masks" / part
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    from maskwatch.data import read_data

    before = read_data(folder)
    after = correct(before, read_corrections(ROOT / "corrections" / f"{part}.csv"))
    assert after.class_counts() != before.class_counts()


@pytest.mark.parametrize("end", ["\r\n", ";;\r\n"])
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "ascii"])
def test_a_file_that_a_spreadsheet_saved(
    two_faces: DetectionSet, tmp_path: Path, codec: str, end: str
) -> None:
    """In a language whose decimal sign is the comma, with empty columns at the end."""
    rows = (HEAD.strip().replace(",", ";"), "a; box ;mask;52,5;12;74;44,25", "b;missing;mask;1,5;2;3;4")
    (tmp_path / "c.csv").write_bytes("".join(row + end for row in rows).encode(codec))
    first, second = correct(two_faces, read_corrections(tmp_path / "c.csv")).samples
    assert first.boxes_xyxy.tolist() == [[10, 10, 30, 40], [52.5, 12, 74, 44.25]]
    assert second.boxes_xyxy.tolist() == [[1.5, 2, 3, 4]]


def test_a_column_too_many_is_told(two_faces: DetectionSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 8 columns"):
        corrected(two_faces, tmp_path, "a,class,mask,10,10,30,40,1")
