"""The originals: each annotation file as it was before the first change, kept once."""

from __future__ import annotations

import os
from pathlib import Path

from maskwatch.label.annotation import short_hash
from maskwatch.outputs import durable_write

_ABSENT = ".absent"
_LONGEST_NAME = 255  # bytes, in most file systems


class Originals:
    """Keeps files below a folder.

    Args:
        folder: where they are kept.
        root: of the data set; the originals have their paths below it.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root

    def path_of(self, path: Path) -> Path:
        """Where the original of a file is kept."""
        if path.is_relative_to(self._root):
            return self._folder / path.relative_to(self._root)
        return self._folder / "outside" / f"{short_hash(str(path.absolute()).encode())}-{path.name}"

    def keep(self, path: Path) -> None:
        """Keeps a file, or notes that there was none; does nothing the second time. Raises OSError."""
        kept = self.path_of(path)
        absent = kept.with_name(kept.name + _ABSENT)
        if len(os.fsencode(absent.name)) > _LONGEST_NAME:
            absent = kept.with_name(short_hash(os.fsencode(kept.name)) + _ABSENT)
        if kept.exists() or absent.exists():
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            durable_write(kept, path.read_bytes())
        else:
            absent.touch()
