"""Lists a folder in depth, and interprets the names of folders."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from maskwatch.data.names import path_parts
from maskwatch.errors import DataError

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation", "dev", "eval"),
        "test": ("test", "testing"),
    }
)
"""Splits, and the names of folders and lists that mean them."""

PICTURE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos")
ANNOTATION_FOLDERS = ("annotations", "annotation", "xmls", "xml", "anns", "ann", "labels")
# Folders of operating systems: metadata, thumbnails, deleted files.
_SKIPPED = ("__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN")
_DARKNET = re.compile(r"obj_(.*)_data")
_WORDS = str.maketrans(dict.fromkeys("-_.+ ", " "))
_NAMES = {name: split for split, names in SPLITS.items() for name in names}
# Words beside the split in names of folders and lists: images_train, obj_train_data, train_list.
_FILLER_WORDS = (*PICTURE_FOLDERS, *ANNOTATION_FOLDERS, "label", "obj", "data", "list", "split", "")


def split_of(name: str) -> str:
    """The split in the name of a folder or list (Train, val2017, train_images); "" for none ("bus-train")."""
    splits, others = _split_words(name)
    return splits[0] if len(splits) == 1 and all(_bare(word) in _FILLER_WORDS for word in others) else ""


def splits_of(names: Sequence[str]) -> dict[str, str]:
    """Name → split of sibling folders, also if they differ only in the split (faces-train, faces-test)."""
    found = {name: split_of(name) for name in names}
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        splits, others = _split_words(name)
        if len(splits) == 1 and not found[name]:
            alike[others][name] = splits[0]
    for same in alike.values():
        if len({*same.values()}) > 1:
            found |= same
    return found


def _split_words(name: str) -> tuple[list[str], tuple[str, ...]]:
    words = name.lower().translate(_WORDS).split()
    splits = [_NAMES[_bare(word)] for word in words if _bare(word) in _NAMES]
    return splits, tuple(word for word in words if _bare(word) not in _NAMES)


def _bare(word: str) -> str:
    return word.rstrip("0123456789").removesuffix("set")


def id_below(
    picture: Path, root: Path, split: str, others: Sequence[str] = (), above: Sequence[str] = ()
) -> str:
    """The id of an image: its path relative to the image folder, with "/", NFC.

    Args:
        root: the folder of the data set. Leading folders are left out: one of pictures (images,
            obj_train_data) and one of the split or in `others`.
        split: of the image.
        others: further folder names to leave out, in lower case.
        above: folders down to the root; one of the same kind below these is kept.
    """
    inside = picture.is_relative_to(root)
    parts = list(path_parts(picture.relative_to(root)) if inside else path_parts(picture)[-2:])

    def names_split(name: str) -> bool:
        return name in others or (split != "" and split_of(name) == split)

    left = [test for test in (_holds_pictures, names_split) if not any(test(n.lower()) for n in above)]
    while len(parts) > 1 and (test := next((test for test in left if test(parts[0].lower())), None)):
        left.remove(test)
        del parts[0]
    return "/".join(parts)


def _holds_pictures(name: str) -> bool:
    return name in PICTURE_FOLDERS or _DARKNET.fullmatch(name) is not None


def split_in(name: str) -> str:
    """The split in a name of several words, like instances_train2017; "" for none."""
    return next((split for word in name.translate(_WORDS).split() if (split := split_of(word))), "")


@dataclass(eq=False)
class Folder:
    """A folder: its files and subfolders, sorted, without hidden ones.

    Attributes:
        above: the parent folder; None for the start of the search.
    """

    path: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    above: Folder | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def of_kind(self, *suffixes: str) -> list[Path]:
        """Its own files with one of these suffixes, whatever their case."""
        return [file for file in self.files if file.suffix.lower() in suffixes]

    def below(self, *suffixes: str) -> list[Path]:
        return [file for folder in self.walk() for file in folder.of_kind(*suffixes)]

    def named(self, *names: str) -> list[Folder]:
        """Its subfolders of these names, whatever their case, in the order of the names."""
        return [folder for name in names for folder in self.folders if folder.name.lower() == name]

    def walk(self) -> Iterator[Folder]:
        """Itself and every folder below, top down."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    def upwards(self) -> Iterator[Folder]:
        """Itself and the folders above it, up to the start of the search."""
        yield self
        if self.above is not None:
            yield from self.above.upwards()


def list_folder(path: Path, above: Folder | None = None, seen: frozenset[str] = frozenset()) -> Folder:
    """Lists a folder in depth; follows links, but not in circles. DataError if a folder cannot be listed."""
    folder = Folder(path, above=above)
    seen |= {os.path.realpath(path)}
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise DataError([f"{path}: cannot be listed ({error.strerror}); check its permissions"]) from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        if entry.is_dir():
            if os.path.realpath(entry) not in seen:
                folder.folders.append(list_folder(entry, folder, seen))
        elif entry.is_file():
            folder.files.append(entry)
    return folder
