"""Zones and lines: the file and its errors, who is inside, who crosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from live_scenes import face
from maskwatch.cli.app import app
from maskwatch.errors import MaskwatchError, OptionError, SourceError
from maskwatch.live.output.drawing import draw_zones, draw_zones_sheet, pixel_corners
from maskwatch.live.tracking.zones import Line, Zone, Zones, ZoneState
from maskwatch.live.tracking.zones_file import check_sources, read_zones
from maskwatch.media.images import read_image
from maskwatch.media.videos import video_writer

SIZE = (600, 400)
DOOR = Zone("door", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))  # x from 300
LEVEL = Line("threshold", ((0.0, 0.5), (1.0, 0.5)))  # y = 200, its right is below


def write(folder: Path, text: str) -> Path:
    path = folder / "zones.toml"
    path.write_text('format = "maskwatch.zones/1"\n' + text, "utf-8")
    return path


def walk(where: ZoneState, zones: Zones, *points: tuple[float, float]) -> list[tuple[str, str]]:
    """The lines that a face of 40 pixels crosses on its way; borders are then 10 pixels each way."""
    crossed = []
    for x, y in points:
        crossed += where.move(np.array(face(x, y, 40), np.float32), zones, SIZE)
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
    zones = read_zones(path)
    assert zones == Zones(
        (
            Zone("counter", ((0.1, 0.2), (0.9, 0.2), (0.9, 1.0)), "hall"),
            Zone("canteen", ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), None, alert=False),
        ),
        (Line("gate", ((0.2, 0.6), (0.8, 0.6))),),
        only_zones=True,
    )
    assert [zone.name for zone in zones.for_source("hall").zones] == ["counter", "canteen"]
    assert [zone.name for zone in zones.for_source("door").zones] == ["canteen"]
    check_sources(zones, ["hall", "door"], path)
    with pytest.raises(OptionError, match=r"zone 'counter' is for source 'hall', which is not watched.*door"):
        check_sources(zones, ["door"], path)


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
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
        read_zones(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 13 errors:"
    assert lines[-1] == f"Fix them; maskwatch zones SOURCE --zones {path} draws the zones and lines."
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
        "line 'twice' appears twice for one source",
    ]
    for line, wanted in zip(lines[1:-1], expected, strict=True):
        assert line.strip().startswith(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[zone]\n", "not a TOML file"),
        ("zone = 3\n", "zone is 3; write [[zone]]"),
        ("[zone]\nname = 'a'\n", "zone is {'name': 'a'}; write [[zone]]"),
        ("only_zones = 1\n", "only_zones is 1; write true or false"),
        ("only_zones = true\n", "there is no zone"),
        ("[[zone]]\nname='a'\npoints=[[true, 0], [0, nan], [inf, 1]]\n", "point 3 is [inf, 1]; write [x, y]"),
        ("[[zone]]\nname='a'\npoints='all'\n", "points is 'all'"),
        ("[[zone]]\nname=7\npoints=[[0,0],[0,1],[1,1]]\n", "name is 7"),
    ],
)
def test_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_zones(write(tmp_path, text))
    assert message in str(caught.value)


def test_the_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "zones.toml"
    path.write_text("")
    with pytest.raises(OptionError, match=r'begin the file with: format = "maskwatch.zones/1"'):
        read_zones(path)
    path.write_text('format = "maskwatch.zones/9"')
    with pytest.raises(OptionError, match=r"'maskwatch.zones/9'; this version reads 'maskwatch.zones/1'"):
        read_zones(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_zones(tmp_path / "none.toml")
    path.write_bytes(b"\xff\xd8")
    with pytest.raises(OptionError, match="not UTF-8"):
        read_zones(path)
    path.write_text("zone = ")
    with pytest.raises(OptionError, match="not a TOML"):
        read_zones(path)


def test_the_centre_of_the_face_decides_the_zone() -> None:
    where, zones = ZoneState(), Zones((DOOR,))
    walk(where, zones, (299, 200))
    assert where.zones == ()
    walk(where, zones, (300, 200))
    assert where.zones == ("door",)


def test_a_border_has_a_width_on_the_way_out() -> None:
    where, zones = ZoneState(), Zones((DOOR,))
    walk(where, zones, (310, 200), (291, 200))
    assert where.zones == ("door",)
    walk(where, zones, (289, 200))
    assert where.zones == ()


def test_zones_may_overlap() -> None:
    where = ZoneState()
    right = Zone("corner", ((0.8, 0.0), (1.0, 0.0), (1.0, 0.5)))
    walk(where, Zones((right, DOOR)), (590, 20))
    assert where.zones == ("corner", "door")


def test_in_is_from_left_to_right_along_the_line() -> None:
    zones = Zones((), (LEVEL,))
    assert walk(ZoneState(), zones, (100, 150), (100, 250)) == [("threshold", "in")]
    assert walk(ZoneState(), zones, (100, 250), (100, 150)) == [("threshold", "out")]
    back = Zones((), (Line("threshold", LEVEL.points[::-1]),))
    assert walk(ZoneState(), back, (100, 150), (100, 250)) == [("threshold", "out")]


def test_jitter_on_a_line_is_one_crossing() -> None:
    jitter = [(100, 200 + 9 * (-1) ** number) for number in range(40)]
    assert walk(ZoneState(), Zones((), (LEVEL,)), (100, 150), *jitter, (100, 250)) == [("threshold", "in")]
    assert walk(ZoneState(), Zones((), (LEVEL,)), (100, 150), *jitter, (100, 150)) == []
    assert walk(ZoneState(), Zones((), (LEVEL,)), *jitter, (100, 250)) == []


def test_passing_the_end_of_a_line_is_not_crossing() -> None:
    half = Zones((), (Line("half", ((0.0, 0.5), (0.5, 0.5))),))
    assert walk(ZoneState(), half, (400, 150), (400, 250), (100, 250)) == []
    assert walk(ZoneState(), half, (150, 150), (400, 250)) == [("half", "in")], "the path crosses it"


def test_in_and_out_alternate() -> None:
    points = [(100, 150), (100, 250)] * 3
    crossed = walk(ZoneState(), Zones((), (LEVEL,)), *points)
    assert [direction for _, direction in crossed] == ["in", "out", "in", "out", "in"]


def zones(*arguments: object) -> str:
    """What the command prints; its error is raised."""
    result = CliRunner().invoke(app, ["zones", *map(str, arguments)])
    if isinstance(result.exception, MaskwatchError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_sheet_shows_grid_zone_and_line() -> None:
    image = np.full((540, 960, 3), 120, np.uint8)
    plain = draw_zones_sheet(image, Zones())
    assert plain.shape == (540, 960, 3)
    assert (plain[100, 96] > 180).all(), "a line of the grid at a tenth"
    assert (plain[100, 50] == 120).all()
    sheet = draw_zones_sheet(image, Zones((DOOR,), (Line("gate", ((0.1, 0.75), (0.4, 0.75))),)))
    assert (sheet[300, 620] != plain[300, 620]).any(), "inside the zone"
    assert (sheet[300, 300] == plain[300, 300]).all(), "outside it"
    assert (sheet[405, 200] != plain[405, 200]).any(), "on the line"
    assert (sheet[420, 240] != plain[420, 240]).any(), "the arrow, below a line from left to right"
    assert (sheet[390, 240] == plain[390, 240]).all(), "none above it"
    assert draw_zones_sheet(image[:108, :192], Zones()).shape == (540, 960, 3), "a small picture is enlarged"


def test_a_share_is_the_same_pixel_wherever_it_is_drawn() -> None:
    """Half of 200 is where the pixel 100 begins, as on the grid; the far edge is in the last pixel."""
    image = np.zeros((100, 200, 3), np.uint8)
    assert pixel_corners(((0.0, 0.0), (0.5, 0.25), (1.0, 1.0)), image).tolist() == [
        [0, 0],
        [100, 25],
        [199, 99],
    ]
    assert pixel_corners(((0.0, 0.5),), np.zeros((1080, 1920, 3), np.uint8)).tolist() == [[0, 540]]
    door = Zones((DOOR,))
    drawn = draw_zones(image, door)
    assert (drawn[50, [100, 199]] > 220).all()
    assert not drawn[50, [97, 103, 196]].any()
    wide = np.zeros((480, 960, 3), np.uint8)  # so large that a sheet does not enlarge it
    sheet = draw_zones_sheet(wide, door)
    assert (sheet[300, [480, 959]] > 220).all(), "the same line, above the coloured band"
    assert (draw_zones(wide, door)[300, [480, 959]] > 220).all()


def test_the_command_begins_a_file_and_draws_it(tmp_path: Path) -> None:
    Image.fromarray(np.full((120, 200, 3), 90, np.uint8)).save(tmp_path / "door.png")
    init, out = tmp_path / "zones.toml", tmp_path / "sheet.png"
    printed = zones(tmp_path / "door.png", "--init", init, "-o", out)
    assert f"wrote {out}: door, 200x120" in printed
    assert "zone entrance" in printed
    assert read_zones(init).lines[0].name == "threshold"
    assert read_image(out).shape == (576, 960, 3)
    with pytest.raises(MaskwatchError, match="exists already"):
        zones(tmp_path / "door.png", "--init", init, "-o", tmp_path / "other.png")
    printed = zones(f"gate={tmp_path / 'door.png'}", "--zones", init, "-o", out, "--force")
    assert "gate, 200x120" in printed


def test_the_command_names_what_is_for_other_sources(tmp_path: Path) -> None:
    Image.fromarray(np.full((120, 200, 3), 90, np.uint8)).save(tmp_path / "door.png")
    path = write(tmp_path, "[[line]]\nname='a'\nsource='hall'\npoints=[[0, 0], [1, 1]]\n")
    printed = zones(tmp_path / "door.png", "--zones", path, "-o", tmp_path / "sheet.png")
    assert "not drawn: those of hall; draw one with hall=SOURCE" in printed


def test_the_command_takes_a_moment_of_a_video(tmp_path: Path) -> None:
    video, out = tmp_path / "walk.mp4", tmp_path / "sheet.png"
    with video_writer(video, 10) as append:
        for value in (40,) * 10 + (200,) * 10:
            append(np.full((540, 960, 3), value, np.uint8))
    zones(video, "--at", 1.5, "-o", out)
    assert 190 < int(read_image(out)[200, 300, 0]) < 210
    with pytest.raises(SourceError, match="ends before 9 s; give an earlier --at"):
        zones(video, "--at", 9, "-o", out, "--force")


def test_errors_of_the_command(tmp_path: Path) -> None:
    Image.fromarray(np.full((120, 200, 3), 90, np.uint8)).save(tmp_path / "door.png")
    door = tmp_path / "door.png"
    with pytest.raises(OptionError, match="only PNG is written"):
        zones(door, "-o", "sheet.jpg")
    with pytest.raises(OptionError, match="give only one"):
        zones(door, "--init", "a.toml", "--zones", "b.toml")
    with pytest.raises(SourceError, match="no such file"):
        zones(tmp_path / "none.mp4", "-o", tmp_path / "sheet.png")
    bad = write(tmp_path, "[[zone]]\nname='a'\npoints=[[0, 0], [1, 1]]\n")
    with pytest.raises(OptionError, match="a zone needs at least 3"):
        zones(door, "--zones", bad, "-o", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
