"""Zones and lines: the file with its faults, who is inside, who crosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from live_scenes import face
from maskwatch.errors import OptionError
from maskwatch.live.zones import Line, Places, Whereabouts, Zone
from maskwatch.live.zones_file import check_sources, read_places

SIZE = (600, 400)
DOOR = Zone("door", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))  # x from 300
LEVEL = Line("threshold", ((0.0, 0.5), (1.0, 0.5)))  # y = 200, its right is below


def write(folder: Path, text: str) -> Path:
    path = folder / "zones.toml"
    path.write_text('format = "maskwatch.zones/1"\n' + text, "utf-8")
    return path


def walk(where: Whereabouts, places: Places, *points: tuple[float, float]) -> list[tuple[str, str]]:
    """The lines that a face of 40 pixels crosses on its way; borders are then 10 pixels each way."""
    crossed = []
    for x, y in points:
        crossed += where.move(np.array(face(x, y, 40), np.float32), places, SIZE)
    return [(line.name, direction) for line, direction in crossed]


def test_a_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
only_zones = true
[[zone]]
name = "counter"
source = "hall"
points = [[0.1, 0.2], [0.9, 0.2], [0.9, 1.0]]
[[zone]]
name = "canteen"
points = [[0, 0], [1, 0], [0, 1]]
alert = false
[[line]]
name = "gate"
points = [[0.2, 0.6], [0.8, 0.6]]
""",
    )
    places = read_places(path)
    assert places == Places(
        (
            Zone("counter", ((0.1, 0.2), (0.9, 0.2), (0.9, 1.0)), "hall"),
            Zone("canteen", ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), None, alert=False),
        ),
        (Line("gate", ((0.2, 0.6), (0.8, 0.6))),),
        only_zones=True,
    )
    assert [zone.name for zone in places.for_source("hall").zones] == ["counter", "canteen"]
    assert [zone.name for zone in places.for_source("door").zones] == ["canteen"]
    check_sources(places, ["hall", "door"], path)
    with pytest.raises(OptionError, match=r"zone 'counter' is for source 'hall', which is not watched.*door"):
        check_sources(places, ["door"], path)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
color = "red"
[[zone]]
name = "a"
points = [[0.1, 0.2], [640, 0.2], [0.9]]
[[zone]]
points = [[0, 0], [1, 0]]
alert = "no"
[[zone]]
name = "bow"
points = [[0, 0], [1, 1], [1, 0], [0, 1]]
[[zone]]
name = "flat"
points = [[0, 0], [0.5, 0.5], [1, 1]]
[[line]]
name = "dot"
points = [[0.5, 0.5], [0.5, 0.5]]
colour = 1
[[line]]
name = "twice"
source = "hall"
points = [[0, 0], [1, 1]]
[[line]]
name = "twice"
points = [[0, 1], [1, 0]]
[[line]]
name = "none"
source = ""
""",
    )
    with pytest.raises(OptionError) as caught:
        read_places(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 13 faults:"
    assert lines[-1] == f"Mend them; maskwatch zones SOURCE --zones {path} draws where the places lie."
    expected = [
        "'color' is unknown; use format, only_zones, zone, line",
        "zone 'a': point 2 is [640, 0.2]; coordinates are shares of the frame from 0 to 1",
        "zone 'a': point 3 is [0.9]; write [x, y]",
        "zone number 2: name is missing",
        "zone number 2: points has 2, a zone needs at least 3",
        "zone number 2: alert is 'no'; write true or false",
        "zone 'bow': the edges from point 1 and from point 3 cross",
        "zone 'flat': points [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]] enclose nothing",
        "line 'dot': 'colour' is unknown; use name, source, points",
        "line 'dot': both points are [0.5, 0.5]",
        "line 'none': source is ''",
        "line 'none': points is missing",
        "line 'twice' stands twice for one source",
    ]
    for line, wanted in zip(lines[1:-1], expected, strict=True):
        assert line.strip().startswith(wanted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[zone]\n", "no TOML file"),
        ("zone = 3\n", "zone is 3; write [[zone]]"),
        ("[zone]\nname = 'a'\n", "zone is {'name': 'a'}; write [[zone]]"),
        ("only_zones = 1\n", "only_zones is 1; write true or false"),
        ("only_zones = true\n", "there is no zone"),
        ("[[zone]]\nname='a'\npoints=[[true, 0], [0, nan], [inf, 1]]\n", "point 3 is [inf, 1]; write [x, y]"),
        ("[[zone]]\nname='a'\npoints='all'\n", "points is 'all'"),
        ("[[zone]]\nname=7\npoints=[[0,0],[0,1],[1,1]]\n", "name is 7"),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_places(write(tmp_path, text))
    assert said in str(caught.value)


def test_the_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "zones.toml"
    path.write_text("")
    with pytest.raises(OptionError, match=r'begin the file with: format = "maskwatch.zones/1"'):
        read_places(path)
    path.write_text('format = "maskwatch.zones/9"')
    with pytest.raises(OptionError, match=r"'maskwatch.zones/9'; this version reads 'maskwatch.zones/1'"):
        read_places(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_places(tmp_path / "none.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="no TOML"):
        read_places(path)


def test_the_middle_of_the_face_is_where_somebody_is() -> None:
    where, places = Whereabouts(), Places((DOOR,))
    walk(where, places, (299, 200))
    assert where.zones == ()
    walk(where, places, (300, 200))
    assert where.zones == ("door",)


def test_a_border_has_a_width_on_the_way_out() -> None:
    where, places = Whereabouts(), Places((DOOR,))
    walk(where, places, (310, 200), (291, 200))
    assert where.zones == ("door",)
    walk(where, places, (289, 200))
    assert where.zones == ()


def test_zones_may_overlap() -> None:
    where = Whereabouts()
    right = Zone("corner", ((0.8, 0.0), (1.0, 0.0), (1.0, 0.5)))
    walk(where, Places((right, DOOR)), (590, 20))
    assert where.zones == ("corner", "door")


def test_in_is_from_left_to_right_along_the_line() -> None:
    places = Places((), (LEVEL,))
    assert walk(Whereabouts(), places, (100, 150), (100, 250)) == [("threshold", "in")]
    assert walk(Whereabouts(), places, (100, 250), (100, 150)) == [("threshold", "out")]
    back = Places((), (Line("threshold", LEVEL.points[::-1]),))
    assert walk(Whereabouts(), back, (100, 150), (100, 250)) == [("threshold", "out")]


def test_who_jitters_on_a_line_crosses_once() -> None:
    jitter = [(100, 200 + 9 * (-1) ** number) for number in range(40)]
    assert walk(Whereabouts(), Places((), (LEVEL,)), (100, 150), *jitter, (100, 250)) == [("threshold", "in")]
    assert walk(Whereabouts(), Places((), (LEVEL,)), (100, 150), *jitter, (100, 150)) == []
    assert walk(Whereabouts(), Places((), (LEVEL,)), *jitter, (100, 250)) == []


def test_round_the_end_of_a_line_is_not_across() -> None:
    half = Places((), (Line("half", ((0.0, 0.5), (0.5, 0.5))),))
    assert walk(Whereabouts(), half, (400, 150), (400, 250), (100, 250)) == []
    assert walk(Whereabouts(), half, (150, 150), (400, 250)) == [("half", "in")], "the way there is across"


def test_in_and_out_take_turns() -> None:
    points = [(100, 150), (100, 250)] * 3
    crossed = walk(Whereabouts(), Places((), (LEVEL,)), *points)
    assert [direction for _, direction in crossed] == ["in", "out", "in", "out", "in"]
