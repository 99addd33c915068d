"""Splits a video into parts that several machines decode, each with the frames it has in the whole video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from maskwatch.errors import SourceError
from maskwatch.media.containers import is_truncated
from maskwatch.media.video_decoder import DisplayTransform, MediaClock, VideoDecoder, demux, seconds
from maskwatch.media.videos import Frame, Video

_SPLITTABLE = frozenset(["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"])
"""Containers with an index of key frames and a timestamp for each frame."""

MAX_GAP_S = 60.0
"""A longer pause between two frames may be a clock that was set; such a video is read as a whole."""


@dataclass(frozen=True)
class VideoRange:
    """A part of a video that begins with a key frame.

    Attributes:
        first_frame: index of its first frame in the video.
        num_frames: in it.
        start_pts, end_pts: timestamps in ticks of the stream; of its first frame, and of the next part's.
    """

    first_frame: int
    num_frames: int
    start_pts: int
    end_pts: int | None


def split_video(path: Path, length_s: float) -> list[VideoRange]:
    """The parts of a video, each about `length_s` seconds long; reads all packets and decodes none.

    Empty where the video has to be read from its beginning: it is short or damaged, its container has no
    index of key frames, or its timestamps do not run through.

    Raises:
        SourceError: the file cannot be opened as a video.
    """
    with Video(path) as video:
        container, stream = video.opened()
        if container is None or stream is None or container.format.name not in _SPLITTABLE:
            return []
        if is_truncated(path) or (video.duration_s or 0) < 2 * length_s:
            return []
        stamps: list[int] = []
        keys: list[int] = []
        try:
            for packet in demux(container, stream):
                if not packet.size:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return []
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except (FFmpegError, OSError):
            return []
        order = np.unique(np.array(stamps, np.int64))
        if not stamps or len(order) != len(stamps) or not _runs_through(video, order):
            return []
        return _ranges(order, keys, length_s / float(stream.time_base or 1))


def _runs_through(video: Video, order: npt.NDArray[np.int64]) -> bool:
    """Whether each frame's time is its timestamp, less the container's start; `order` (N,) is ascending."""
    container, stream = video.opened()
    assert container is not None
    assert stream is not None
    tick_s = float(stream.time_base or 1)
    first_s = MediaClock(container, stream).from_stamp(seconds(int(order[0]), stream.time_base))
    start_s = max(0.0, (container.start_time or 0) / 1e6)
    pauses = np.diff(order) * tick_s > MAX_GAP_S
    return bool(order[0] >= 0 and abs(order[0] * tick_s - first_s - start_s) < 1e-6 and not pauses.any())


def _ranges(order: npt.NDArray[np.int64], keys: list[int], ticks: float) -> list[VideoRange]:
    starts = [int(order[0])]
    for key in sorted(keys):
        if key - starts[-1] >= ticks:
            starts.append(key)
    first = np.searchsorted(order, starts)
    ends = [*first[1:], len(order)]
    return [
        VideoRange(int(begin), int(end - begin), start, following)
        for begin, end, start, following in zip(first, ends, starts, [*starts[1:], None], strict=True)
    ]


class VideoPart(Video):
    """An open video of which only the frames of one part are read.

    Raises:
        SourceError: the file cannot be opened as a video.
    """

    def __init__(self, path: Path, part: VideoRange) -> None:
        super().__init__(path)
        self._part = part

    def frames(self) -> Iterator[Frame]:
        """The frames of the part, with their index and time in the whole video; may be called once.

        Raises:
            SourceError: after the last readable frame, when some cannot be decoded.
        """
        part, index = self._part, self._part.first_frame
        for frame in self._decoded_part():
            yield replace(frame, index=index)
            index += 1
        missing = part.first_frame + part.num_frames - index
        if missing:
            raise SourceError(
                f"{self.path}: broken video, {missing} of {part.num_frames} frames from frame "
                f"{part.first_frame} on cannot be decoded; get a complete copy of it"
            )

    def _decoded_part(self) -> Iterator[Frame]:
        container, stream = self.opened()
        assert container is not None
        assert stream is not None
        clock, decoder = MediaClock(container, stream), VideoDecoder(None, stream)
        container.seek(self._part.start_pts, stream=stream, backward=True)
        for frame in decoder.frames(container):
            # Frames that are shown before the key frame belong to the part before.
            if frame.pts is None or frame.pts < self._part.start_pts:
                continue
            if self._closed or (self._part.end_pts is not None and frame.pts >= self._part.end_pts):
                return
            image_rgb = DisplayTransform.of(frame).to_rgb(frame)
            yield Frame(0, clock.time_s(frame), image_rgb, clock.length_s(frame))
