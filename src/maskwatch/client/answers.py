"""The answers of a service, as types."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv

from maskwatch.errors import ServiceError
from maskwatch.records import JSON_SCHEMA

_DATA_URL = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class Face:
    """One detection; `box_xyxy` in pixels of the picture after EXIF orientation, `score` 0..1."""

    class_name: str
    class_id: int
    score: float
    box_xyxy: tuple[float, float, float, float]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Face:
        """Reads an entry of `detections`."""
        x1, y1, x2, y2 = map(float, record["box"])
        return cls(str(record["class"]), int(record["class_id"]), float(record["score"]), (x1, y1, x2, y2))


@dataclass(frozen=True)
class Picture:
    """What was found in one picture.

    Attributes:
        index: position of the picture in the list that was sent, from 0.
        source: its name: a path as it was given, otherwise `picture-INDEX`.
        width, height: in pixels, after EXIF orientation.
        faces: best first.
        annotated: the annotated picture, bytes of a JPEG file; None without `annotate`.
    """

    index: int
    source: str
    width: int
    height: int
    faces: tuple[Face, ...]
    annotated: bytes | None = None

    def to_supervision(self) -> sv.Detections:
        """The faces as `Detector` gives them; of length 0 where there is none."""
        return to_supervision(self.faces)


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, and why; `index` and `source` as in `Picture`."""

    index: int
    source: str
    reason: str


@dataclass(frozen=True)
class Model:
    """A model of the service.

    Attributes:
        thresholds: class name → score above which a detection counts.
        input_size: (H, W) in pixels; this and the following are filled by `models()` only.
        file: address of the model file on the same service.
        bytes, sha256: of that file.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    thresholds: Mapping[str, float]
    default: bool = False
    input_size: tuple[int, int] | None = None
    resize: str | None = None
    box_voting: bool | None = None
    trained_on: str | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Model:
        """Reads an entry of `models`, or the `model` of an answer; ignores unknown fields."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        known["classes"] = tuple(record["classes"])
        known["thresholds"] = dict(record["thresholds"])
        if known.get("input_size") is not None:
            height, width = record["input_size"]
            known["input_size"] = (int(height), int(width))
        return cls(**known)


@dataclass(frozen=True)
class Answer:
    """Answer of `detect`: `pictures` and `failures` together cover what was sent, each in that order.

    `maskwatch` is the version of the service; `model` has the thresholds it used.
    """

    maskwatch: str
    model: Model
    pictures: tuple[Picture, ...]
    failures: tuple[Failure, ...]

    @classmethod
    def from_record(cls, names: Sequence[str], sources: Sequence[str], record: Mapping[str, Any]) -> Answer:
        """Reads the document.

        Args:
            names: the unique name under which each picture was sent.
            sources: the caller's name of each picture.
            record: the document.

        Raises:
            ServiceError: the document is of another schema.
        """
        if record["schema"] != JSON_SCHEMA:
            raise ServiceError(
                f"the service answered in schema {record['schema']!r}, this client reads {JSON_SCHEMA!r}; "
                "install the client in the service's version"
            )

        def origin(one: Mapping[str, Any]) -> tuple[int, str]:
            # An older service gives no index.
            index = int(one["index"]) if "index" in one else names.index(one["source"])
            return index, sources[index]

        pictures = tuple(_picture(one, *origin(one)) for one in record["results"])
        failures = tuple(Failure(*origin(one), one["reason"]) for one in record["failures"])
        indices = [one.index for one in pictures] + [one.index for one in failures]
        if sorted(indices) != list(range(len(names))):
            raise ValueError(f"pictures {indices} of {len(names)}")
        return cls(str(record["maskwatch"]), Model.from_record(record["model"]), pictures, failures)


@dataclass(frozen=True)
class FrameAnswer:
    """Answer of a stream to a frame.

    Attributes:
        seq: number of the frame; no answer follows for those before it.
        dropped: frames that were skipped since the previous answer.
        faces: best first, boxes in pixels of the frame.
        detect_ms: time of the detector in milliseconds.
        problem: why the frame could not be read; faces and size are then empty.
    """

    seq: int
    dropped: int
    width: int = 0
    height: int = 0
    faces: tuple[Face, ...] = ()
    detect_ms: float = 0.0
    problem: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FrameAnswer:
        """Reads a message."""
        seq, dropped = int(record["seq"]), int(record["dropped"])
        if "problem" in record:
            return cls(seq, dropped, problem=str(record["problem"]["detail"]))
        faces = tuple(map(Face.from_record, record["detections"]))
        size = int(record["width"]), int(record["height"])
        return cls(seq, dropped, *size, faces, float(record["detect_ms"]))

    def to_supervision(self) -> sv.Detections:
        """The faces as `Detector` gives them; of length 0 where there is none."""
        return to_supervision(self.faces)


def to_supervision(faces: Sequence[Face]) -> sv.Detections:
    """Faces → `xyxy` float32 (N, 4), `confidence`, `class_id`, `data["class_name"]`."""
    return sv.Detections(
        xyxy=np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4),
        confidence=np.array([face.score for face in faces], np.float32),
        class_id=np.array([face.class_id for face in faces], np.int64),
        data={"class_name": np.array([face.class_name for face in faces], np.str_)},
    )


def _picture(record: Mapping[str, Any], index: int, source: str) -> Picture:
    url = record.get("annotated")
    return Picture(
        index,
        source,
        int(record["width"]),
        int(record["height"]),
        tuple(map(Face.from_record, record["detections"])),
        None if url is None else base64.b64decode(url.removeprefix(_DATA_URL), validate=True),
    )
