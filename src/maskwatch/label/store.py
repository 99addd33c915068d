"""The store of labels: reads and writes the annotations of one picture at a time, and loses none.

A file is replaced, never edited in place: after a kill or a power cut it is the old or the new one. What was
acknowledged is on disk. Writers take turns by a lock that all processes on the folder share, and each
compares the revision that it has seen with what is on disk then.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from maskwatch.data.issues import Box
from maskwatch.errors import DataError, ImageError
from maskwatch.label.annotation import (
    Annotation,
    LabelBox,
    Mark,
    ReadBox,
    Review,
    annotation_of,
    rounded,
    short_hash,
    uncovered,
)
from maskwatch.label.coco_editor import CocoDocument
from maskwatch.label.errors import ConflictError, DiskFullError, LabelInputError, ReadOnlyError
from maskwatch.label.marks import Marks
from maskwatch.label.originals import Originals
from maskwatch.label.project import LabelPicture, LabelProject
from maskwatch.label.reviews import Reviews
from maskwatch.label.voc_editor import VocDocument
from maskwatch.label.yolo_editor import YoloDocument
from maskwatch.lock import FolderLock
from maskwatch.media.formats import ImageMetadata, read_metadata
from maskwatch.outputs import durable_write
from maskwatch.text import first_line, reason_of

_NO_METADATA = ImageMetadata((0, 0), 1)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)
_UNREADABLE = (OSError, ValueError, ET.ParseError, DataError)

Stamp = tuple[int, int, int]
"""Changes whenever a file is replaced or edited: inode, time in ns, size."""


class LabelStore:
    """Reads and writes labels, from any thread.

    Args:
        project: whose labels these are.
    """

    def __init__(self, project: LabelProject) -> None:
        self.project = project
        hidden = project.hidden
        self._lock = FolderLock(hidden / "lock")
        self._originals = Originals(hidden / "originals", project.folder)
        self._marks = Marks(hidden / "proposed.jsonl")
        self._reviews = Reviews(hidden / "reviews.jsonl")
        self._reading = threading.RLock()
        self._coco: dict[Path, tuple[Stamp | None, CocoDocument]] = {}
        self._metadata: dict[Path, tuple[Stamp | None, ImageMetadata, str | None]] = {}
        self._saves: Counter[str] = Counter()  # not every save changes the file
        # id → text of every box seen of a picture, so that undoing a deletion brings back all of it.
        self._attic: dict[str, dict[str, str]] = defaultdict(dict)

    def metadata(self, picture: LabelPicture) -> ImageMetadata:
        """Size as shown and orientation of a picture; 0 × 0 if it cannot be read."""
        return self._picture_metadata(picture)[0]

    def version(self, picture: LabelPicture) -> object:
        """Equal as long as no one has written the picture or its labels; cheaper than reading them."""
        image = stamp_of(picture.path)
        if picture.format != "coco":
            return stamp_of(picture.annotation), image, self._saves[picture.image_id]
        with self._reading:
            try:
                document = self._coco_document(picture)
            except _UNREADABLE:
                return None
            return document.number, document.edits[picture.path], image, self._saves[picture.image_id]

    def has_file(self, picture: LabelPicture) -> bool:
        """Whether a picture has its own annotation file, whatever is in it."""
        return picture.format != "coco" and picture.annotation.exists()

    def read(self, picture: LabelPicture) -> Annotation:
        """The labels of a picture as they are on disk now."""
        metadata, broken = self._picture_metadata(picture)
        with self._reading:
            try:
                annotation, boxes = self._parsed(picture, metadata)
            except _UNREADABLE as error:
                text = f"{picture.annotation.name} cannot be read ({first_line(error)}); repair it"
                return Annotation(notes=(text,), problem=text)
            self._remember(picture, boxes)
            annotation = _reviewed(annotation, self._reviews.get(picture.image_id))
        problem = broken or picture.problem
        if problem is None:
            return annotation
        return replace(annotation, problem=problem, notes=(*annotation.notes, problem))

    def save(
        self,
        picture: LabelPicture,
        boxes: Sequence[LabelBox],
        seen: str | None,
        *,
        mark: Mark = "",
        review: Review | None = None,
    ) -> tuple[Annotation, list[str]]:
        """Replaces the labels of a picture; they are on disk when this returns.

        Args:
            boxes: all of them, with the id of the box that each was before, None for a new one.
            seen: revision that the person has seen; None for a picture that must not have labels yet.
            mark: "empty" for looked at and nothing to find, "proposed" for boxes that no one has looked at.
            review: of the proposals; None leaves it as it is.

        Returns:
            The labels, and the id of each box in the order given.

        Raises:
            ConflictError: the revision on disk is another one.
            LabelInputError: a box or a class cannot be saved.
            DiskFullError, ReadOnlyError, OutputError: it cannot be written; the old file is untouched.
        """
        with writing(picture.annotation), self._locked():
            before = self.read(picture)
            if before.problem is not None:
                raise ReadOnlyError(f"{picture.image_id}: {before.problem}")
            if before.revision != seen and not (seen is None and before.revision == "none"):
                raise ConflictError(
                    f"{picture.image_id}: another window or program has changed its labels; look at both and "
                    "save again"
                )
            checked = self._checked(picture, boxes, before)
            with self._reading:
                if review is not None:  # first: a kill in between must not make the picture look done
                    self._reviews.put(picture.image_id, review)
                still_unlabelled = before.state == "unlabelled" and not checked and not mark
                ids = [] if still_unlabelled else self._write(picture, checked, mark)
            self._saves[picture.image_id] += 1
            return self.read(picture), ids

    def _checked(
        self, picture: LabelPicture, boxes: Sequence[LabelBox], before: Annotation
    ) -> list[LabelBox]:
        known = {box.id: box for box in before.boxes}
        size_hw = self.metadata(picture).size_hw
        checked: list[LabelBox] = []
        used: set[str] = set()
        for box in boxes:
            if box.id in used:
                raise LabelInputError(f"two boxes have the id {box.id!r}; send null for the new one")
            old = known.get(box.id) if box.id is not None else None
            if box.id is not None:
                used.add(box.id)
            unchanged = old is not None and old.name == box.name
            if box.name not in self.project.classes.names and not unchanged:
                names = ", ".join(self.project.classes.names)
                raise LabelInputError(f"class {box.name!r} is none of {names}; choose one of them")
            if old is not None and old.is_at(box.box_xyxy):
                checked.append(replace(box, box_xyxy=old.box_xyxy))
            else:
                checked.append(rounded(replace(box, box_xyxy=_clipped(box.box_xyxy, size_hw))))
        return checked

    def _write(self, picture: LabelPicture, boxes: Sequence[LabelBox], mark: Mark) -> list[str]:
        """Writes the file of a picture; returns the ids of the boxes."""
        attic, metadata = self._attic[picture.image_id], self.metadata(picture)
        if picture.format == "coco":
            document = self._coco_document(picture)
            del self._coco[picture.annotation]  # until the file is written, it is ahead of it
            ids = document.replace(picture.path, metadata, boxes, mark, attic)
            self._put(picture.annotation, document.to_bytes())
            self._coco[picture.annotation] = (stamp_of(picture.annotation), document)
            return ids
        data = _read_bytes(picture.annotation)
        if picture.format == "voc":
            voc = VocDocument(data, picture.path, metadata, self.project.classes)
            # Without objects and without a mark the file would mean that there is nothing to find.
            ids = voc.replace(boxes, "" if mark == "empty" or (boxes and not mark) else "proposed", attic)
            self._put(picture.annotation, voc.to_bytes())
            return ids
        yolo = self._yolo_document(picture, data)
        ids = yolo.replace(boxes, attic)
        new = yolo.to_bytes()
        if mark == "proposed" or (not boxes and mark != "empty"):
            self._marks.add(picture.image_id, short_hash(new), [box.score for box in boxes])
            self._put(picture.annotation, new)
        else:
            self._put(picture.annotation, new)
            self._marks.remove(picture.image_id)
        return ids

    def _put(self, path: Path, data: bytes) -> None:
        if _read_bytes(path) == data:
            return
        self._originals.keep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        durable_write(path, data)

    def _parsed(self, picture: LabelPicture, metadata: ImageMetadata) -> tuple[Annotation, list[ReadBox]]:
        if picture.format == "coco":
            document = self._coco_document(picture)
            boxes, text = document.boxes(picture.path, metadata), document.text_of(picture.path)
            revision = short_hash(text.encode("utf-8", "surrogatepass")) if text else "none"
            notes = document.notes(picture.path, metadata)
            mark = document.mark(picture.path)
            return annotation_of(boxes, mark, revision, is_empty=False, notes=notes), boxes
        data = _read_bytes(picture.annotation)
        if data is None:
            return Annotation(), []
        revision = short_hash(data)
        if picture.format == "voc":
            voc = VocDocument(data, picture.path, metadata, self.project.classes)
            boxes = voc.boxes()
            return annotation_of(boxes, voc.mark, revision, is_empty=True, notes=voc.notes), boxes
        boxes = self._yolo_document(picture, data).boxes()
        scores = self._marks.scores(picture.image_id, revision)
        if scores is None:
            return annotation_of(boxes, "", revision, is_empty=True), boxes
        annotation = annotation_of(boxes, "proposed", revision, is_empty=True)
        return replace(annotation, proposals=_scored(annotation.proposals, scores)), boxes

    def _coco_document(self, picture: LabelPicture) -> CocoDocument:
        """The document of a file, parsed again if anyone has changed the file."""
        assert picture.coco is not None
        stamp = stamp_of(picture.annotation)
        kept = self._coco.get(picture.annotation)
        if kept is None or kept[0] != stamp:
            kept = self._coco[picture.annotation] = (stamp, CocoDocument(picture.coco, self.project.classes))
        return kept[1]

    def _yolo_document(self, picture: LabelPicture, data: bytes | None) -> YoloDocument:
        assert picture.lines is not None
        size_hw = self.metadata(picture).size_hw
        return YoloDocument(data, picture.lines, size_hw, self.project.classes)

    def _picture_metadata(self, picture: LabelPicture) -> tuple[ImageMetadata, str | None]:
        """Metadata of the image, and why it cannot be read."""
        stamp, kept = stamp_of(picture.path), self._metadata.get(picture.path)
        if kept is not None and kept[0] == stamp:
            return kept[1], kept[2]
        try:
            metadata, problem = read_metadata(picture.path), None
        except ImageError as error:
            metadata, problem = _NO_METADATA, str(error).removeprefix(f"{picture.path}: ")
        self._metadata[picture.path] = (stamp, metadata, problem)
        return metadata, problem

    def _remember(self, picture: LabelPicture, boxes: Sequence[ReadBox]) -> None:
        attic = self._attic[picture.image_id]
        attic |= {one.box.id: one.raw for one in boxes if one.box is not None and one.box.id is not None}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.project.hidden.mkdir(exist_ok=True)
        with self._lock.held():
            yield


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError in its block into the error that says what to do.

    Raises:
        DiskFullError, ReadOnlyError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            text = f"{path}: no room on the disk, so the change was not saved; free some and save again"
            raise DiskFullError(text) from error
        why = "allow it, or label a copy" if error.errno in _NO_RIGHT else "check the disk and save again"
        raise ReadOnlyError(f"{path}: cannot be written ({reason_of(error)}); {why}") from error


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_only_reason(folder: Path) -> str | None:
    """Why nothing can be written below a folder; None if it can."""
    if os.access(folder, os.W_OK | os.X_OK):
        return None
    return f"{folder}: no permission to write here; label a copy, or change its permissions"


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _reviewed(annotation: Annotation, review: Review) -> Annotation:
    """An annotation with what of its review still fits: another program may have labelled the rest."""
    gone = annotation.revision == "none" or annotation.state == "empty" or bool(annotation.proposals)
    undecided = () if gone else uncovered(review.undecided, annotation.boxes)
    proposals = uncovered(annotation.proposals, review.refused)
    return replace(annotation, proposals=proposals, undecided=undecided, refused=review.refused)


def _scored(boxes: Sequence[LabelBox], scores: Sequence[float | None]) -> tuple[LabelBox, ...]:
    if len(scores) != len(boxes):
        return tuple(boxes)
    return tuple(replace(box, score=score) for box, score in zip(boxes, scores, strict=True))


def _clipped(box_xyxy: Box, size_hw: tuple[int, int]) -> Box:
    """The part of a box that lies in the picture.

    Raises:
        LabelInputError: there is none.
    """
    height, width = size_hw
    shown = ", ".join(f"{value:g}" for value in box_xyxy)
    if not all(map(math.isfinite, box_xyxy)):
        raise LabelInputError(f"box {shown} is not made of four numbers; draw it again")
    x0, y0, x1, y1 = box_xyxy
    clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if clipped[2] - clipped[0] < 0.01 or clipped[3] - clipped[1] < 0.01:
        raise LabelInputError(
            f"box {shown} has no area in the picture of {width} x {height}; draw it again or remove it"
        )
    return clipped
