"""Duplicates: each kind is found among strangers, strangers are not, and groups hang together."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_module import load_benchmark
from maskwatch.data.quality.duplicates import Duplicate, find_duplicates, fingerprint, groups

Picture = npt.NDArray[np.uint8]


def scene(seed: int, height: int = 300, width: int = 400) -> Picture:
    """Boxes and discs of all sizes over a gradient: as full of corners as a photograph."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = np.linspace(*rng.integers(0, 255, 2), width)[None, :, None].astype(np.uint8)
    for _ in range(60):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        colour = [int(value) for value in rng.integers(0, 255, 3)]
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), int(rng.integers(4, 40)), colour, -1)
        else:
            cv2.rectangle(
                image, (x, y), (x + int(rng.integers(8, 80)), y + int(rng.integers(8, 80))), colour, -1
            )
    return image


def jpeg(image: Picture, quality: int) -> Picture:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1))


STRANGERS = [fingerprint(scene(seed)) for seed in range(20)]

CHANGES = {
    "copied": (lambda image: image.copy(), "same"),
    "resaved": (lambda image: jpeg(image, 50), "near"),
    "resized": (lambda image: cv2.resize(image, (240, 180), interpolation=cv2.INTER_AREA), "near"),
    "brightened": (lambda image: (image * np.float32(1.2) + 10).clip(0, 255).astype(np.uint8), "near"),
    "one pixel": (lambda image: np.concatenate([image[:, :-1], image[:, -1:] ^ 1], 1), "near"),
    "mirrored": (lambda image: jpeg(np.ascontiguousarray(image[:, ::-1]), 85), "mirrored"),
    "cropped": (lambda image: jpeg(image[30:290, 50:400], 85), "crop"),  # 76 % of the area
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_is_found_among_strangers(change: str) -> None:
    apply, kind = CHANGES[change]
    (found,) = find_duplicates([*STRANGERS, fingerprint(apply(scene(7)))])
    assert (found.first, found.second, found.kind) == (7, 20, kind)
    assert 0.6 < found.similarity <= 1.0001


def test_strangers_and_the_unreadable_are_no_pairs() -> None:
    assert find_duplicates(STRANGERS) == []
    assert find_duplicates([]) == []
    assert find_duplicates([STRANGERS[0]]) == []
    assert find_duplicates([None, STRANGERS[0], None, STRANGERS[1]]) == []
    assert find_duplicates([None, STRANGERS[0], STRANGERS[0]]) == [Duplicate(1, 2, "same", 1.0)]


def test_equal_pictures_are_paired_with_the_first_alone() -> None:
    near = fingerprint(jpeg(scene(7), 50))
    found = find_duplicates([STRANGERS[7], STRANGERS[7], near, STRANGERS[7]])
    assert [(pair.first, pair.second, pair.kind) for pair in found] == [
        (0, 1, "same"),
        (0, 2, "near"),
        (0, 3, "same"),
    ]


def test_red_and_blue_exchanged_is_not_the_same() -> None:
    """Green, from which thumbnail and corners come, is equal; the checksum is not."""
    (found,) = find_duplicates([STRANGERS[3], fingerprint(np.ascontiguousarray(scene(3)[:, :, ::-1]))])
    assert found.kind == "near"


def test_pictures_without_content_resemble_nothing() -> None:
    """Walls, noise and single colours: correlation alone would find them all alike."""
    rng = np.random.default_rng(0)
    plain = [np.full((200, 200, 3), value, np.uint8) for value in (0, 90, 255)]
    noise = [rng.integers(88, 92, (200, 200, 3), dtype=np.uint8) for _ in range(3)]
    tiny = [
        np.full((1, 1, 3), 7, np.uint8),
        np.full((1, 3000, 3), 9, np.uint8),
        np.full((5, 2, 3), 8, np.uint8),
    ]
    assert find_duplicates([fingerprint(image) for image in (*plain, *noise, *tiny)]) == []


def test_a_symmetrical_picture_resaved_is_near_not_mirrored() -> None:
    half = scene(5)[:, :200]
    image = np.concatenate([half, half[:, ::-1]], 1)
    (found,) = find_duplicates([fingerprint(image), fingerprint(jpeg(image, 60))])
    assert found.kind == "near"


def test_a_film_of_a_still_room_stays_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames = [scene(1) + rng.integers(0, 3, (300, 400, 3), dtype=np.uint8) for _ in range(12)]
    prints = [fingerprint(frame) for frame in frames]
    assert len(find_duplicates(prints)) == 66, "any two of twelve"
    monkeypatch.setattr("maskwatch.data.quality.duplicates.MOST_PARTNERS", 3)
    pairs = [(pair.first, pair.second) for pair in find_duplicates(prints)]
    assert len(pairs) <= 12 * 2 * 3
    assert groups(12, pairs) == [list(range(12))]


def test_groups_hang_together() -> None:
    assert groups(6, [(4, 1), (1, 2), (0, 5)]) == [[0, 5], [1, 2, 4], [3]]
    assert groups(2, []) == [[0], [1]]
    assert groups(0, []) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_groups_part_the_whole(pairs: list[tuple[int, int]]) -> None:
    parts = groups(10, pairs)
    assert sorted(index for part in parts for index in part) == list(range(10))
    home = {index: number for number, part in enumerate(parts) for index in part}
    assert all(home[one] == home[other] for one, other in pairs)
    assert [part[0] for part in parts] == sorted(part[0] for part in parts)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_benchmark("duplicates", monkeypatch)


def test_benchmark(benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, seeds in (("train", range(6)), ("val", range(5, 8))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            cv2.imwrite(str(tmp_path / split / f"{seed}.png"), scene(seed))
    folders = [str(tmp_path / "train"), str(tmp_path / "val")]
    sheet = tmp_path / "pairs.png"
    assert benchmark.main([*folders, "--pictures", "3", "--workers", "1", "--sheet", str(sheet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in lines[2:9]}
    assert found == dict.fromkeys(benchmark.PLANTS, "3/3")
    assert lines[9] == "unplanted: 1 pairs, 1 across splits"
    assert lines[10].endswith("5.png same 1.00")
    assert "9 pictures, 1 processes: decoding alone 1, probing" in lines[11]
    assert cv2.imread(str(sheet)).shape == (160, 640, 3)
    assert benchmark.main([str(tmp_path / "none")]) == 2
    assert "no pictures there" in capsys.readouterr().err


def test_no_photograph_of_the_shared_set_is_its_neighbour(shared: Path) -> None:
    """238 photographs of many people in front of walls and crowds; one pair would be a false alarm."""
    from maskwatch.media.images import read_image

    paths = sorted((shared / "data/masks/val").glob("*.jpg"))
    assert find_duplicates([fingerprint(read_image(path)) for path in paths]) == []
