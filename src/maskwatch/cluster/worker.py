"""What runs on the nodes: an actor holds one detector and turns rows of work into rows of results."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal

import cv2
import pyarrow as pa
import ray

from maskwatch.cluster.rows import RESULTS, WORK, error_row, result_row
from maskwatch.cluster.storage import read_file
from maskwatch.detector import Detector, only_classes
from maskwatch.errors import MaskwatchError
from maskwatch.media.sources import Source
from maskwatch.media.video_parts import VideoPart, VideoRange, split_video
from maskwatch.media.videos import Video
from maskwatch.records import Result, to_record
from maskwatch.system import in_order
from maskwatch.text import reason_of

_READ_AHEAD = 4
"""Files of an object store that are read while others are computed."""


class DetectWorker:
    """Detects in pictures and videos.

    Args:
        detector: a reference to a pickled `Detector`.
        class_ids: of the detections that are returned.
        cpus: that the actor has.
    """

    def __init__(self, detector: ray.ObjectRef[bytes], class_ids: Collection[int], cpus: int) -> None:
        cv2.setNumThreads(cpus)
        self._detector: Detector = pickle.loads(ray.get(detector))
        self._class_ids = class_ids
        self._calls = min(cpus, 2)  # with several cores, a picture is decoded while another is computed

    def __call__(self, work: pa.Table) -> pa.Table:
        """A table of `WORK` → a table of `RESULTS`, in the same order."""
        rows = work.select(WORK.names).to_pylist()
        away = any(row["url"] is not None for row in rows)
        calls = self._calls + (_READ_AHEAD if away else 0)
        results: list[dict[str, Any]] = []
        if calls == 1:  # no thread, which would compete with the network for the only core
            for row in rows:
                results += self._results(row)
        else:
            for _, result in in_order(self._results, rows, calls):
                results += result()
        return pa.Table.from_pylist(results, RESULTS)

    def _results(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of one row of work; that of its error last."""
        found: list[dict[str, Any]] = []
        source, kind, part = row["source"], row["kind"], row["part"]
        try:
            for result in self._video(row) if kind == "video" else self._picture(row):
                found.append(result_row(to_record(result), part))
        except (MaskwatchError, OSError, MemoryError) as error:
            text = reason_of(error) if isinstance(error, OSError) else str(error) or "no memory"
            found.append(error_row(source, kind, text.removeprefix(f"{source}: "), part))
        return found

    def _picture(self, row: dict[str, Any]) -> Iterator[Result]:
        picture = self._detector.read(_file_of(row), row["source"])
        height, width = picture.metadata.size_hw
        shown = only_classes(self._detector.detect_boxes(picture), self._class_ids)
        yield Result(row["source"], width, height, shown)

    def _video(self, row: dict[str, Any]) -> Iterator[Result]:
        with local_file(row) as path, _open_video(row, path) as video:
            for frame, found in self._detector.detect_video(video):
                shown = only_classes(found, self._class_ids)
                height, width = frame.image_rgb.shape[:2]
                yield Result(row["source"], width, height, shown, frame.index, frame.time_s)


def split_videos(length_s: float, work: pa.Table) -> pa.Table:
    """Replaces each video by its parts of about `length_s` seconds, where it can be split."""
    rows = [part for row in work.select(WORK.names).to_pylist() for part in _parts(row, length_s)]
    return pa.Table.from_pylist(rows, WORK)


def _parts(row: dict[str, Any], length_s: float) -> list[dict[str, Any]]:
    if row["kind"] == "video" and row["path"] is not None:
        with contextlib.suppress(MaskwatchError, OSError):  # the worker reports it
            ranges = split_video(_path_of(row["path"]), length_s)
            if len(ranges) > 1:
                return [{**row, **_fields(each)} for each in ranges]
    return [row]


@contextlib.contextmanager
def local_file(row: dict[str, Any]) -> Iterator[Path]:
    """The path of the file of a row of work; one that is elsewhere is there during the block."""
    if row["path"] is not None:
        yield _path_of(row["path"])
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video{PurePosixPath(row['source']).suffix}")
        data = _file_of(row)
        assert isinstance(data, bytes)
        path.write_bytes(data)
        yield path


def _open_video(row: dict[str, Any], path: Path) -> Video:
    if row["num_frames"] is None:
        return Video(path)
    part = VideoRange(row["part"], row["num_frames"], row["start_pts"], row["end_pts"])
    return VideoPart(path, part)


def _fields(part: VideoRange) -> dict[str, Any]:
    return {
        "part": part.first_frame,
        "num_frames": part.num_frames,
        "start_pts": part.start_pts,
        "end_pts": part.end_pts,
    }


def _file_of(row: dict[str, Any]) -> Path | bytes:
    if row["data"] is not None:
        return bytes(row["data"])
    url, path = row["url"], row["path"]
    if url is not None and not url.startswith(("http://", "https://")):
        return read_file(url)
    kind: Literal["unreadable", "picture"] = "unreadable" if row["kind"] == "unreadable" else "picture"
    return Source(row["source"], kind, PurePath(), None if path is None else _path_of(path), url).read()


def _path_of(path: bytes) -> Path:
    return Path(os.fsdecode(path))
