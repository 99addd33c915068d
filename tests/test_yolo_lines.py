"""What follows the class in YOLO's lines: a box, landmarks behind it, a score, a track, or a polygon."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from maskwatch.data import read_data
from maskwatch.data.formats.yolo.lines import LabelLine, LineReader, parse_line
from maskwatch.data.formats.yolo.shape import Shape, shape_of
from maskwatch.errors import DataError
from maskwatch.labels import ClassMap

# Around the middle of a face, as shares of its size: eyes, nose, corners of the mouth.
LANDMARKS = [(-0.2, -0.1), (0.2, -0.1), (0, 0.08), (-0.15, 0.25), (0.15, 0.25)]


def lines_of(*texts: str) -> list[LabelLine]:
    found = [parse_line(text, number) for number, text in enumerate(texts, start=1)]
    return [line for line in found if line is not None]


def told(texts: Iterable[str]) -> Shape:
    return shape_of([line.values for line in lines_of(*texts)])


def boxes(*texts: str, names: dict[int, str] | None = None, landmarks: int | None = None) -> list[object]:
    """Centre and size of each line, rounded, or its fault."""
    lines = lines_of(*texts)
    reader = LineReader(lines, names or {}, landmarks)
    found: list[object] = []
    for line in lines:
        item = reader.read(line)
        x0, y0, x1, y1 = item.box_xyxy
        if item.problem:
            found.append(f"{item.where} {item.problem.text}")
        else:
            found.append(tuple(round(v, 4) for v in ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)))
    return found


def face(rng: random.Random, flags: int | None = None) -> str:
    """A box and five landmarks in it."""
    width = rng.uniform(0.02, 0.6)
    height = min(0.9, width * rng.uniform(0.9, 1.5))
    cx, cy = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
    values = [cx, cy, width, height]
    for x, y in LANDMARKS:
        values += [cx + (x + rng.gauss(0, 0.03)) * width, cy + (y + rng.gauss(0, 0.03)) * height]
        values += [] if flags is None else [rng.randint(0, flags)]
    return " ".join(map(str, ("0", *values)))


def polygon(rng: random.Random, corners: int) -> str:
    radius, turn = rng.uniform(0.02, 0.25), rng.uniform(0, 2 * math.pi)
    cx, cy = rng.uniform(radius, 1 - radius), rng.uniform(radius, 1 - radius)
    values = []
    for corner in range(corners):
        angle, r = turn + corner * 2 * math.pi / corners, radius * rng.uniform(0.8, 1)
        values += [cx + r * math.cos(angle), cy + 0.6 * r * math.sin(angle)]
    return " ".join(map(str, ("0", *values)))


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("flags", [None, 1, 2])
def test_faces_with_landmarks_are_boxes(count: int, flags: int | None) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        assert told(face(rng, flags) for _ in range(count)) == "box"


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("corners", [5, 7, 12, 40])
def test_outlines_are_polygons(count: int, corners: int) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        assert told(polygon(rng, corners) for _ in range(count)) == "polygon"


@pytest.mark.parametrize("corners", [3, 4])
def test_few_corners_are_never_taken_for_boxes(corners: int) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        assert told(polygon(rng, corners) for _ in range(3)) != "box"


@pytest.mark.parametrize(
    "more",
    [
        "",
        "0.97",
        "12",
        "0.97 3",
        "0.97 0",
        "-1 -1 -1 -1 -1 -1 -1 -1 -1 -1",
        "0.35 0.45 0.45 0.45 0.4 0.5 0.36 0.6 0.44 0.6",
        "0.35 0.45 0.45 0.45 0.4 0.5 0.36 0.6 0.44 0.6 0.9",
        "0.9 0.35 0.45 0.45 0.45 0.4 0.5 0.36 0.6 0.44 0.6",
        "0.35 0.45 2 0.45 0.45 2 0 0 0",
        "0.35 0.45 1",
    ],
)
def test_four_numbers_are_the_box_whatever_follows(more: str) -> None:
    found = boxes(f"0 0.4 0.5 0.2 0.4 {more}")
    # Where it cannot be told, an error says so; a score within is such a case.
    assert found == [(0.4, 0.5, 0.2, 0.4)] or "of a box with landmarks or of a polygon" in str(found[0])
    if not more.startswith("0.9 "):
        assert found == [(0.4, 0.5, 0.2, 0.4)]


@pytest.mark.parametrize(
    ("kpt", "more"), [(4, "0.6 0.1 0.9 0.9"), (5, "0.1 0.1 0 0 0"), (4, "0 0 0 0 0.9 7")]
)
def test_a_stated_number_of_landmarks_wins(kpt: int, more: str) -> None:
    assert boxes(f"0 0.4 0.5 0.2 0.4 {more}", landmarks=kpt) == [(0.4, 0.5, 0.2, 0.4)]


def test_another_number_of_landmarks_than_stated_is_named() -> None:
    found = boxes("0 0.4 0.5 0.2 0.4", "0 0.4 0.5 0.2 0.4 0.1 0.2", landmarks=10)
    assert found == [(0.4, 0.5, 0.2, 0.4), "line 2 has 6 numbers after the class, not 4 or 14 or 15 or 16"]


def test_corners_of_boxes_are_polygons() -> None:
    assert boxes("0 0.5 0.5 0.55 0.5 0.55 0.6 0.5 0.6") == [(0.525, 0.55, 0.05, 0.1)]
    closed = "0 0.5 0.5 0.55 0.5 0.55 0.6 0.5 0.6 0.5 0.5"
    assert boxes(closed, "0 0.4 0.5 0.2 0.4") == [(0.525, 0.55, 0.05, 0.1), (0.4, 0.5, 0.2, 0.4)]


def test_polygons_with_scores_stay_polygons() -> None:
    rng = random.Random(0)
    plain = [polygon(rng, 12) for _ in range(5)]
    assert boxes(*(f"{text} 0.8" for text in plain)) == boxes(*plain)


def test_lines_without_an_end_between_them_are_an_error() -> None:
    found = boxes("0 0.4 0.5 0.2 0.4 1 0.7 0.5 0.1 0.2", "0 0.4 0.5 0.2 0.4")
    assert found == ["line 1 is several boxes", (0.4, 0.5, 0.2, 0.4)]


def test_an_odd_line_among_boxes_is_an_error() -> None:
    found = boxes("0 0.4 0.5 0.2 0.4", "0 0.4 0.5 0.2 0.4", "0 0.9 0.9 0.95 0.95 0.8 0.9 0.7")
    assert found[2] == "line 3 has 7 numbers, which do not pair up as points of a polygon"


def test_what_cannot_be_told_apart_is_an_error() -> None:
    (found,) = boxes("0 0.4 0.5 0.2 0.4 0.41 0.52")
    assert found == "line 1 has 6 numbers, of a box with landmarks or of a polygon"


@pytest.mark.parametrize("class_word", ["0", "0.0", "0.000000000000000000e+00", "00", "+0"])
def test_a_whole_number_is_that_class(class_word: str) -> None:
    (line,) = lines_of(f"{class_word} 0.5 0.5 0.1 0.1")
    assert LineReader([line], {0: "mask", 1: "bare"}).read(line).name == "mask"
    assert LineReader([line], {}).read(line).name == "0"


@pytest.mark.parametrize("class_word", ["0.5", "-1", "nan", "inf", "1e999", "helmet", "0x1"])
def test_any_other_class_names_the_line(class_word: str) -> None:
    assert boxes(f"{class_word} 0.5 0.5 0.1 0.1", names={0: "mask", 1: "bare"}) == [
        f"line 1 has the class {class_word!r}, which is not the number of one"
    ]


def test_the_name_of_a_class_stands_for_its_number() -> None:
    (line,) = lines_of("No-Mask 0.5 0.5 0.1 0.1")
    assert LineReader([line], {0: "mask", 1: "no mask"}).read(line).name == "no mask"


@pytest.mark.parametrize(
    "text",
    [
        "0 0.5 0.25 0.2 0.1",
        "0,0.5,0.25,0.2,0.1",
        "0, 0.5, 0.25, 0.2, 0.1,",
        "0;0.5;0.25;0.2;0.1;",
        "0\t0.5\t0.25\t0.2\t0.1\t",
        "0 0,5 0,25 0,2 0,1",
        "0;0,5;0,25;0,2;0,1",
        "  0 0.5,0.25 0.2,0.1  # a face",
        "0 5.0e-01 2.5E-1 .2 +.1",
    ],
)
def test_numbers_are_separated_in_any_usual_way(text: str) -> None:
    assert boxes("", "# class x y w h", text, "   ") == [(0.5, 0.25, 0.2, 0.1)]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ("0.5 0.5 0.1", "has 3 numbers"),
        ("", "has 0 numbers"),
        ("0.5 0.5 nan 0.1", "holds 'nan', which is not a number"),
        ("0.5 0.5 inf 0.1", "holds 'inf', which is not a number"),
        ("0.5 0.5 0.1 0.1x", "holds '0.1x', which is not a number"),
    ],
)
def test_wrong_numbers_name_the_line(numbers: str, reason: str) -> None:
    (found,) = boxes(f"0 {numbers}")
    assert reason in str(found)


def folder(root: Path, lines: str, yaml: str = "names: [mask, bare]") -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    Image.new("RGB", (100, 80), (90, 120, 150)).save(root / "images" / "a.jpg")
    (root / "labels" / "a.txt").write_text(lines)
    (root / "data.yaml").write_text(f"train: images\n{yaml}\n")
    return root


def test_kpt_shape_is_read_from_the_data_yaml(tmp_path: Path) -> None:
    text = "0 0.4 0.5 0.2 0.4 0.1 0.1 0.9 0.2\n"  # points that no face has
    data = read_data(folder(tmp_path / "a", text, "names: [mask]\nkpt_shape: [2, 2]"))
    assert data.samples[0].boxes_xyxy.round(3).tolist() == [[30, 24, 50, 56]]
    with pytest.raises(DataError, match=r"kpt_shape .*2, 4.* write for example kpt_shape"):
        read_data(folder(tmp_path / "b", text, "names: [mask]\nkpt_shape: [2, '[2, 4]']"))


def test_the_other_splits_help_to_tell(tmp_path: Path) -> None:
    """A triangle alone may be a box with a landmark; beside polygons it is a triangle."""
    triangle, outline = "0 0.4 0.5 0.2 0.4 0.41 0.52\n", "0 0.7 0.7 0.9 0.7 0.95 0.8 0.9 0.9 0.7 0.9\n"
    for split, text in (("train", triangle), ("valid", outline)):
        folder(tmp_path / split, text)
        (tmp_path / split / "data.yaml").unlink()
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: train/images\nval: valid/images\ntest: null\nnames: [mask]")
    data = read_data(tmp_path, ClassMap(["mask"]), split="train")
    assert data.samples[0].boxes_xyxy.round(3).tolist() == [[20, 32, 41, pytest.approx(41.6)]]
    yaml.write_text("train: train/images\nnames: [mask]")
    (tmp_path / "valid" / "labels" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"line 1 .*of a box with landmarks or of a polygon"):
        read_data(tmp_path, ClassMap(["mask"]))


def test_a_fault_names_file_line_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_data(folder(tmp_path, "0 0.4 0.5 0.2 0.4\n1.5 0.4 0.5 0.2 0.4\n"))
    (problem,) = error.value.problems
    assert problem == (
        f"{tmp_path / 'labels' / 'a.txt'}: line 2: box 0.4 0.5 0.2 0.4 has the class '1.5', which is not the "
        "number of one; write one of 0 mask, 1 bare"
    )


def test_names_are_what_the_data_yaml_says_letter_by_letter(tmp_path: Path) -> None:
    text = "0 0.4 0.5 0.2 0.4\n1 0.4 0.5 0.1 0.4\n2 0.7 0.5 0.2 0.4\n"
    root = folder(tmp_path / "a", text, "names: [no, 1.0, 007]")
    assert read_data(root, ClassMap(["no", "1.0", "007"])).class_counts() == {"no": 1, "1.0": 1, "007": 1}
    with pytest.raises(DataError, match=r"neither a list nor"):
        read_data(folder(tmp_path / "b", text, "names: classes.txt"))
