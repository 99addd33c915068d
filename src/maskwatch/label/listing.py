"""Which pictures are listed, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskwatch.data.names import sort_key
from maskwatch.label.session import PictureStatus

SIZES = ("small", "medium", "large")
_SIZE_AREAS = (32.0**2, 96.0**2)  # square pixels, as COCO has them


@dataclass(frozen=True)
class ListFilter:
    """What a picture must have to be listed; "" and "all" let all through.

    Attributes:
        state: "all", "todo" for what is not done, "done", or "suspect".
        class_name: of one of its boxes.
        split: that it is in.
        size: of one of its boxes.
        text: in its name.
    """

    state: str = "all"
    class_name: str = ""
    split: str = ""
    size: str = ""
    text: str = ""

    def accepts(self, one: PictureStatus) -> bool:
        boxes = one.annotation.boxes
        by_state = {"todo": not one.is_done, "done": one.is_done, "suspect": bool(one.suspects)}
        return (
            by_state.get(self.state, True)
            and (not self.class_name or any(box.name == self.class_name for box in boxes))
            and (not self.split or one.picture.split == self.split)
            and (not self.size or any(size_of(box.box_xyxy) == self.size for box in boxes))
            and self.text.casefold() in one.picture.image_id.casefold()
        )


def size_of(box_xyxy: tuple[float, float, float, float]) -> str:
    """COCO's size of a box: small, medium, large."""
    x0, y0, x1, y1 = box_xyxy
    area = (x1 - x0) * (y1 - y0)
    return SIZES[sum(area >= limit for limit in _SIZE_AREAS)]


def ordered(statuses: Sequence[PictureStatus], order: str) -> list[PictureStatus]:
    """The pictures by name, or "useful": those not done, first where the model is least sure; then
    those with suspects; then the rest. Near-duplicates of earlier pictures come last."""
    if order == "name":
        return sorted(statuses, key=lambda one: sort_key(one.picture.image_id))
    return sorted(statuses, key=_need)


def _need(one: PictureStatus) -> tuple[bool, int, float, tuple[str, str]]:
    group = 0 if not one.is_done else 1 if one.suspects else 2
    unsure = -1.0 if one.uncertainty is None else one.uncertainty
    urgency = (unsure, float(len(one.suspects)), 0.0)[group]
    return one.duplicate_of is not None, group, -urgency, sort_key(one.picture.image_id)
