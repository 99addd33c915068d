from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwatch.data import DetectionSet, read_data, read_voc
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap
from maskwatch.media.images import read_image

SIZE_WH = (40, 30)
Corners = tuple[object, object, object, object]


def picture(path: Path, size_wh: tuple[int, int] = SIZE_WH, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.new("RGB", size_wh, (90, 120, 60)).save(path, exif=exif)
    return path


def obj(name: str = "with_mask", box: Corners = (5, 6, 20, 25), difficult: int = 0) -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def annotation(
    path: Path, *objects: str, size_wh: tuple[object, object] | None = SIZE_WH, filename: str = ""
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{size_wh[0]}</width><height>{size_wh[1]}</height></size>" if size_wh else ""
    name = f"<filename>{filename}</filename>" if filename else ""
    path.write_text(f"<annotation>{name}{size}{''.join(objects)}</annotation>", encoding="utf-8")
    return path


def pair(folder: Path, stem: str, *objects: str, suffix: str = ".jpg") -> None:
    picture(folder / f"{stem}{suffix}")
    annotation(folder / f"{stem}.xml", *objects)


def problems_of(call: Callable[[], DetectionSet]) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        call()
    return error.value.problems


def only_problem(folder: Path) -> str:
    problems = problems_of(lambda: read_voc(folder))
    assert len(problems) == 1, problems
    return problems[0]


def test_reads_boxes_classes_and_size(tmp_path: Path) -> None:
    pair(tmp_path, "b", obj("No Mask", (1, 2, 3.5, 4)), obj("with_mask", (5, 6, 20, 25), difficult=1))
    pair(tmp_path, "a")
    read = read_voc(tmp_path)
    assert read.class_names == ("mask", "no_mask", "mask_incorrect")
    empty, full = read.samples
    assert (empty.stem, full.stem) == ("a", "b")
    assert empty.boxes_xyxy.shape == (0, 4)
    assert full.image_path == tmp_path / "b.jpg"
    assert full.annotation_path == tmp_path / "b.xml"
    assert full.size_hw == (30, 40)
    np.testing.assert_array_equal(full.boxes_xyxy, np.array([[1, 2, 3.5, 4], [5, 6, 20, 25]], np.float32))
    assert (full.boxes_xyxy.dtype, full.class_ids.dtype) == (np.float32, np.int64)
    assert full.class_ids.tolist() == [1, 0]
    assert full.difficult.tolist() == [False, True]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png", ".PNG", ".bmp", ".webp", ".tif", ".TIFF"])
def test_reads_pictures_of_every_kind_and_case(tmp_path: Path, suffix: str) -> None:
    pair(tmp_path, "a", obj(), suffix=suffix)
    (tmp_path / "a.xml").rename(tmp_path / "a.XML")
    assert read_voc(tmp_path).class_counts()["mask"] == 1


@pytest.mark.parametrize(
    ("pictures", "xmls"), [("JPEGImages", "Annotations"), ("images", "annotations"), (".", "Annotations")]
)
def test_reads_the_layout_of_the_voc_archives(tmp_path: Path, pictures: str, xmls: str) -> None:
    picture(tmp_path / pictures / "a.png")
    annotation(tmp_path / xmls / "a.xml", obj())
    assert [s.stem for s in read_voc(tmp_path).samples] == ["a"]


def test_a_split_restricts_to_its_list(tmp_path: Path) -> None:
    for stem in "abc":
        picture(tmp_path / "JPEGImages" / f"{stem}.jpg")
        annotation(tmp_path / "Annotations" / f"{stem}.xml", obj())
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("c\na  1\n\n", encoding="utf-8")
    assert [s.stem for s in read_voc(tmp_path, split="val").samples] == ["a", "c"]
    assert [s.stem for s in read_voc(tmp_path, split="val", image_ids=["c", "b"]).samples] == ["c"]
    assert "no split 'test', it has val" in problems_of(lambda: read_voc(tmp_path, split="test"))[0]


def test_the_stem_comes_before_the_filename(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    annotation(tmp_path / "a.xml", obj(), filename="b.jpg")
    annotation(tmp_path / "b.xml", filename="a.jpg")
    assert [(s.stem, s.image_path.name, len(s)) for s in read_voc(tmp_path).samples] == [
        ("a", "a.jpg", 1),
        ("b", "b.jpg", 0),
    ]


@pytest.mark.parametrize(
    "filename", ["photo.jpg", "C:\\work\\photo.jpg", "/home/me/photo.jpg", "../photo.jpg"]
)
def test_the_filename_finds_the_picture_within_the_folder(tmp_path: Path, filename: str) -> None:
    picture(tmp_path / "set" / "photo.jpg")
    picture(tmp_path / "photo.jpg", (7, 7))
    annotation(tmp_path / "set" / "notes.xml", obj(), filename=filename)
    (one,) = read_voc(tmp_path / "set").samples
    assert one.image_path == tmp_path / "set" / "photo.jpg"


def test_two_annotations_of_one_picture_are_reported(tmp_path: Path) -> None:
    pair(tmp_path, "z", obj())
    annotation(tmp_path / "a.xml", obj(), filename="z.jpg")
    assert "a.xml: z.jpg is annotated by z.xml already" in only_problem(tmp_path)


def test_two_pictures_of_one_stem_are_reported(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj())
    picture(tmp_path / "a.png")
    assert "several pictures have its name: a.jpg, a.png" in only_problem(tmp_path)


def test_leftovers_of_macos_are_no_pictures(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj())
    (tmp_path / "._a.jpg").write_bytes(b"\0")
    assert len(read_voc(tmp_path)) == 1


def test_classes_map_and_leave_out(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj("Hard Hat"), obj("person", ("x", 0, 0, 0)), obj("head"))
    read = read_voc(tmp_path, ClassMap.parse("helmet=hard_hat,head,=person"))
    assert read.class_counts() == {"helmet": 1, "head": 1}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_size_is_that_of_the_picture_as_shown(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = picture(tmp_path / f"a{suffix}", SIZE_WH, orientation)
    annotation(tmp_path / "a.xml", obj(box=(2, 3, 20, 29)), size_wh=None)
    (one,) = read_voc(tmp_path).samples
    assert one.size_hw == ((40, 30) if orientation >= 5 else (30, 40))
    assert one.size_hw == read_image(path).shape[:2]


def test_a_png_that_tells_its_orientation_at_the_end_is_seen_turned(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    raw = path.read_bytes()
    path.write_bytes(raw[:-12] + chunk + raw[-12:])  # the last 12 bytes are the chunk IEND
    annotation(tmp_path / "a.xml", size_wh=None)
    (one,) = read_voc(tmp_path).samples
    assert one.size_hw == read_image(tmp_path / "a.png").shape[:2] == (40, 30)


def test_boxes_of_the_unrotated_picture_are_told_apart(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", SIZE_WH, orientation=6)
    annotation(tmp_path / "a.xml", obj(), size_wh=SIZE_WH)
    problem = only_problem(tmp_path)
    assert "says 40 x 30, the picture is shown at 30 x 40, because EXIF orientation 6" in problem
    assert "unrotated picture" in problem


def test_a_size_of_another_picture_is_reported_once(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    annotation(tmp_path / "a.xml", obj(box=(50, 50, 90, 70)), size_wh=(100, 80))
    assert "says 100 x 80, the picture is shown at 40 x 30: drawn on another" in only_problem(tmp_path)


def test_an_absent_or_zero_size_says_nothing(tmp_path: Path) -> None:
    for stem, size_wh in {"a": None, "b": (0, 0), "c": ("", "")}.items():
        picture(tmp_path / f"{stem}.jpg")
        annotation(tmp_path / f"{stem}.xml", obj(), size_wh=size_wh)
    assert read_voc(tmp_path).class_counts()["mask"] == 3


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-2, -2, 42, 32), (0, 0, 40, 30)),
        ((0, 0, 40, 30), (0, 0, 40, 30)),
        ((38, 28, 41.5, 31.9), (38, 28, 40, 30)),
    ],
)
def test_boxes_a_little_over_the_border_are_clipped(tmp_path: Path, box: Corners, expected: Corners) -> None:
    pair(tmp_path, "a", obj(box=box))
    np.testing.assert_array_equal(read_voc(tmp_path).samples[0].boxes_xyxy, np.array([expected], np.float32))


def test_on_a_large_picture_one_percent_is_a_little(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (1000, 100))
    annotation(tmp_path / "a.xml", obj(box=(-10, 0, 1010, 102)), size_wh=None)
    assert read_voc(tmp_path).samples[0].boxes_xyxy.tolist() == [[0, 0, 1000, 100]]
    annotation(tmp_path / "a.xml", obj(box=(-11, 0, 50, 50)), size_wh=None)
    assert "sticks out" in only_problem(tmp_path)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((20, 6, 5, 25), "inverted"),
        ((5, 25, 20, 6), "inverted"),
        ((5, 6, 5, 25), "no area"),
        ((5, 6, 20, 6), "no area"),
        (("five", 6, 20, 25), "xmin five.*not made of four numbers"),
        (("", 6, 20, 25), "xmin missing.*not made of four numbers"),
        (("nan", 6, 20, 25), "not made of four numbers"),
        ((5, 6, "inf", 25), "not made of four numbers"),
        ((40, 6, 60, 25), "lies outside"),
        ((-9, 6, 0, 25), "lies outside"),
        ((5, -9, 20, 0), "lies outside"),
        ((5, 6, 43, 25), "sticks out of the picture of 40 x 30"),
        ((5, -2.5, 20, 25), "sticks out"),
    ],
)
def test_a_bad_box_is_named_with_file_object_and_value(tmp_path: Path, box: Corners, reason: str) -> None:
    pair(tmp_path, "a", obj(), obj("without_mask", box))
    problem = only_problem(tmp_path)
    assert problem.startswith(f"{tmp_path / 'a.xml'}: object 2 (without_mask): box xmin")
    assert re.search(reason, problem)


def test_an_object_without_a_box_is_named(tmp_path: Path) -> None:
    pair(tmp_path, "a", "<object><name>mask</name><robndbox/></object>")
    assert "object 1 (mask): box xmin missing" in only_problem(tmp_path)


def test_an_unknown_class_comes_with_the_nearest_and_its_objects(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj("with_maks"), obj(), obj("with_maks"))
    problem = only_problem(tmp_path)
    assert "a.xml: objects 1, 3: unknown class 'with_maks'; did you mean 'with_mask'?" in problem
    annotation(tmp_path / "a.xml", "<object><bndbox/></object>")
    assert any("object 1: no <name>" in p for p in problems_of(lambda: read_voc(tmp_path)))


def test_a_picture_without_xml_says_how_to_mend_it(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj())
    picture(tmp_path / "b.jpg")
    problem = only_problem(tmp_path)
    assert "b.jpg: no XML file belongs to it" in problem
    assert "write b.xml holding <annotation></annotation>" in problem
    (tmp_path / "b.xml").write_text("<annotation></annotation>", encoding="utf-8")
    assert [len(s) for s in read_voc(tmp_path).samples] == [1, 0]


def test_xml_without_a_picture_is_reported(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj())
    annotation(tmp_path / "b.xml", obj(), filename="gone.jpg")
    assert "b.xml: no picture b.*, nor gone.jpg; add it" in only_problem(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<annotation><object></annotation>", "mismatched tag"),
        (b"\xff\xfe\x00", "not readable as XML"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "not readable as XML"),
        (b"<html/>", "holds <html>, not <annotation>"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'.encode("utf-16"), "DOCTYPE"),
    ],
)
def test_unusable_xml_is_reported_once(tmp_path: Path, content: bytes, reason: str) -> None:
    pair(tmp_path, "a", obj())
    (tmp_path / "a.xml").write_bytes(content)
    assert reason in only_problem(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"GIF", "not a picture"), (b"\xff\xd8\xff", "not a picture")],
)
def test_an_unreadable_picture_is_reported(tmp_path: Path, content: bytes, reason: str) -> None:
    pair(tmp_path, "a", obj())
    (tmp_path / "a.jpg").write_bytes(content)
    problem = only_problem(tmp_path)
    assert re.search(f"a.jpg: .*{reason}.*; replace it or remove it", problem)


def test_every_fault_of_every_file_comes_at_once(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj(box=(9, 9, 1, 1)), obj(box=(5, 5, 5, 5)))
    pair(tmp_path, "b", obj("cat"))
    picture(tmp_path / "c.jpg")
    annotation(tmp_path / "d.xml")
    pair(tmp_path, "e")
    (tmp_path / "e.jpg").write_bytes(b"")
    problems = problems_of(lambda: read_voc(tmp_path))
    named = sorted(Path(problem.split(": ")[0]).name for problem in problems)
    assert named == ["a.xml", "a.xml", "b.xml", "c.jpg", "d.xml", "e.jpg"]


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    assert "does not exist; give the folder" in only_problem(tmp_path / "none")
    assert "is a file; give the folder" in only_problem(picture(tmp_path / "deep" / "train" / "a.jpg"))
    assert "1 picture below it, but no annotations; give the folder that holds both" in only_problem(
        tmp_path / "deep"
    )
    (tmp_path / "empty").mkdir()
    assert "no pictures in it (jpg" in only_problem(tmp_path / "empty")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    pair(tmp_path, "a", obj())
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be listed (Permission denied)" in only_problem(tmp_path)


def test_stems_restrict_what_is_looked_at(tmp_path: Path) -> None:
    pair(tmp_path, "a", obj())
    pair(tmp_path, "b", obj("cat"))
    picture(tmp_path / "c.jpg")
    assert [s.stem for s in read_voc(tmp_path, image_ids={"a"}).samples] == ["a"]
    problems = problems_of(lambda: read_voc(tmp_path, image_ids=["a", "c", "z"]))
    assert [p.split(": ")[1][:10] for p in problems] == ["no picture", "no XML fil"]
    assert "list of pictures is empty" in problems_of(lambda: read_voc(tmp_path, image_ids=[]))[0]


def test_several_folders_become_one_set(tmp_path: Path) -> None:
    pair(tmp_path / "one", "a", obj())
    pair(tmp_path / "two", "b", obj("without_mask"), obj())
    both = [tmp_path / "two", str(tmp_path / "one")]
    assert [s.stem for s in read_data(both).samples] == ["b", "a"]
    assert [s.stem for s in read_data(both, ClassMap(), ["a"]).samples] == ["a"]
    assert (
        "in none of the folders is a picture 'c'; check the list"
        in problems_of(lambda: read_data(both, image_ids=["a", "c"]))[0]
    )
    assert "no folder given" in problems_of(lambda: read_data([]))[0]


def test_the_faults_of_several_folders_come_at_once(tmp_path: Path) -> None:
    pair(tmp_path / "one", "a", obj("cat"))
    pair(tmp_path / "two", "b", obj("dog"))
    assert len(problems_of(lambda: read_data([tmp_path / "one", tmp_path / "two", tmp_path / "three"]))) == 3


corner = st.floats(-5, 45, allow_nan=False, width=32)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(box=st.tuples(corner, corner, corner, corner))
def test_a_box_is_read_as_it_stands_or_refused(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    if not (tmp_path / "a.jpg").exists():
        picture(tmp_path / "a.jpg")
    annotation(tmp_path / "a.xml", obj(box=box))
    x0, y0, x1, y1 = box
    good = x0 < x1 and y0 < y1 and x0 < 40 and y0 < 30 and x1 > 0 and y1 > 0
    good = good and min(x0, y0) >= -2 and x1 <= 42 and y1 <= 32
    if not good:
        assert "object 1" in only_problem(tmp_path)
        return
    (read,) = read_voc(tmp_path).samples[0].boxes_xyxy
    np.testing.assert_array_equal(read, np.clip(np.float32(box), 0, np.float32([40, 30, 40, 30])))


def test_the_real_sets_read_without_a_fault(shared: Path) -> None:
    counts = {
        name: read_data(shared / "data" / name).class_counts()
        for name in ("masks/val", "masks/test", "unseen/crowds", "unseen/webcam")
    }
    assert counts["masks/val"] == {"mask": 470, "no_mask": 275, "mask_incorrect": 57}
    assert counts["masks/test"] == {"mask": 461, "no_mask": 272, "mask_incorrect": 57}
    assert counts["unseen/crowds"] == {"mask": 202, "no_mask": 50, "mask_incorrect": 22}
    assert counts["unseen/webcam"] == {"mask": 28, "no_mask": 35, "mask_incorrect": 0}


def test_the_training_set_reads_whole_and_by_stems(shared: Path) -> None:
    folder = shared / "data" / "masks" / "train"
    assert len(read_data(folder)) == 1893
    stems = (shared / "data" / "masks" / "small_train.txt").read_text(encoding="utf-8").split()
    assert {s.stem for s in read_data(folder, image_ids=stems).samples} == set(stems)


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("GB2312", "gb2312", "戴口罩"),
        ("GBK", "gbk", "戴口罩"),
        ("Big5", "big5", "戴口罩"),
        ("Shift_JIS", "shift_jis", "マスク"),
        ("EUC-KR", "euc_kr", "마스크"),
        ("windows-1251", "cp1251", "маска"),
        ("UTF-16", "utf-16", "戴口罩"),
        ("utf-16", "utf-8", "戴口罩"),
        ("gb2312", "utf-8-sig", "戴口罩"),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_declares(
    tmp_path: Path, declared: str, codec: str, name: str
) -> None:
    pair(tmp_path, "a", obj())
    path = tmp_path / "a.xml"
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' + path.read_text().replace("with_mask", name)
    assert name in text
    path.write_bytes(text.encode(codec))
    assert read_voc(tmp_path, ClassMap([name])).class_counts() == {name: 1}
