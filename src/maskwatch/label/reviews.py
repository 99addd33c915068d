"""What was decided about proposals: which were refused, and which are left in a picture that has labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from maskwatch.data.issues import Box
from maskwatch.label.annotation import LabelBox, Review
from maskwatch.label.jsonl import JsonLines

_NONE = Review()


class Reviews:
    """A file of rows, of which the last one of each picture counts; a picture without a row has no review.

    Args:
        path: of the file, which may not exist.
    """

    def __init__(self, path: Path) -> None:
        self._rows = JsonLines(path, ("image_id", "undecided", "refused"))
        self._reviews: dict[str, Review] = {}

    def get(self, image_id: str) -> Review:
        """The review of a picture."""
        for row in self._rows.new_rows():
            self._reviews[row["image_id"]] = Review(_boxes(row["undecided"]), _boxes(row["refused"]))
        return self._reviews.get(image_id, _NONE)

    def put(self, image_id: str, review: Review) -> None:
        """Replaces the review of a picture. Raises OSError."""
        if self.get(image_id) != review:
            rows = {"undecided": _rows(review.undecided), "refused": _rows(review.refused)}
            self._rows.append({"image_id": image_id, **rows})


def _rows(boxes: Sequence[LabelBox]) -> list[dict[str, Any]]:
    return [{"box_xyxy": list(one.box_xyxy), "class": one.name, "score": one.score} for one in boxes]


def _boxes(rows: Sequence[dict[str, Any]]) -> tuple[LabelBox, ...]:
    return tuple(
        LabelBox(cast(Box, tuple(row["box_xyxy"])), row["class"], score=row["score"]) for row in rows
    )
