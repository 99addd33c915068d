"""Times of frames, and whether a video is whole; against ffprobe and against literal times."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from maskwatch.errors import SourceError
from maskwatch.live.capture.core import open_capture
from maskwatch.media.containers import is_truncated
from maskwatch.media.sources import find_sources
from maskwatch.media.video_decoder import MediaClock, demux
from maskwatch.media.videos import Video, video_writer
from video_files import times_by_ffprobe, write_film

EVEN = [index / 10 for index in range(30)]
PHONE = [0, 0.033, 0.067, 0.1, 0.15, 0.2, 0.4, 0.433, 0.9, 1.4, 1.433, 1.467, 2.0]
PAUSE = [*(index / 30 for index in range(20)), *(6 + index / 30 for index in range(20))]
LAPSE = [2.0 * index for index in range(10)]


def times(path: Path) -> list[float]:
    with Video(path) as video:
        return [frame.time_s for frame in video.frames()]


@pytest.mark.parametrize("shown", [EVEN, PHONE, PAUSE, LAPSE], ids=["even", "phone", "pause", "lapse"])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mkv", "mjpeg"), ("mov", "mjpeg"), ("mp4", "mpeg4"), ("ts", "mpeg4"), ("webm", "libvpx")],
)
def test_each_frame_has_its_own_time(tmp_path: Path, suffix: str, codec: str, shown: list[float]) -> None:
    path = write_film(tmp_path / f"a.{suffix}", shown, codec, rate=25)
    assert times(path) == pytest.approx(shown, abs=1.1e-3)
    assert times(path) == pytest.approx(times_by_ffprobe(path), abs=1e-6)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mjpeg"), ("ts", "mpeg4"), ("mp4", "mpeg4")])
def test_a_recording_that_begins_later_begins_at_0(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_film(tmp_path / f"a.{suffix}", [10 + time_s for time_s in PHONE], codec)
    assert times(path) == pytest.approx(PHONE, abs=1.1e-3)


def test_the_counter_of_a_transport_stream_may_begin_anew(tmp_path: Path) -> None:
    """It has 33 bits at 90 kHz."""
    path = write_film(tmp_path / "a.ts", [2**33 / 90_000 - 0.5 + time_s for time_s in EVEN], "mpeg4")
    assert times(path) == pytest.approx(EVEN, abs=1.1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "asf", "ts"])
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_frames_that_are_stored_out_of_order(tmp_path: Path, suffix: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = write_film(tmp_path / f"a.{suffix}", EVEN, codec, rate=10, ticks_s=Fraction(1, 10), bf="2")
    with Video(path) as video:
        frames = list(video.frames())
    brightness = [int(frame.image_rgb[24, 32, 0]) for frame in frames]
    np.testing.assert_allclose(brightness, np.arange(30) * 5, atol=6)
    found = [frame.time_s for frame in frames]
    reference = times_by_ffprobe(path)
    told = np.isfinite(reference)  # AVI and ASF: not for the last frames
    assert told.sum() >= 28
    np.testing.assert_allclose(np.array(found)[told], np.array(reference)[told], atol=1e-6)
    np.testing.assert_allclose(np.diff(found), 0.1, atol=2e-3)


def test_a_stream_without_any_time_goes_at_the_usual_rate(tmp_path: Path) -> None:
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no libx264")
    path = write_film(tmp_path / "a.h264", EVEN, "libx264", rate=10)
    with av.open(str(path)) as file:
        assert next(file.decode(video=0)).pts is None
    assert times(path) == pytest.approx([index / 25 for index in range(30)])
    path = write_film(tmp_path / "b.h264", EVEN, "libx264", rate=10, ticks_s=Fraction(1, 10))
    assert times(path) == pytest.approx(EVEN)  # its pictures say how long they are


@pytest.mark.parametrize("back_s", [70.0, 5_000.0])
def test_a_transport_stream_whose_clock_began_anew(tmp_path: Path, back_s: float) -> None:
    """A camera that was started again in the middle; FFmpeg takes that for the end of the 33 bits."""
    parts = [
        write_film(tmp_path / f"{began_s:g}.ts", [began_s + time_s for time_s in EVEN], "mpeg4")
        for began_s in (back_s, 0.0)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = times(path)
    assert found[:30] == pytest.approx(EVEN, abs=1.1e-3)
    assert np.diff(found[30:]) == pytest.approx(np.diff(EVEN), abs=1.1e-3)
    assert found[30] - found[29] < 0.2
    with Video(path) as video:
        assert video.duration_s is None  # by FFmpeg's count 26.5 hours less the step


@pytest.mark.parametrize(
    ("stamps_s", "shown"),
    [
        ([5.0, 5.1, None, None, 5.5], [0.0, 0.1, 0.14, 0.18, 0.5]),
        ([0.0, 0.2, 0.15, 0.3], [0.0, 0.2, 0.2, 0.3]),  # trembles
        ([1.0, 1.04, 1.08, 900.0], [0.0, 0.04, 0.08, 899.0]),  # a pause
        ([60.0, 60.04, 1.0, 1.04], [0.0, 0.04, 0.08, 0.12]),  # a second recording
        ([0.0, 0.04, 1.7e9, 1.7e9 + 1], [0.0, 0.04, 0.08, 1.08]),  # the clock was set
        ([None, None, 0.08], [0.0, 0.04, 0.08]),
        ([-0.5, -0.46, 0.0], [0.0, 0.04, 0.5]),
    ],
)
def test_a_clock_of_odd_stamps(stamps_s: list[float | None], shown: list[float]) -> None:
    first = next((stamp for stamp in stamps_s if stamp is not None), 0.0)
    container = SimpleNamespace(format=SimpleNamespace(name="mpegts"), start_time=round(first * 1e6))
    stream = SimpleNamespace(average_rate=25, guessed_rate=None)
    clock = MediaClock(container, stream)  # type: ignore[arg-type]
    assert [clock.from_stamp(stamp_s) for stamp_s in stamps_s] == pytest.approx(shown, abs=1e-6)


def test_streams_that_begin_later_are_passed_over() -> None:
    """PyAV raises an `IndexError` for a packet of one; the next call goes on behind it."""
    calls = iter([[1, 2], [3], []])

    def demux_some(*_: object) -> Iterator[int]:
        yield from next(calls)
        if left:
            raise IndexError(left.pop())

    left = ["list index out of range"] * 2
    assert list(demux(SimpleNamespace(demux=demux_some))) == [1, 2, 3]  # type: ignore[arg-type]


def test_two_recordings_in_one_file(tmp_path: Path) -> None:
    data = write_film(tmp_path / "a.ts", EVEN, "mpeg4", rate=10).read_bytes()
    (tmp_path / "two.ts").write_bytes(data * 2)
    assert times(tmp_path / "two.ts") == pytest.approx([index / 10 for index in range(60)], abs=2e-3)


def test_sound_that_comes_first_counts_and_longer_sound_is_no_loss(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which puts sound to it, is not installed")
    film = write_film(tmp_path / "a.mkv", EVEN, rate=10)
    for delay_s, length_s in ((0, 9), (1.5, 3)):
        path = tmp_path / f"{delay_s}.mkv"
        sound = ["-f", "lavfi", "-i", f"sine=duration={length_s}"]
        command = ["ffmpeg", "-v", "error", *sound, "-itsoffset", str(delay_s), "-i", str(film)]
        subprocess.run([*command, "-c:v", "copy", "-c:a", "pcm_s16le", str(path)], check=True)
        assert times(path) == pytest.approx([delay_s + time_s for time_s in EVEN], abs=2e-3)


CONTAINERS = [
    ("mp4", "mpeg4", {"movflags": "faststart"}),
    ("mov", "mjpeg", {"movflags": "faststart"}),
    ("mkv", "mjpeg", {}),
    ("webm", "libvpx", {}),
    ("avi", "mjpeg", {}),
    ("flv", "flv", {}),
    ("gif", "gif", {}),
]


def filmed(path: Path, codec: str, muxer: dict[str, str], frames: int = 30) -> Path:
    """A moving pattern, so that each frame has something in it."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxer) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for _ in range(frames):
            image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("share", [0.3, 0.62, 0.95])
@pytest.mark.parametrize(("suffix", "codec", "muxer"), CONTAINERS, ids=[c[0] for c in CONTAINERS])
def test_a_file_that_is_cut_off_is_told(
    tmp_path: Path, suffix: str, codec: str, muxer: dict[str, str], share: float
) -> None:
    whole = filmed(tmp_path / f"whole.{suffix}", codec, muxer)
    assert len(times(whole)) == 30
    data = whole.read_bytes()
    torn = tmp_path / f"torn.{suffix}"
    torn.write_bytes(data[: round(len(data) * share)])
    read: list[int] = []
    with (
        Video(torn) as video,
        pytest.raises(SourceError, match=r"torn\..*: broken video, .*; get a complete"),
    ):
        read.extend(frame.index for frame in video.frames())
    assert read == list(range(len(read)))
    assert 2 < len(read) < 30


def test_numbers_in_a_header_are_no_evidence(tmp_path: Path) -> None:
    """AVI: frames in all (avih) and length of the stream (strh), RIFF's own size; Matroska: the duration."""
    data = bytearray(filmed(tmp_path / "a.avi", "mjpeg", {}).read_bytes())
    for place in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        assert struct.unpack_from("<I", data, place) == (30,)
        struct.pack_into("<I", data, place, 5000)
    struct.pack_into("<I", data, 4, 3 * len(data))
    (tmp_path / "wrong.avi").write_bytes(data)
    assert len(times(tmp_path / "wrong.avi")) == 30

    data = bytearray(filmed(tmp_path / "a.mkv", "mjpeg", {}).read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    assert struct.unpack_from(">d", data, place) == (3000,)
    struct.pack_into(">d", data, place, 3_600_000.0)
    (tmp_path / "wrong.mkv").write_bytes(data)
    with Video(tmp_path / "wrong.mkv") as video:
        assert video.duration_s == 3600
        assert len(list(video.frames())) == 30


def test_what_hangs_behind_a_film_is_no_fault_of_it(tmp_path: Path) -> None:
    for suffix, codec in (("mp4", "mpeg4"), ("avi", "mjpeg")):
        path = filmed(tmp_path / f"a.{suffix}", codec, {})
        for more in (b"\0" * 512, b"\xff\xfe\xfd\xfc" * 128, b"\0"):
            (tmp_path / f"more.{suffix}").write_bytes(path.read_bytes() + more)
            assert len(times(tmp_path / f"more.{suffix}")) == 30
    assert not is_truncated(Path(__file__))


@pytest.mark.parametrize(
    ("suffix", "codec", "index"), [("mkv", "mjpeg", b"\x1c\x53\xbb\x6b"), ("avi", "mjpeg", b"idx1")]
)
def test_a_lost_index_at_the_end_is_no_lost_frame(
    tmp_path: Path, suffix: str, codec: str, index: bytes
) -> None:
    data = filmed(tmp_path / f"a.{suffix}", codec, {}).read_bytes()
    place = data.rindex(index)
    assert place > 0.9 * len(data)
    for kept in (place + 2, place + 10, len(data) - 3):
        (tmp_path / f"b.{suffix}").write_bytes(data[:kept])
        assert len(times(tmp_path / f"b.{suffix}")) == 30


def test_a_recording_that_was_never_closed_is_whole_as_far_as_it_goes(tmp_path: Path) -> None:
    """Matroska of a program that could not go back to write the length of the segment."""
    path = filmed(tmp_path / "live.mkv", "mjpeg", {"live": "1"})
    assert len(times(path)) == 30
    assert not is_truncated(path)


def test_frames_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    data = bytearray(filmed(tmp_path / "a.avi", "mjpeg", {}).read_bytes())
    starts = [place for place in range(len(data)) if data.startswith(b"\xff\xd8\xff", place)]
    for start in (starts[7], starts[11]):
        data[start : start + 900] = bytes(900)
    (tmp_path / "bad.avi").write_bytes(data)
    read = []
    with (
        Video(tmp_path / "bad.avi") as video,
        pytest.raises(SourceError, match=r"broken video, 2 of 30 frames cannot be decoded"),
    ):
        read.extend(round(frame.time_s, 3) for frame in video.frames())
    assert read == [index / 10 for index in range(30) if index not in (7, 11)]


def test_a_text_is_no_film(tmp_path: Path) -> None:
    """FFmpeg shows one as a terminal."""
    for name in ("notes.txt", "a.ans"):
        (tmp_path / name).write_text("Dear diary, nobody wore a mask today.\n" * 500)
        with pytest.raises(SourceError, match="there is no video in it"):
            Video(tmp_path / name)
        with pytest.raises(SourceError, match="there is no video in it"):
            open_capture(str(tmp_path / name)).start()


def test_nothing_that_can_be_decoded(tmp_path: Path) -> None:
    data = filmed(tmp_path / "a.ts", "mpeg2video", {}).read_bytes()
    (tmp_path / "b.ts").write_bytes(data[: 188 * 3])
    with pytest.raises(SourceError, match=r"b\.ts: "), Video(tmp_path / "b.ts") as video:
        list(video.frames())


MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
MIRRORED = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", MATRICES + MIRRORED, ids=str)
def test_films_are_the_way_up_that_they_say(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255  # a bright quarter at the top left
    image[:24, 32:] = (200, 0, 0)
    with video_writer(tmp_path / "a.mp4", 10) as write:
        write(image)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = data.index(b"tkhd") + 44  # the track's matrix, ISO/IEC 14496-12, 8.3.2
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    with Video(tmp_path / "turned.mp4") as video:
        (frame,) = video.frames()
    # Where the matrix puts each pixel: x' = a x + c y, y' = b x + d y, then moved into the picture.
    a, b, c, d = matrix
    y, x = np.mgrid[:48, :64]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    expected = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    expected[down, across] = image
    assert frame.image_rgb.shape == expected.shape
    assert np.abs(frame.image_rgb.astype(int) - expected).mean() < 4
    if shutil.which("ffmpeg") is not None:
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "turned.mp4"), *raw]
        done = subprocess.run(command, capture_output=True, check=True)
        theirs = np.frombuffer(done.stdout, np.uint8).reshape(expected.shape)
        assert np.abs(frame.image_rgb.astype(int) - theirs).mean() < 4


def test_a_written_film_keeps_the_times(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    with video_writer(tmp_path / "a.mp4", 30) as write:
        for index, time_s in enumerate(PHONE):
            write(image + index, 10 + time_s, 0.75)
        write(np.zeros((96, 128, 3), np.uint8), 13.0, 0.75)  # of another size
    with Video(tmp_path / "a.mp4") as video:
        frames = list(video.frames())
        assert video.duration_s == pytest.approx(3.75, abs=1e-3)
    assert [frame.time_s for frame in frames] == pytest.approx([*PHONE, 3.0], abs=1e-3)
    assert frames[-1].duration_s == pytest.approx(0.75, abs=1e-3)
    assert frames[2].duration_s == pytest.approx(0.033, abs=1.1e-3)
    assert {frame.image_rgb.shape for frame in frames} == {(48, 64, 3)}


def test_recordings_of_phones_and_screens(shared: Path) -> None:
    folder = shared / "cases" / "07-variable-frame-rate-video"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for path in sorted(folder.iterdir()):
        assert times(path) == pytest.approx(times_by_ffprobe(path), abs=1e-6), path.name


def animated(path: Path, lengths_ms: list[int]) -> Path:
    """Frame i is grey of brightness 20 i."""
    first, *others = (Image.new("RGB", (64, 48), (20 * i, 20 * i, 20 * i)) for i in range(len(lengths_ms)))
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=lengths_ms, loop=0, **lossless)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animated_pictures_are_films(tmp_path: Path, suffix: str) -> None:
    path = animated(tmp_path / f"a{suffix}", [100, 500, 40, 1200])
    (source,) = find_sources([str(path)])
    assert source.kind == "video"
    with Video(path) as video:
        frames = list(video.frames())
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.6, 0.64])
    assert frames[-1].duration_s == pytest.approx(1.2, abs=0.011)  # APNG: as FFmpeg rounds it
    assert [int(frame.image_rgb[24, 32, 0]) for frame in frames] == pytest.approx([0, 20, 40, 60], abs=2)
    capture = open_capture(str(path))
    capture.start()
    taken = []
    while not capture.finished:
        if (one := capture.take(0.1)) is not None:
            taken.append(one)
    capture.close()
    assert [one.media_time_s for one in taken] == pytest.approx([0, 0.1, 0.6, 0.64])
    assert capture.status().state == "ended"


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_pictures_that_do_not_move_stay_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (64, 48)).save(path)
    animated(tmp_path / "b.webp", [100, 100])
    torn = (tmp_path / "b.webp").read_bytes()[:100]
    (tmp_path / "torn.webp").write_bytes(torn)
    kinds = {source.name.rpartition("/")[2]: source.kind for source in find_sources([str(tmp_path)])}
    assert kinds == {path.name: "picture", "b.webp": "video", "torn.webp": "picture"}
