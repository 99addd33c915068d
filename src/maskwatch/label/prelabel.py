"""Writes proposals as annotations of pictures without labels; `maskwatch label` asks about them first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maskwatch.errors import OptionError
from maskwatch.label.project import LabelProject
from maskwatch.label.proposals import Proposer, open_model
from maskwatch.label.store import LabelStore, writing


@dataclass(frozen=True)
class PrelabelResult:
    """Numbers of pictures: newly annotated, without a proposal, and left alone; and of boxes written.

    kept: pictures that have labels, or proposals of an earlier run; unreadable: why, for each such picture.
    """

    written: int
    boxes: int
    nothing: int
    kept: int
    unreadable: tuple[str, ...]


def prelabel(
    project: LabelProject,
    model: str | None = None,
    min_score: float | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> PrelabelResult:
    """Writes what a model finds into the annotations of unlabelled pictures, marked as proposed.

    Nothing is overwritten: a picture with an annotation of any kind is left alone.

    Args:
        model: an embedded model or a file; None for the embedded one.
        min_score: of a box; None for the thresholds of the model.
        progress: called with the number of pictures done and of all.

    Raises:
        OptionError: the embedded model does not know the classes, or the model none of them.
        DiskFullError, ReadOnlyError: an annotation cannot be written.
    """
    found = open_model(model, project.classes, min_score)
    if found is None:
        names = ", ".join(project.classes.names)
        raise OptionError(f"the embedded model does not know {names}; give one that does with --model FILE")
    with writing(project.hidden):
        project.hidden.mkdir(exist_ok=True)
    store = LabelStore(project)
    proposer = Proposer(found, (), project.classes.names, project.hidden)
    written = boxes = nothing = kept = 0
    unreadable = []
    for number, picture in enumerate(project.pictures, start=1):
        before = store.read(picture)
        if before.problem is not None:
            unreadable.append(f"{picture.image_id}: {before.problem}")
        elif before.state != "unlabelled" or before.proposals or store.has_file(picture):
            kept += 1
        elif proposals := proposer.predict(picture).proposals(found.thresholds):
            store.save(picture, proposals, before.revision, mark="proposed")
            written, boxes = written + 1, boxes + len(proposals)
        else:
            nothing += 1
        progress(number, len(project.pictures))
    return PrelabelResult(written, boxes, nothing, kept, tuple(unreadable))
