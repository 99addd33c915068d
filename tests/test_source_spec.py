"""Sources as users name them, and the names that they get."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.errors import OptionError, SourceError
from maskwatch.live.capture.core import open_capture, open_captures
from maskwatch.live.capture.source_spec import parse_source, parse_sources


@pytest.mark.parametrize(
    ("text", "kind", "address", "name"),
    [
        ("0", "webcam", "0", "cam-0"),
        ("/dev/video2", "webcam", "2", "cam-2"),
        ("entrance=1", "webcam", "1", "entrance"),
        ("-", "pipe", "-", "stdin"),
        ("rtsp://admin:pw@door.local:554/live/main", "rtsp", None, "door-main"),
        ("rtsp://192.168.1.20/stream1", "rtsp", None, "192.168.1.20-stream1"),
        ("rtsps://cam.example.org", "rtsp", None, "cam"),
        ("rtsp://10.0.0.5/user=admin&password=pw&channel=1.sdp", "rtsp", None, "10.0.0.5"),
        ("http://[fe80::1]:8080/video.mjpg?token=1", "http", None, "fe80-1-video"),
        ("https://example.org/hls/hall.m3u8", "http", None, "example-hall"),
        ("http://example.org/a.ts", "http", None, "example-a"),
        ("http://example.org/films/a%20b.mp4", "video_url", None, "example-a-b"),
        ("hall=http://example.org/?a=b", "http", "http://example.org/?a=b", "hall"),
    ],
)
def test_sources(text: str, kind: str, address: str | None, name: str) -> None:
    spec = parse_source(text)
    assert (spec.kind, spec.address, spec.name) == (kind, address or text, name)
    assert parse_source(text, name="mine").name == "mine"


def test_files_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("day=1.mp4", "Tür vorn.mp4", "…"):
        Path(name).write_bytes(b"x")
    assert [spec.name for spec in parse_sources(["day=1.mp4", "Tür vorn.mp4", "…", "d=day=1.mp4"])] == [
        "day-1",
        "T-r-vorn",
        "video",
        "d",
    ]


def test_names_become_unique() -> None:
    specs = parse_sources(["rtsp://door/a", "rtsp://door/a", "door-a=0", "0", "/dev/video0"])
    assert [spec.name for spec in specs] == ["door-a-2", "door-a-3", "door-a", "cam-0", "cam-0-2"]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["gone.mp4"], SourceError, "'gone.mp4': no such file"),
        (["."], SourceError, "this is a folder"),
        (["/dev/null"], SourceError, "no regular file"),
        (["ftp://u:secret@host/a"], SourceError, r"ftp://\*\*\*@host/a: ftp:// cannot be watched"),
        (["rtsp://u:secret@"], SourceError, "not a valid URL"),
        (["http://host:99999/"], SourceError, "not a valid URL"),
        (["", "0"], SourceError, "no such file"),
        (["x\0y"], SourceError, "no such file"),
        (["08:15:04.mp4"], SourceError, "'08:15:04.mp4': no such file"),
        (["cam:1/a.mp4"], SourceError, "'cam:1/a.mp4': no such file"),
        (
            ["rtsp:/u:secret@host/a"],
            SourceError,
            "rtsp:/\\*\\*\\*@host/a': no such file, and an address begins",
        ),
        (["rtsp://u:secret/a"], SourceError, "rtsp://u:\\*\\*\\*/a: not a valid URL"),
        (["a=0", "a=1"], OptionError, "'a' names two sources"),
        (["-", "-"], OptionError, "can be read once"),
        ([], OptionError, "no source"),
    ],
)
def test_invalid_sources(texts: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_captures(texts)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "-a", "x" * 41])
def test_invalid_names(name: str) -> None:
    with pytest.raises(OptionError, match="is not a valid name for a source"):
        open_capture("0", name=name)


@given(st.text("abcXYZ09:@!$~.-_", min_size=1, max_size=12))
def test_no_password_is_ever_shown(password: str) -> None:
    spec = parse_source(f"rtsp://me:zq{password}@10.0.0.1/live")
    assert "zq" not in spec.shown + spec.name
