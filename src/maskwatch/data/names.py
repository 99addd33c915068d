"""Names that people and tools write for images → the images.

The name of an image is its path relative to the image folder. Names are compared after Unicode normalisation
(NFC: macOS stores "é" as two characters), with "/" and "\\" alike, with or without suffix. The end of a path
is enough if it fits one image only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Generic, NamedTuple, TypeVar

from maskwatch.media.formats import PICTURE_SUFFIXES

T = TypeVar("T")

_SUFFIXES = frozenset([*PICTURE_SUFFIXES, ".xml", ".txt"])
_DRIVE = re.compile(r"^[A-Za-z]:(?=[/\\])")
_QUOTED = re.compile(r'^"([^"]+)"(?=\s|$)')
_MOST_SHOWN = 8


def nfc(text: str) -> str:
    """The text in Unicode normalisation form NFC, in which names are compared."""
    return unicodedata.normalize("NFC", text)


def path_parts(name: str | PurePath) -> tuple[str, ...]:
    """Folders and file name of a path as written on any system, without root, drive, "." and ".."."""
    text = _DRIVE.sub("", nfc(str(name)).strip())
    return tuple(part for part in re.split(r"[/\\]", text) if part not in ("", ".", ".."))


def without_suffix(name: str) -> str:
    """The name without the suffix of an image or an annotation; "day.2" has none."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in _SUFFIXES else name


def unquoted(line: str) -> str:
    """A line of a list without quotes around a name with spaces."""
    return _QUOTED.sub(r"\1", line.strip())


def sort_key(image_id: str) -> tuple[str, str]:
    """Sort key of images: "a.jpg" comes before "a-2.jpg"."""
    return without_suffix(image_id), image_id


def ambiguity(name: str, candidates: Iterable[str]) -> tuple[str, str]:
    """Text and fix for a name that fits several images."""
    listed = sorted(candidates)
    shown = ", ".join(listed[:_MOST_SHOWN]) + (" …" if len(listed) > _MOST_SHOWN else "")
    return f"{name!r} may be any of {shown}", "write more of the path"


class FoundNames(NamedTuple, Generic[T]):
    """Items, each once; names without an item; and a message for each name of several items."""

    found: list[T]
    missing: list[str]
    ambiguous: list[str]


class _Path(NamedTuple):
    folders: tuple[str, ...]
    item: int
    outside: bool  # not relative to the image folder


class NameIndex(Generic[T]):
    """Finds items by the names in lists and annotations.

    Args:
        items: each with its name (a path relative to the image folder) and other paths of it.
    """

    def __init__(self, items: Iterable[tuple[T, str, Sequence[str | Path]]]) -> None:
        self._items: list[T] = []
        self._labels: list[tuple[str, str]] = []
        self._whole: dict[str, list[_Path]] = defaultdict(list)  # by file name
        self._stems: dict[str, list[_Path]] = defaultdict(list)
        for number, (item, name, others) in enumerate(items):
            self._items.append(item)
            self._labels.append((name, str(others[0]) if others else name))
            for position, written in enumerate((name, *others)):
                *folders, last = path_parts(written) or ("",)
                path = _Path(tuple(folders), number, position > 0)
                self._whole[_lower_suffix(last)].append(path)
                self._stems[without_suffix(last)].append(path)

    def find(self, name: str | PurePath, loose: bool = False) -> list[T]:
        """The items that a name fits equally well: none, one or several.

        A file name with suffix wins over one without, then the longer common path, then the whole name.

        Args:
            loose: the name may start with other folders ("/home/me/set/images/a.jpg", or the "data/" of
                darknet) before the whole name of an item.
        """
        return [self._items[number] for number in self._numbers(name, loose)]

    def ambiguous(self, name: str) -> str:
        """The message for a name for which `find` returns several items."""
        labels = [self._labels[number] for number in self._numbers(name)]
        apart = len({short for short, _ in labels}) == len(labels)
        return "; ".join(ambiguity(name, (short if apart else path for short, path in labels)))

    def find_all(self, lines: Iterable[str]) -> FoundNames[T]:
        """The items of a list: each line is a name, or else several names separated by white space."""
        numbers: dict[int, None] = {}
        missing, ambiguous = [], []
        for line in lines:
            words = line.split()
            known = [line] if len(words) < 2 or self._numbers(line) else words
            if len(known) > 1 and not any(map(self._numbers, known)):
                known = [line.strip()]
            for name in known:
                found = self._numbers(name)
                if len(found) > 1:
                    ambiguous.append(self.ambiguous(name))
                elif found:
                    numbers[found[0]] = None
                elif name.strip():
                    missing.append(name.strip())
        return FoundNames([self._items[number] for number in numbers], missing, ambiguous)

    def _numbers(self, name: str | PurePath, loose: bool = False) -> list[int]:
        parts = path_parts(name)
        if not parts:
            return []
        *folders, last = parts
        for known in (
            self._whole.get(_lower_suffix(last), ()),
            self._stems.get(last, ()),
            self._stems.get(without_suffix(last), ()),  # saved again as another kind of picture
        ):
            found = _best(known, folders, loose)
            if found:
                return found
        return []


def _lower_suffix(name: str) -> str:
    stem = without_suffix(name)
    return stem + name[len(stem) :].lower()


def _best(known: Iterable[_Path], folders: Sequence[str], loose: bool) -> list[int]:
    """Numbers of the items that fit best, in order, each once."""
    best: tuple[int, bool] = (-1, False)
    found: dict[int, None] = {}
    for path in known:
        common = _common(path.folders, folders)
        exact = not path.outside and common == len(path.folders) == len(folders)
        fits = common == len(folders) or (loose and not path.outside and common == len(path.folders))
        if not fits or (common, exact) < best:
            continue
        if (common, exact) > best:
            best, found = (common, exact), {}
        found[path.item] = None
    return list(found)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Number of folders that two paths share at their ends."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
