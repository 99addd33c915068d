"""Proposals: what the model finds in the pictures, the one that is being looked at first."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwatch.boxes import BoxDetections
from maskwatch.detector import Detector
from maskwatch.errors import ImageError, OptionError
from maskwatch.label.annotation import LabelBox
from maskwatch.label.background import start_background
from maskwatch.label.jsonl import JsonLines
from maskwatch.label.project import LabelPicture
from maskwatch.labels import ClassMap, class_values
from maskwatch.models import DEFAULT_MODEL, ModelFile, load_model_file

FLOOR = 0.05
"""Detections with lower scores say nothing; those from here on say how sure the model is."""

_STOP_S = 10.0


@dataclass(frozen=True)
class ProposalModel:
    """A model and what of it is proposed.

    Attributes:
        file: the model file.
        sha256: of its content.
        class_ids: class of the model → class of the project, -1 for one that it does not have.
        thresholds: score above which a box of each class of the project is proposed.
        own_thresholds: those that the model itself has.
    """

    file: ModelFile
    sha256: str
    class_ids: tuple[int, ...]
    thresholds: tuple[float, ...]
    own_thresholds: tuple[float, ...]


def open_model(name: str | None, classes: ClassMap, min_score: float | None) -> ProposalModel | None:
    """The model that proposes boxes; None if none is named and the embedded one knows other classes.

    Args:
        name: an embedded model or a file; None for the embedded one.
        classes: of the project.
        min_score: of a proposal; None for the thresholds of the model.

    Raises:
        ModelFileError: there is no such model.
        OptionError: it knows none of the classes, or the score is none.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise OptionError(f"--min-score {min_score}: pass a number from 0 to 1")
    file = load_model_file(name or DEFAULT_MODEL)
    ids = tuple(-1 if (found := classes.find(n)) is None else found for n in file.metadata.classes)
    if name is None and not {*range(len(classes))} <= {*ids}:
        return None
    if max(ids) < 0:
        known, wanted = ", ".join(file.metadata.classes), ", ".join(classes.names)
        raise OptionError(
            f"--model {name}: it finds {known}, so it cannot propose {wanted}. Label some pictures without "
            "--model, train on them (maskwatch train), and name the model that comes out; if only the names "
            f"differ, map them: --classes {classes.names[0]}={file.metadata.classes[0]}"
        )
    own = {
        classes.names[at]: score for at, score in zip(ids, file.metadata.thresholds, strict=True) if at >= 0
    }
    thresholds = class_values(classes.names, own, [1.0] * len(classes))
    proposed = thresholds if min_score is None else (min_score,) * len(classes)
    sha256 = hashlib.sha256(file.path.read_bytes()).hexdigest()
    return ProposalModel(file, sha256, ids, proposed, thresholds)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model finds in a picture, in the classes of the project, from `FLOOR` on."""

    found: BoxDetections

    def uncertainty(self) -> float:
        """0 (sure of every box, or of none) to 1: how near the least certain score is to one half."""
        scores = self.found.confidence
        return float((1 - np.abs(2 * scores - 1)).max()) if len(scores) else 0.0

    def proposals(self, thresholds: Sequence[float]) -> list[LabelBox]:
        """The boxes with scores above the thresholds of their classes, best first."""
        found = self.found
        limits = np.array(thresholds, np.float32)
        rows = np.flatnonzero(found.confidence > limits[found.class_id])
        return [self._box(int(row)) for row in rows]

    def _box(self, row: int) -> LabelBox:
        x0, y0, x1, y1 = (round(float(value), 2) for value in self.found.xyxy[row])
        score = round(float(self.found.confidence[row]), 4)
        return LabelBox((x0, y0, x1, y1), str(self.found.data["class_name"][row]), score=score)


class Proposer:
    """Runs a model over pictures in a thread and keeps what it finds.

    Args:
        model: see `open_model`.
        pictures: in the order in which they are worked on, unless one is requested.
        class_names: of the project.
        cache: folder of what was found before; None keeps it in memory only.
        on_found: is called in the thread with the name of each picture.
        wait: is called in the thread before each picture.
    """

    def __init__(
        self,
        model: ProposalModel,
        pictures: Sequence[LabelPicture],
        class_names: Sequence[str],
        cache: Path | None,
        on_found: Callable[[str], None] = lambda image_id: None,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self._names = model, np.array(class_names)
        self._on_found, self._wait = on_found, wait
        path = None if cache is None else cache / f"proposals-{model.sha256[:16]}.jsonl"
        self._rows = None if path is None else JsonLines(path, ("image_id", "stamp", "boxes"))
        self._kept: dict[str, tuple[list[int], list[list[float]]]] = {}
        self._found: dict[str, Prediction] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._detector: Detector | None = None
        if self._rows is not None:
            for row in self._rows.new_rows():
                self._kept[row["image_id"]] = (row["stamp"], row["boxes"])
        self._waiting = {picture.image_id: picture for picture in reversed(pictures)}  # the last one first

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_background("proposals", self._work)

    def stop(self) -> None:
        """Ends the thread after the picture in work."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @property
    def left(self) -> int:
        """Number of pictures that the model has not seen."""
        return len(self._waiting)

    def get(self, image_id: str) -> Prediction | None:
        """What was found in a picture; None as long as the model has not seen it."""
        return self._found.get(image_id)

    def request(self, picture: LabelPicture) -> None:
        """Makes a picture the next one, ahead of earlier requests."""
        with self._changed:
            if picture.image_id in self._waiting:
                self._waiting[picture.image_id] = self._waiting.pop(picture.image_id)

    def predict(self, picture: LabelPicture) -> Prediction:
        """What the model finds in a picture, from the cache or now; nothing in one that cannot be read."""
        stamp = _stamp(picture.path)
        kept = self._kept.get(picture.image_id)
        if kept is None or kept[0] != stamp:
            boxes = self._detect(picture.path)
            kept = (stamp, boxes)
            if self._rows is not None:
                with contextlib.suppress(OSError):  # a cache: without room the model runs again
                    row = {"image_id": picture.image_id, "stamp": stamp, "boxes": boxes}
                    self._rows.append(row, durable=False)
        return self._prediction(kept[1])

    def _work(self) -> None:
        while not self._stopped:
            self._wait()
            with self._changed:
                if not self._waiting:
                    return
                image_id = next(reversed(self._waiting))
                picture = self._waiting[image_id]
            self._found[image_id] = self.predict(picture)
            with self._changed:
                del self._waiting[image_id]
            self._on_found(image_id)

    def _detect(self, path: Path) -> list[list[float]]:
        """Corners, score and class of the model of each box."""
        if self._detector is None:
            self._detector = Detector(self.model.file.path, threshold=FLOOR)
        try:
            found = self._detector.detect_boxes(str(path))
        except ImageError:
            return []
        columns = (found.xyxy.round(2), found.confidence[:, None].round(5), found.class_id[:, None])
        return [[float(value) for value in row] for row in np.concatenate(columns, 1).tolist()]

    def _prediction(self, boxes: Sequence[Sequence[float]]) -> Prediction:
        table: Any = np.array(boxes, np.float64).reshape(-1, 6)
        ids = np.array(self.model.class_ids, np.int64)[table[:, 5].astype(np.int64)]
        table, ids = table[ids >= 0], ids[ids >= 0]
        xyxy, scores = table[:, :4].astype(np.float32), table[:, 4].astype(np.float32)
        return Prediction(BoxDetections(xyxy, scores, ids, {"class_name": self._names[ids]}))


def _stamp(path: Path) -> list[int]:
    """Stands for the content of a picture: reading all pictures at the start would take minutes."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
