"""The state of a labelling server: the list of pictures, what is shown of each, and what is saved."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwatch.data.corrections import read_corrections
from maskwatch.label.annotation import Annotation, LabelBox, Review, is_covered, uncovered
from maskwatch.label.background import Foreground
from maskwatch.label.changes import Changes
from maskwatch.label.duplicates import DuplicateFinder
from maskwatch.label.errors import ConflictError, ReadOnlyError
from maskwatch.label.pace import Pace
from maskwatch.label.project import LabelPicture, by_name, open_project
from maskwatch.label.proposals import Prediction, Proposer, open_model
from maskwatch.label.settings import LabelSettings
from maskwatch.label.store import LabelStore, read_only_reason, stamp_of, writing
from maskwatch.label.suspects import (
    Decisions,
    LabelSuspect,
    answered,
    append_correction,
    computed_suspects,
    fitting,
    read_suspects,
)


@dataclass(frozen=True)
class PictureStatus:
    """What the list has of a picture.

    Attributes:
        size_hw: 0 × 0 if it cannot be read.
        uncertainty: None until the model has seen it.
        duplicate_of: name of the picture that it resembles; None for none.
    """

    picture: LabelPicture
    size_hw: tuple[int, int]
    annotation: Annotation
    suspects: tuple[LabelSuspect, ...]
    uncertainty: float | None
    duplicate_of: str | None

    @property
    def is_done(self) -> bool:
        return self.annotation.is_done


class LabelSession:
    """All that the routes of one server share; may be used from several threads.

    Args:
        settings: of the server.

    Attributes:
        read_only_reason: why annotations cannot be written; None if they can.

    Raises:
        MaskwatchError: folder, model or file cannot be used.
    """

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings
        self.project = project = open_project(settings.folder, settings.classes)
        self.pictures = by_name(project.pictures)
        self.store, self.changes, self.pace = LabelStore(project), Changes(), Pace()
        self._no_access = read_only_reason(project.folder)
        self.read_only_reason = self._no_access
        if settings.corrections is not None and self._no_access is None:
            self.read_only_reason = (
                f"decisions go to {settings.corrections}, and annotations stay as they are; start without "
                "--corrections to change them"
            )
        hidden: Path | None = None
        if self._no_access is None:
            with writing(project.hidden):
                project.hidden.mkdir(exist_ok=True)
            hidden = project.hidden
        self.model = open_model(settings.model, project.classes, settings.min_score)
        self._listed = None
        if settings.corrections is not None and stamp_of(settings.corrections) is not None:
            read_corrections(settings.corrections, project.classes)  # adding to another file would spoil it
        if settings.suspects is not None:
            self._listed = read_suspects(settings.suspects, project.pictures, project.classes)
        self._decisions = Decisions(project.hidden / "decisions.jsonl")
        self._foreground = Foreground()
        self.finder = DuplicateFinder(
            project.pictures,
            hidden and hidden / "duplicates.json",
            self._publish_progress,
            self._foreground.wait,
        )
        self._lock = threading.Lock()
        self._annotations: dict[str, tuple[object, Annotation]] = {}
        self._suspects: dict[str, tuple[Annotation, Prediction | None, list[LabelSuspect]]] = {}
        self.proposer: Proposer | None = None
        if self.model is not None:
            names = project.classes.names
            self.proposer = Proposer(
                self.model, self._by_need(), names, hidden, self._on_proposals, self._foreground.wait
            )

    def start(self) -> None:
        """Starts the threads."""
        if self.proposer is not None:
            self.proposer.start()
        self.finder.start()

    def close(self) -> None:
        """Ends streams and threads."""
        self.changes.close()
        self.finder.stop()
        if self.proposer is not None:
            self.proposer.stop()

    @property
    def writes_to(self) -> str | None:
        """Where decisions about suspects go: "annotations", "corrections", or None."""
        if self._no_access is not None:
            return None
        return "annotations" if self.settings.corrections is None else "corrections"

    def statuses(self) -> list[PictureStatus]:
        """All pictures, as they are on disk now."""
        with self._foreground.first():
            return [self.status(picture) for picture in self.pictures.values()]

    def status(self, picture: LabelPicture) -> PictureStatus:
        """A picture as it is on disk now."""
        annotation, prediction = self._annotation(picture), self._prediction(picture)
        return PictureStatus(
            picture,
            self.store.metadata(picture).size_hw,
            annotation,
            tuple(self._open_suspects(picture, annotation, prediction)),
            None if prediction is None else prediction.uncertainty(),
            self.finder.duplicate_of.get(picture.image_id),
        )

    def proposals(self, picture: LabelPicture, annotation: Annotation) -> Sequence[LabelBox] | None:
        """What is proposed for a picture; None until the model has seen it, which is next then."""
        if annotation.proposals or annotation.undecided:
            return annotation.proposals or annotation.undecided
        prediction = self._prediction(picture)
        if prediction is not None and self.model is not None:
            return uncovered(prediction.proposals(self.model.thresholds), annotation.refused)
        if self.proposer is None:
            return ()
        self.proposer.request(picture)
        return None

    def save(
        self,
        picture: LabelPicture,
        boxes: Sequence[LabelBox],
        seen: str,
        review: Review,
        *,
        empty: bool,
        window: str,
    ) -> tuple[Annotation, list[str]]:
        """Saves the labels of a picture; see `LabelStore.save`."""
        if self.read_only_reason is not None:
            raise ReadOnlyError(self.read_only_reason)
        before = self._annotation(picture)
        saved, ids = self.store.save(picture, boxes, seen, mark="empty" if empty else "", review=review)
        self.pace.add(len(saved.boxes) - len(before.boxes))
        self._publish_picture(picture, saved, window)
        return saved, ids

    def suspect(self, suspect_id: str) -> LabelSuspect | None:
        """The suspect of an id; None if there is none, or it was decided."""
        return next((s for one in self.statuses() for s in one.suspects if s.id == suspect_id), None)

    def decide(
        self, suspect: LabelSuspect, decision: str, seen: str, window: str, reason: str | None = None
    ) -> Annotation:
        """Remembers a decision about a suspect, and follows it.

        Args:
            decision: "label" or "answer": which of the two is right.
            reason: why, in the person's words.

        Raises:
            ConflictError: the labels have changed.
            DiskFullError, ReadOnlyError: it cannot be written.
        """
        if self.writes_to is None:
            raise ReadOnlyError(str(self.read_only_reason))
        picture = self.pictures[suspect.image_id]
        annotation = self._annotation(picture)
        if annotation.revision != seen:
            raise ConflictError(f"{picture.image_id}: its labels have changed; look at them and decide again")
        if decision == "answer" and self.settings.corrections is not None:
            with writing(self.settings.corrections):
                append_correction(self.settings.corrections, suspect)
        elif decision == "answer":
            boxes = answered(suspect, annotation.boxes)
            annotation, _ = self.store.save(picture, boxes, seen, mark="" if boxes else "empty")
        with writing(self.project.hidden):
            self._decisions.add(suspect, decision, self.settings.by, reason)
        self._publish_picture(picture, annotation, window)
        return annotation

    def counts(self) -> dict[str, Any]:
        """Numbers of pictures and boxes."""
        every = self.statuses()
        done = sum(one.is_done for one in every)
        boxes = Counter(box.name for one in every for box in one.annotation.boxes)
        return {
            "counts": {
                "pictures": len(every),
                "done": done,
                "todo": len(every) - done,
                "suspects": sum(len(one.suspects) for one in every),
                "duplicates": len(self.finder.duplicate_of),
            },
            "per_class": {name: boxes[name] for name in self.project.classes.names},
        }

    def progress(self) -> dict[str, Any]:
        """The data of a `progress` event. Pictures count as they were last seen, for it is sent often."""
        known = (
            self._annotations.get(p) or (None, self._annotation(self.pictures[p])) for p in self.pictures
        )
        return {
            "done": sum(annotation.is_done for _, annotation in known),
            "pictures": len(self.pictures),
            "proposals_left": 0 if self.proposer is None else self.proposer.left,
            "duplicates_left": self.finder.left,
            "boxes_per_hour": self.pace.boxes_per_hour(),
        }

    def _by_need(self) -> list[LabelPicture]:
        """The pictures that are not done first."""
        return sorted(self.pictures.values(), key=lambda one: self._annotation(one).is_done)

    def _annotation(self, picture: LabelPicture) -> Annotation:
        version = self.store.version(picture)
        kept = self._annotations.get(picture.image_id)
        if kept is None or kept[0] != version:
            kept = self._annotations[picture.image_id] = (version, self.store.read(picture))
        return kept[1]

    def _prediction(self, picture: LabelPicture) -> Prediction | None:
        return None if self.proposer is None else self.proposer.get(picture.image_id)

    def _open_suspects(
        self, picture: LabelPicture, annotation: Annotation, prediction: Prediction | None
    ) -> list[LabelSuspect]:
        if not annotation.is_done and self._listed is None:
            return []
        with self._lock:
            kept = self._suspects.get(picture.image_id)
            if kept is None or kept[0] is not annotation or kept[1] is not prediction:
                found = self._find_suspects(picture, annotation, prediction)
                kept = self._suspects[picture.image_id] = (annotation, prediction, found)
            refused = annotation.refused
            asked = [s for s in kept[2] if s.kind != "missing" or not is_covered(s.box_xyxy, refused)]
            return self._decisions.open(asked) if asked else []

    def _find_suspects(
        self, picture: LabelPicture, annotation: Annotation, prediction: Prediction | None
    ) -> list[LabelSuspect]:
        if self._listed is not None:
            return fitting(self._listed.get(picture.image_id, ()), annotation)
        if prediction is None or self.model is None:
            return []
        size_hw, classes = self.store.metadata(picture).size_hw, self.project.classes
        thresholds = self.model.own_thresholds
        return computed_suspects(picture, annotation, size_hw, prediction, classes, thresholds)

    def _on_proposals(self, image_id: str) -> None:
        self.changes.publish("proposals", {"image_id": image_id})
        if self.proposer is not None and self.proposer.left % 10 == 0:
            self._publish_progress()

    def _publish_picture(self, picture: LabelPicture, annotation: Annotation, window: str) -> None:
        self._annotation(picture)  # progress counts it as it is now
        data = {"image_id": picture.image_id, "revision": annotation.revision, "state": annotation.state}
        self.changes.publish("picture", {**data, "window": window})
        self._publish_progress()

    def _publish_progress(self) -> None:
        self.changes.publish("progress", self.progress())
