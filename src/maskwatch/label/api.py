"""The routes of `/api/label`, see `schemas`. Errors are problem JSON, as in the service."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import StreamingResponse

from maskwatch._version import __version__
from maskwatch.errors import ImageError, OutputError
from maskwatch.label.annotation import Annotation, LabelBox, Review
from maskwatch.label.changes import sse
from maskwatch.label.errors import ConflictError, DiskFullError, LabelInputError, ReadOnlyError
from maskwatch.label.images import EncodedImage, ImageCache, browser_image, thumbnail
from maskwatch.label.listing import SIZES, ListFilter, ordered
from maskwatch.label.project import LabelPicture
from maskwatch.label.schemas import (
    Decision,
    Filter,
    OrderName,
    PictureList,
    Project,
    Proposal,
    Saved,
    SentPicture,
    ShownPicture,
)
from maskwatch.label.session import LabelSession, PictureStatus
from maskwatch.label.store import stamp_of
from maskwatch.labels import color_rgb
from maskwatch.serve.core.problem import Problem


class _ImageIdConvertor(PathConvertor):
    """Unlike "path", also takes names with line breaks."""

    regex = r"[\s\S]*"


register_url_convertor("image_id", _ImageIdConvertor())
router = APIRouter(prefix="/api/label", tags=["label"])

_KEYS = "1234567890"
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_IMAGE_CACHE = "private, no-cache"

IfMatch = Annotated[str | None, Header(max_length=100)]
Window = Annotated[str, Header(max_length=100)]


@router.get("/project", response_model=Project, summary="The folder, its classes and how far it is labelled")
def project(request: Request) -> dict[str, Any]:
    session = _session(request)
    found, model = session.project, session.model
    return {
        "folder": str(found.folder),
        "format": found.format,
        "classes": [
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color_rgb(number)), "key": _key(number)}
            for number, name in enumerate(found.classes.names)
        ],
        "model": model and {"name": model.file.metadata.name, "classes": list(model.file.metadata.classes)},
        "version": __version__,
        **session.counts(),
        "boxes_per_hour": session.pace.boxes_per_hour(),
        "orders": ["useful", "name"],
        "filters": {
            "splits": sorted({picture.split for picture in found.pictures} - {""}),
            "classes": list(found.classes.names),
            "sizes": list(SIZES),
        },
        "marks_ignored": found.format != "yolo",
        "decisions": session.writes_to,
        "read_only_reason": session.read_only_reason,
    }


@router.get("/pictures", response_model=PictureList, summary="The pictures, filtered and in order")
def pictures(
    request: Request,
    order: OrderName = "useful",
    state: Filter = "all",
    split: str = "",
    size: Literal["", "small", "medium", "large"] = "",
    q: str = "",
) -> dict[str, Any]:
    """Also takes `class`: pictures that have a box of it."""
    wanted = ListFilter(state, request.query_params.get("class", ""), split, size, q)
    listed = [one for one in ordered(_session(request).statuses(), order) if wanted.accepts(one)]
    return {"pictures": [_row(one) for one in listed]}


@router.get(
    "/pictures/{image_id:image_id}", response_model=ShownPicture, summary="Labels, proposals and suspects"
)
def picture(request: Request, image_id: str) -> dict[str, Any]:
    session = _session(request)
    return _shown(session, _picture(session, image_id))


@router.put("/pictures/{image_id:image_id}", response_model=Saved, summary="Save the labels of a picture")
def save(
    request: Request,
    image_id: str,
    body: SentPicture,
    if_match: IfMatch = None,
    x_maskwatch_window: Window = "",
) -> dict[str, Any]:
    """The labels are on disk when the answer comes."""
    session = _session(request)
    chosen, seen = _picture(session, image_id), _revision(if_match)
    if body.empty and body.boxes:
        raise Problem(422, f"empty is true beside {len(body.boxes)} boxes; send one or the other")
    boxes = [
        LabelBox(_corners(one.box_xyxy), one.class_, one.id, one.difficult, one.ignore and not one.difficult)
        for one in body.boxes
    ]
    try:
        review = Review(_proposals(body.undecided), _proposals(body.refused))
        saved, ids = session.save(chosen, boxes, seen, review, empty=body.empty, window=x_maskwatch_window)
    except (ConflictError, LabelInputError, OutputError) as error:
        raise _problem(error, session, chosen) from None
    by_id = {box.id: box for box in saved.boxes}
    return {**_head(saved), "boxes": _shown_boxes([by_id[key] for key in ids if key in by_id])}


@router.post("/suspects/{suspect_id}", response_model=Saved, summary="Decide about a suspect")
def decide(
    request: Request,
    suspect_id: str,
    body: Decision,
    if_match: IfMatch = None,
    x_maskwatch_window: Window = "",
) -> dict[str, Any]:
    """The decision is remembered, and the suspect is not asked about again."""
    session, seen = _session(request), _revision(if_match)
    suspect = session.suspect(suspect_id)
    if suspect is None:
        text = f"no suspect {suspect_id!r}: it was decided or no longer fits; load the picture again"
        raise Problem(404, text)
    try:
        reason = (body.reason or "").strip() or None
        saved = session.decide(suspect, body.decision, seen, x_maskwatch_window, reason)
    except (ConflictError, LabelInputError, OutputError) as error:
        raise _problem(error, session, session.pictures[suspect.image_id]) from None
    return {**_head(saved), "boxes": _shown_boxes(saved.boxes)}


@router.get("/images/{image_id:image_id}", response_class=Response, summary="A picture, upright")
def image(request: Request, image_id: str) -> Response:
    session = _session(request)
    chosen = _picture(session, image_id)
    return _image(request, chosen, "image", lambda: browser_image(chosen.path))


@router.get("/thumbnails/{image_id:image_id}", response_class=Response, summary="A small JPEG of a picture")
def small_image(request: Request, image_id: str) -> Response:
    session = _session(request)
    chosen, cache = _picture(session, image_id), _thumbnails(request)

    def make() -> EncodedImage:
        key = f"{chosen.image_id}|{stamp_of(chosen.path)}"
        found = cache.get(key)
        if found is None:
            found = thumbnail(chosen.path)
            cache.put(key, found)
        return found

    return _image(request, chosen, "thumbnail", make)


@router.get("/changes", response_class=StreamingResponse, summary="What changes, as server-sent events")
async def changes(request: Request) -> Response:
    session = _session(request)
    first = sse("progress", await asyncio.to_thread(session.progress))
    stream = session.changes.listen(first)
    return StreamingResponse(stream, media_type="text/event-stream", headers=_STREAM_HEADERS)


def _session(request: Request) -> LabelSession:
    session = request.app.state.session
    assert isinstance(session, LabelSession)
    return session


def _thumbnails(request: Request) -> ImageCache:
    cache = request.app.state.thumbnails
    assert isinstance(cache, ImageCache)
    return cache


def _picture(session: LabelSession, image_id: str) -> LabelPicture:
    found = session.pictures.get(image_id)
    if found is None:
        raise Problem(404, f"no picture {image_id!r} in {session.project.folder}; load the list again")
    return found


def _revision(if_match: str | None) -> str:
    if if_match is None:
        raise Problem(428, "no If-Match; send the revision of the labels that the change is based on")
    return if_match.strip().removeprefix("W/").strip('"')


def _problem(error: Exception, session: LabelSession, chosen: LabelPicture) -> Problem:
    """The response to a change that was not saved."""
    match error:
        case ConflictError():
            return Problem(412, str(error), current=_shown(session, chosen))
        case LabelInputError():
            return Problem(422, str(error))
        case DiskFullError():
            return Problem(507, str(error))
        case ReadOnlyError():
            return Problem(423, str(error))
        case _:
            return Problem(500, str(error))


def _shown(session: LabelSession, chosen: LabelPicture) -> dict[str, Any]:
    one = session.status(chosen)
    proposals = session.proposals(chosen, one.annotation)
    notes = list(one.annotation.notes)
    if one.annotation.proposals:
        notes.append("these boxes were proposed and written by a program; no one has looked at them yet")
    height, width = one.size_hw
    return {
        "image_id": chosen.image_id,
        "width": width,
        "height": height,
        **_head(one.annotation),
        "boxes": _shown_boxes(one.annotation.boxes),
        "proposals": None if proposals is None else _shown_proposals(proposals),
        "refused": _shown_proposals(one.annotation.refused),
        "suspects": [
            {
                "id": suspect.id,
                "kind": suspect.kind,
                "box_xyxy": list(suspect.box_xyxy),
                "label": suspect.label,
                "answer": suspect.answer,
                "score": suspect.score,
            }
            for suspect in one.suspects
        ],
        "note": "; ".join(notes) or None,
    }


def _head(annotation: Annotation) -> dict[str, Any]:
    return {
        "revision": annotation.revision,
        "state": annotation.state,
        "undecided": len(annotation.undecided),
    }


def _shown_proposals(boxes: Sequence[LabelBox]) -> list[dict[str, Any]]:
    return [{"box_xyxy": list(box.box_xyxy), "class": box.name, "score": box.score} for box in boxes]


def _proposals(sent: Sequence[Proposal]) -> tuple[LabelBox, ...]:
    return tuple(LabelBox(_corners(one.box_xyxy), one.class_, score=one.score) for one in sent)


def _shown_boxes(boxes: Sequence[LabelBox]) -> list[dict[str, Any]]:
    return [
        {
            "id": box.id,
            "box_xyxy": list(box.box_xyxy),
            "class": box.name,
            "difficult": box.difficult,
            "ignore": box.difficult or box.crowd,
            "iscrowd": box.crowd,
        }
        for box in boxes
    ]


def _row(one: PictureStatus) -> dict[str, Any]:
    height, width = one.size_hw
    return {
        "image_id": one.picture.image_id,
        "width": width,
        "height": height,
        "state": one.annotation.state,
        "boxes": len(one.annotation.boxes),
        "undecided": len(one.annotation.undecided),
        "suspects": len(one.suspects),
        "uncertainty": one.uncertainty,
        "duplicate_of": one.duplicate_of,
        "split": one.picture.split or None,
    }


def _image(request: Request, chosen: LabelPicture, kind: str, make: Any) -> Response:
    stamp = f"{kind}|{stamp_of(chosen.path)}|{__version__}"
    headers = {
        "ETag": f'"{hashlib.blake2b(stamp.encode(), digest_size=12).hexdigest()}"',
        "Cache-Control": _IMAGE_CACHE,
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        encoded = make()
    except (ImageError, OSError) as error:
        raise Problem(422, str(error)) from None
    return Response(encoded.content, media_type=encoded.media_type, headers=headers)


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values
    return x0, y0, x1, y1


def _key(number: int) -> str | None:
    return _KEYS[number] if number < len(_KEYS) else None
