"""The label files of YOLO pictures: where each lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskwatch.data.formats.raw import Entry
from maskwatch.data.formats.tree import PICTURE_FOLDERS, id_below
from maskwatch.data.formats.yolo import NAME_FILES
from maskwatch.data.names import same_text, without_suffix

_TEXT = ".txt"
_MARK_BYTES = b"\xef\xbb\xbf\xff\xfe"  # of byte order marks


class Labels:
    """Finds the label files of pictures, each folder being listed once.

    Args:
        homes: folders that hold the labels of this set, by whatever name.
    """

    def __init__(self, homes: Sequence[Path] = ()) -> None:
        self._homes = homes
        self._folders: dict[Path, dict[str, Path]] = {}

    def entry(self, picture: Path, root: Path, split: str, above: Sequence[str] = ()) -> Entry:
        """A picture and its labels.

        Args:
            root, split, above: see `id_below`.
        """
        return Entry(id_below(picture, root, split, (), above), picture, self.of(picture, root))

    def of(self, picture: Path, root: Path) -> Path:
        """The label file of a picture; where there is none, the place where it should be.

        One beside the picture counts first. Otherwise it lies in the folder that has "labels" in the place
        of "images", the last one first, or in labels/ beside the picture.
        """
        name = without_suffix(picture.name) + _TEXT
        parts = picture.parts
        places = [
            Path(*parts[:at], "labels", *parts[at + 1 : -1])
            for at in range(len(parts) - 2, -1, -1)
            if parts[at].lower() in PICTURE_FOLDERS
        ]
        beside = [picture.parent, picture.parent / "labels"]
        if picture.is_relative_to(root):
            homes = (root / "labels", *self._homes)
            beside += [home / picture.parent.relative_to(root) for home in homes]
        for place in (picture.parent, *places, *beside):
            found = self.listed(place).get(same_text(name))
            if found is not None:
                return found
        return (places[0] if places else picture.parent) / name

    def listed(self, folder: Path) -> dict[str, Path]:
        """Text files of a folder by name, NFC, the suffix in small letters."""
        if folder not in self._folders:
            files = (file for same in _same_folders(folder) for file in same.iterdir())
            shown = (file for file in files if not file.name.startswith(".") and file.is_file())
            texts = (file for file in shown if file.suffix.lower() == _TEXT)
            named = {same_text(without_suffix(file.name)) + _TEXT: file for file in texts}
            self._folders[folder] = named
        return self._folders[folder]


def _same_folders(folder: Path) -> list[Path]:
    """The folders there are by this path, whichever form of Unicode its names have on the disk.

    Where there is none, their case does not count either (Images/Train with Labels/train).
    """
    if (folder.is_dir() and str(folder).isascii()) or folder == folder.parent:
        return [folder]
    name = same_text(folder.name)
    inside = [entry for above in _same_folders(folder.parent) for entry in _entries(above)]
    found = [entry for entry in inside if same_text(entry.name) == name]
    found = found or [entry for entry in inside if same_text(entry.name).casefold() == name.casefold()]
    return [entry for entry in found if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # one above the data set, which nobody may list
        return []


def is_label(file: Path) -> bool:
    """Whether a text file looks like labels: empty, or begins with a number."""
    if file.name.lower() in NAME_FILES:
        return False
    with file.open("rb") as lines:
        # UTF-16 too is the same without its zeros; a byte order mark comes before any text.
        head = lines.read(256).replace(b"\0", b"").lstrip(_MARK_BYTES).strip()
    return head[:1] in b"0123456789"
