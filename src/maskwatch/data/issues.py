"""What is wrong with a data set: one record a fault, with file, object, value and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: what it is, by a short name that stays the same: "box-outside", "class-unknown", …
        file: the file to mend.
        text: what is wrong, with the value as it stands in the file.
        mend: what to do about it.
        where: the place within the file ("object 3 (mask)", "line 2"); "" where it is the file itself.
        severity: an "error" keeps the data from being used; a "warning" only makes the result worse.
        picture: the picture that it is about, where there is one.
        box_xyxy: the box that it is about, pixels of the picture as shown, not clipped.
        number: the object within the picture, counted from 0.
        twin: the other picture of a pair that is alike.
    """

    kind: str
    file: Path
    text: str
    mend: str
    where: str = ""
    severity: Severity = "error"
    picture: Path | None = None
    box_xyxy: Box | None = None
    number: int | None = None
    twin: Path | None = None

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else str(self.file)
        return f"{place}: {self.text}; {self.mend}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "file": str(self.file),
            "where": self.where or None,
            "text": self.text,
            "mend": self.mend,
            "picture": None if self.picture is None else str(self.picture),
            "twin": None if self.twin is None else str(self.twin),
            "box": None if self.box_xyxy is None else [round(value, 2) for value in self.box_xyxy],
        }
