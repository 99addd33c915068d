"""Which YOLO label files hold proposals that no one has looked at: the format itself cannot say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskwatch.label.jsonl import JsonLines


class Marks:
    """A file of rows, of which the last one of each picture counts.

    Args:
        path: of the file, which may not exist.
    """

    def __init__(self, path: Path) -> None:
        self._rows = JsonLines(path, ("image_id", "revision", "scores"))
        self._marks: dict[str, tuple[str, list[float | None]]] = {}

    def scores(self, image_id: str, revision: str) -> list[float | None] | None:
        """The scores of the proposals in a file of this revision; None if it holds labels."""
        self._read()
        marked, scores = self._marks.get(image_id, ("", []))
        return scores if marked == revision else None

    def add(self, image_id: str, revision: str, scores: Sequence[float | None]) -> None:
        """Marks a file, before it is written. Raises OSError."""
        self._rows.append({"image_id": image_id, "revision": revision, "scores": list(scores)})

    def remove(self, image_id: str) -> None:
        """Removes the mark of a picture. Raises OSError."""
        self._read()
        if image_id in self._marks:
            self._rows.append({"image_id": image_id, "revision": "", "scores": []})

    def _read(self) -> None:
        for row in self._rows.new_rows():
            self._marks[row["image_id"]] = (row["revision"], row["scores"])
