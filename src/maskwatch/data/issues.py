"""Issues of a data set: one record each, with file, object, value and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning"]

Box = tuple[float, float, float, float]


class Reason(NamedTuple):
    """An issue without its place: see `Issue`."""

    kind: str
    text: str
    fix: str


@dataclass(frozen=True)
class Issue:
    """One issue.

    Attributes:
        kind: a stable identifier: "box-outside", "class-unknown", …
        file: the file to fix.
        text: what is wrong, with the value in the file.
        fix: what to do about it.
        where: the place in the file ("object 3 (mask)", "line 2"); "" for the file itself.
        severity: data with an "error" is refused; a "warning" only makes the result worse.
        image: with the issue, if there is one.
        box_xyxy: with the issue, pixels of the image as shown, not clipped.
        object_index: within the image, from 0.
        twin: the other image of a duplicate pair.
    """

    kind: str
    file: Path
    text: str
    fix: str
    where: str = ""
    severity: Severity = "error"
    image: Path | None = None
    box_xyxy: Box | None = None
    object_index: int | None = None
    twin: Path | None = None

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else str(self.file)
        return f"{place}: {self.text}; {self.fix}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, under the keys of the schema `maskwatch.data-check/1`."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "file": str(self.file),
            "where": self.where or None,
            "text": self.text,
            "mend": self.fix,
            "picture": None if self.image is None else str(self.image),
            "twin": None if self.twin is None else str(self.twin),
            "box": None if self.box_xyxy is None else [round(value, 2) for value in self.box_xyxy],
        }
