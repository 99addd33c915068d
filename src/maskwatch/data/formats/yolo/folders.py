"""YOLO splits by folders: images whose labels lie in labels/ or beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maskwatch.data.formats.tree import PICTURE_FOLDERS, Folder, split_of
from maskwatch.data.formats.yolo.labels import TEXT, Labels, SplitFiles, finish, is_label
from maskwatch.data.formats.yolo.names import names_above, names_in
from maskwatch.data.names import nfc, without_suffix
from maskwatch.media.formats import PICTURE_SUFFIXES


def find_folders(folder: Folder) -> tuple[list[SplitFiles], list[Folder]] | None:
    """The images of a folder with their labels, and the folders in it that are left to search.

    Returns:
        None where there are no labels.
    """
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
        return None
    homes = (folder, *(inner for outer in (*labelled, *image_dirs) for inner in outer.walk()))
    names = next((found for home in homes if (found := names_in(home))), None) or names_above(folder)
    rest = [inner for inner in folder.folders if inner not in used]
    return _by_split(folder.path, root, images, names, labelled), rest


def _image_folders(folder: Folder, own: Sequence[Path]) -> list[Folder]:
    """The folder of the images by its name, or where there are none beside, those that hold no text."""
    images = [inner for inner in folder.folders if inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in folder.named(*PICTURE_FOLDERS) if inner in images]
    return named[:1] or [inner for inner in images if not own and not inner.below(TEXT)]


def _label_folders(folder: Folder) -> list[Folder]:
    """Folders without images that are called labels, or else whose texts are labels of images beside."""
    texts = [inner for inner in folder.folders if inner.below(TEXT) and not inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in texts if inner.name.lower() == "labels"]
    if named or not texts:
        return named
    stems = _stems(folder.below(*PICTURE_SUFFIXES))
    return [
        inner
        for inner in texts
        if any(_stems([text]) <= stems and is_label(text) for text in inner.below(TEXT))
    ]


def _stems(files: Sequence[Path]) -> set[str]:
    return {without_suffix(nfc(file.name)) for file in files}


def _has_pairs(folder: Folder) -> bool:
    """Whether labels lie beside images in the folder itself."""
    return not _stems(folder.of_kind(*PICTURE_SUFFIXES)).isdisjoint(_stems(folder.of_kind(TEXT)))


def _has_labels(folder: Folder) -> bool:
    return any(_has_pairs(inner) or inner.name.lower() == "labels" for inner in folder.walk())


def _by_split(
    path: Path, root: Path, images: Sequence[Path], names: Mapping[int, str], labelled: Sequence[Folder]
) -> list[SplitFiles]:
    """The images by split: those of the folders just below the root (images/train), and the rest."""
    labels = Labels([home.path for home in labelled])
    splits: dict[str, SplitFiles] = {}
    for image in images:
        first = image.relative_to(root).parts[0]
        name = split_of(first) if image.parent != root else ""
        split = splits.setdefault(name, SplitFiles(name, path, names))
        split.entries.append(labels.entry(image, root, name, () if root == path else (root.name,)))
    return finish([*splits.values()], labels, [inner.path for home in labelled for inner in home.walk()])
