"""YOLO label files: those in labels/ or beside the images, and which belong to no image or to several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.data.formats.base import Entry, Found, Split
from maskwatch.data.formats.tree import PICTURE_FOLDERS, Folder, id_below, split_of
from maskwatch.data.formats.yolo.lines import FORMAT, YoloAnnotations
from maskwatch.data.formats.yolo.names import NAME_FILES, names_above, names_in
from maskwatch.data.issues import Issue
from maskwatch.data.names import nfc, sort_key, without_suffix
from maskwatch.media.formats import PICTURE_SUFFIXES

TEXT = ".txt"
_MARK_BYTES = b"\xef\xbb\xbf\xff\xfe"  # of byte order marks


@dataclass
class SplitFiles:
    """The images of one split ("" for none) with their label files, and the class names by number.

    landmarks: how many numbers follow each box; None if unknown.
    """

    name: str
    path: Path
    class_names: Mapping[int, str]
    landmarks: int | None = None
    entries: list[Entry] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    def as_split(self) -> Split:
        annotations = YoloAnnotations(tuple(self.entries), self.class_names, self.landmarks)
        return Split(self.name, FORMAT, self.path, annotations, tuple(self.issues))


class Labels:
    """Finds the label files of images; lists each folder once.

    Args:
        homes: folders of labels, whatever their names.
    """

    def __init__(self, homes: Sequence[Path] = ()) -> None:
        self._homes = homes
        self._folders: dict[Path, dict[str, Path]] = {}

    def entry(self, image: Path, root: Path, split: str, above: Sequence[str] = ()) -> Entry:
        """An image and its labels; for the arguments see `id_below`."""
        return Entry(id_below(image, root, split, (), above), image, self.of(image, root))

    def of(self, image: Path, root: Path) -> Path:
        """The label file of an image, which may not exist.

        The first of: beside the image; in the folder with "labels" instead of "images" (the last "images" in
        the path first); in labels/ beside the image; in `homes`.
        """
        name = without_suffix(image.name) + TEXT
        parts = image.parts
        usual = [
            Path(*parts[:at], "labels", *parts[at + 1 : -1])
            for at in range(len(parts) - 2, -1, -1)
            if parts[at].lower() in PICTURE_FOLDERS
        ]
        beside = [image.parent, image.parent / "labels"]
        if image.is_relative_to(root):
            homes = (root / "labels", *self._homes)
            beside += [home / image.parent.relative_to(root) for home in homes]
        for home in (image.parent, *usual, *beside):
            found = self.listed(home).get(nfc(name))
            if found is not None:
                return found
        return (usual[0] if usual else image.parent) / name

    def listed(self, folder: Path) -> dict[str, Path]:
        """Text files of a folder by name, NFC, with a lower-case suffix."""
        if folder not in self._folders:
            files = (file for same in _same_folders(folder) for file in same.iterdir())
            shown = (file for file in files if not file.name.startswith(".") and file.is_file())
            self._folders[folder] = {
                nfc(without_suffix(file.name)) + TEXT: file for file in shown if file.suffix.lower() == TEXT
            }
        return self._folders[folder]


def _same_folders(folder: Path) -> list[Path]:
    """The folders of this path in any Unicode form; if there is none, in any case (Labels/train)."""
    if (folder.is_dir() and str(folder).isascii()) or folder == folder.parent:
        return [folder]
    name = nfc(folder.name)
    inside = [entry for above in _same_folders(folder.parent) for entry in _entries(above)]
    found = [entry for entry in inside if nfc(entry.name) == name]
    found = found or [entry for entry in inside if nfc(entry.name).casefold() == name.casefold()]
    return [entry for entry in found if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a folder above the data set, without permission
        return []


def is_label(file: Path) -> bool:
    """Whether a text file looks like labels: empty, or begins with a number."""
    if file.name.lower() in NAME_FILES:
        return False
    with file.open("rb") as lines:
        # Without zeros, UTF-16 reads as ASCII.
        head = lines.read(256).replace(b"\0", b"").lstrip(_MARK_BYTES).strip()
    return head[:1] in b"0123456789"


def finish(
    splits: list[SplitFiles], labels: Labels, homes: Sequence[Path] = (), *, listed: bool = False
) -> list[Split]:
    """The splits sorted, each image once; their issues name label files without an image.

    Args:
        homes: folders of labels, beside those of the label files.
        listed: a list chose the images, so other label files are not an issue.
    """
    used: dict[Path | None, set[Path | None]] = defaultdict(set)
    for entry in (entry for split in splits for entry in split.entries):
        used[entry.annotation].add(entry.image)
    empty = not any(label is not None and label.is_file() for label in used)
    reported: set[Path] = set()
    for split in splits:
        by_path = {entry.image: entry for entry in split.entries}
        split.entries = sorted(by_path.values(), key=lambda entry: sort_key(entry.image_id))
        if empty and split.entries:
            text = f"none of its {len(split.entries)} pictures has a label file, nor has any other of the set"
            fix = "put them beside the pictures or into labels/"
            split.issues.append(Issue("annotation-missing", split.path, text, fix))
        for label in dict.fromkeys(entry.annotation for entry in split.entries):
            if label is not None and len(used[label]) > 1 and label.is_file():  # a.jpg and a.png, for example
                text = f"belongs to several pictures: {', '.join(sorted(map(str, used[label])))}"
                fix = "keep one of them, or give each its own"
                split.issues.append(Issue("picture-ambiguous", label, text, fix))
        if listed:
            continue
        folders = {*homes, *(entry.annotation.parent for entry in split.entries if entry.annotation)}
        for label in (text for home in sorted(folders) for text in sorted(labels.listed(home).values())):
            if label not in used and label not in reported and is_label(label):
                reported.add(label)
                text, fix = "no picture belongs to this label file", "add the picture or remove the file"
                split.issues.append(Issue("picture-missing", label, text, fix))
    return [split.as_split() for split in splits]


def find_folders(folder: Folder) -> Found:
    """The images of a folder with their labels (none: []), and the subfolders still to search."""
    own = folder.of_kind(*PICTURE_SUFFIXES)
    labelled, image_dirs = _label_folders(folder), _image_folders(folder, own)
    if labelled and image_dirs:
        images = [image for inner in image_dirs for image in inner.below(*PICTURE_SUFFIXES)]
        root, used = (image_dirs[0] if len(image_dirs) == 1 else folder).path, [*labelled, *image_dirs]
    elif labelled and own:
        images, root, used = own, folder.path, labelled
    elif _has_pairs(folder):
        used = [inner for inner in folder.folders if not split_of(inner.name) and not _has_labels(inner)]
        images, root = [*own, *(i for inner in used for i in inner.below(*PICTURE_SUFFIXES))], folder.path
    else:
        return [], []
    homes = (folder, *(inner for outer in (*labelled, *image_dirs) for inner in outer.walk()))
    names = next((found for home in homes if (found := names_in(home))), None) or names_above(folder)
    rest = [inner for inner in folder.folders if inner not in used]
    return _by_split(folder.path, root, images, names, labelled), rest


def _image_folders(folder: Folder, own: Sequence[Path]) -> list[Folder]:
    """The folder with the name of an image folder; else, without images beside, the ones without text."""
    images = [inner for inner in folder.folders if inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in folder.named(*PICTURE_FOLDERS) if inner in images]
    return named[:1] or [inner for inner in images if not own and not inner.below(TEXT)]


def _label_folders(folder: Folder) -> list[Folder]:
    """Folders named labels without images; else folders with label files of images beside."""
    texts = [inner for inner in folder.folders if inner.below(TEXT) and not inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in texts if inner.name.lower() == "labels"]
    if named or not texts:
        return named
    stems = _stems(folder.below(*PICTURE_SUFFIXES))
    return [f for f in texts if any(_stems([text]) <= stems and is_label(text) for text in f.below(TEXT))]


def _stems(files: Sequence[Path]) -> set[str]:
    return {without_suffix(nfc(file.name)) for file in files}


def _has_pairs(folder: Folder) -> bool:
    """Whether label files are beside images in the folder itself."""
    return not _stems(folder.of_kind(*PICTURE_SUFFIXES)).isdisjoint(_stems(folder.of_kind(TEXT)))


def _has_labels(folder: Folder) -> bool:
    return any(_has_pairs(inner) or inner.name.lower() == "labels" for inner in folder.walk())


def _by_split(
    path: Path, root: Path, images: Sequence[Path], names: Mapping[int, str], labelled: Sequence[Folder]
) -> list[Split]:
    """The images by split: those in subfolders of the root (images/train), and the rest."""
    labels = Labels([home.path for home in labelled])
    splits: dict[str, SplitFiles] = {}
    for image in images:
        first = image.relative_to(root).parts[0]
        name = split_of(first) if image.parent != root else ""
        split = splits.setdefault(name, SplitFiles(name, path, names))
        split.entries.append(labels.entry(image, root, name, () if root == path else (root.name,)))
    return finish([*splits.values()], labels, [inner.path for home in labelled for inner in home.walk()])
