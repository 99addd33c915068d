"""What lies in a folder: the format of a data set, and its splits."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from maskwatch.data.coco import is_coco, raw_coco, read_json
from maskwatch.data.faults import Fault
from maskwatch.data.raw import RawPicture
from maskwatch.data.voc import raw_voc
from maskwatch.data.voc_files import split_lists, stems_in
from maskwatch.data.yolo import (
    class_names,
    landmark_values,
    names_beside,
    raw_yolo,
    read_yaml,
    split_places,
)
from maskwatch.errors import DataError

Format = Literal["voc", "coco", "yolo"]
FORMATS: tuple[Format, ...] = get_args(Format)

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation", "dev"),
        "test": ("test", "testing"),
    }
)
"""Splits, and the names of folders and lists that mean them."""

_ROBOFLOW = "_annotations.coco.json"


@dataclass(frozen=True)
class Part:
    """One split of a data set, or all of it.

    Attributes:
        split: "train", "val" or "test"; "" where the set is not split.
        format: of its annotations.
        path: the folder or file that a user would name.
        stems: keep only these pictures; None for all.
        places: COCO: folders of the pictures; YOLO: folders or lists of the pictures.
        names: YOLO: names by number.
        landmarks: YOLO: how many numbers follow each box; None where nothing says so.
    """

    split: str
    format: Format
    path: Path
    stems: frozenset[str] | None = None
    places: tuple[Path, ...] = ()
    names: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    landmarks: int | None = None

    @property
    def title(self) -> str:
        """What to call it in tables."""
        return (
            str(self.path)
            if not self.split or self.path.name in SPLITS[self.split]
            else (f"{self.path} [{self.split}]")
        )

    def raw(self, faults: list[Fault], stems: Collection[str] | None = None) -> list[RawPicture]:
        """The annotations as written, sorted by stem; what belongs to no picture goes to `faults`.

        Args:
            stems: keep only these, each must be there.

        Raises:
            DataError: the part cannot be read at all.
        """
        wanted = self.stems if stems is None else set(stems) & (self.stems or set(stems))
        if self.format == "voc":
            return raw_voc(self.path, faults, wanted)
        if self.format == "coco":
            pictures = sorted(raw_coco(self.path, self.places, faults), key=lambda picture: picture.stem)
        else:
            pictures = raw_yolo(self.places, self.names, faults, self.landmarks)
        if wanted is None:
            return pictures
        for stem in sorted(set(wanted) - {picture.stem for picture in pictures}):
            faults.append(Fault("picture-missing", self.path, f"no picture named {stem!r}", "check the list"))
        return [picture for picture in pictures if picture.stem in wanted]

    def class_names(self) -> tuple[str, ...]:
        """The classes that the format lists, in its order, used or not; () for VOC, which has no list."""
        if self.format == "coco":
            return tuple(str(row.get("name", "")) for row in read_json(self.path)["categories"])
        return tuple(self.names.values())

    def known_stems(self) -> set[str]:
        """Stems of all its pictures."""
        if self.format == "voc":
            return stems_in(self.path) if self.stems is None else set(self.stems)
        return {picture.stem for picture in self.raw([])}


def find_parts(path: str | os.PathLike[str], format: Format | None = None) -> list[Part]:
    """The splits of the data set at a path, in the order train, val, test; one part where it is not split.

    Args:
        path: a folder, the JSON file of a COCO set or the data.yaml of a YOLO set.
        format: of the annotations; None recognises it.

    Raises:
        DataError: there is nothing of the kind.
    """
    root = Path(path)
    if not root.exists():
        raise DataError([f"{root}: does not exist; give a folder of pictures and annotations"])
    finders = {"voc": _voc, "coco": _coco, "yolo": _yolo}
    if format is not None:
        parts = finders[format](root)
        if not parts:
            raise DataError([f"{root}: no {format.upper()} annotations in it; check path and format"])
        return _in_order(parts)
    if root.is_file():
        wanted = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}.get(root.suffix.lower())
        if wanted is None:
            hint = "give the folder that holds the pictures and the XML files, a COCO .json or a data.yaml"
            raise DataError([f"{root}: is a file; {hint}"])
        return find_parts(root, wanted)  # type: ignore[arg-type]
    for finder in (_yaml_in, _coco, _voc_in, _yolo):
        parts = finder(root)
        if parts:
            return _in_order(parts)
    return [Part("", "voc", root)]  # whose reader says what is missing


def _in_order(parts: list[Part]) -> list[Part]:
    order = [*SPLITS, ""]
    return sorted(parts, key=lambda part: order.index(part.split))


def split_of(name: str) -> str:
    """The split that a folder or list of this name holds; "" for none."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), "")


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    if not root.is_dir():
        return []
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise DataError([f"{root}: cannot be listed ({error.strerror}); check its permissions"]) from None
    return [(split_of(folder.name), folder) for folder in folders if split_of(folder.name)]


# ---- Pascal VOC ------------------------------------------------------------------------------------------


def _voc(root: Path) -> list[Part]:
    return _voc_in(root) or [Part("", "voc", root)]


def _voc_in(root: Path) -> list[Part]:
    """Parts of a folder that holds XML files, in one of VOC's places; none where there are none."""
    if _has_xml(root):
        lists = {split_of(name): stems for name, stems in split_lists(root).items() if split_of(name)}
        if not lists:
            return [Part("", "voc", root)]
        rest = stems_in(root) - frozenset().union(*lists.values())
        parts = [Part(split, "voc", root, frozenset(stems)) for split, stems in lists.items()]
        return [*parts, Part("", "voc", root, frozenset(rest))] if rest else parts
    return [Part(split, "voc", folder) for split, folder in _split_folders(root) if _has_xml(folder)]


def _has_xml(root: Path) -> bool:
    folders = [root, *(f for f in root.iterdir() if f.is_dir() and f.name.lower() == "annotations")]
    return any(any(folder.glob("*.[xX][mM][lL]")) for folder in folders)


# ---- COCO ------------------------------------------------------------------------------------------------


def _coco(root: Path) -> list[Part]:
    if root.is_file():
        return [Part("", "coco", root, places=_image_folders(root))]
    beside = [root / _ROBOFLOW] if (root / _ROBOFLOW).is_file() else []
    folders = [root, *(f for f in root.iterdir() if f.is_dir() and f.name.lower() == "annotations")]
    files = beside or [file for folder in folders for file in sorted(folder.glob("*.json")) if is_coco(file)]
    parts = [Part(_split_in(file.stem), "coco", file, places=_image_folders(file)) for file in files]
    for split, folder in _split_folders(root):
        inside = folder / _ROBOFLOW
        files = [inside] if inside.is_file() else sorted(f for f in folder.glob("*.json") if is_coco(f))
        parts += [Part(split, "coco", file, places=_image_folders(file)) for file in files]
    if len(parts) > 1:  # keypoints and captions lie beside them, without boxes for us
        detection = [
            part for part in parts if not part.path.stem.startswith(("captions", "person_keypoints"))
        ]
        parts = detection or parts
    return parts


def _split_in(stem: str) -> str:
    """The split in a name like instances_train2017."""
    words = stem.lower().replace("-", "_").split("_")
    return next((split for word in words if (split := split_of(word.rstrip("0123456789")))), "")


def _image_folders(file: Path) -> tuple[Path, ...]:
    """Where pictures of a COCO file may lie: beside it, in images/, in the folder of its split."""
    words = [word for word in file.stem.split("_") if split_of(word.rstrip("0123456789"))]
    bases = [file.parent, file.parent.parent]
    folders = [base / inner for base in bases for inner in ("", "images", "JPEGImages", *words)]
    folders += [base / "images" / word for base in bases for word in words]
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


# ---- YOLO ------------------------------------------------------------------------------------------------


def _yaml_in(root: Path) -> list[Part]:
    files = sorted(file for pattern in ("*.yaml", "*.yml") for file in root.glob(pattern))
    named = [file for file in files if file.stem.lower() in ("data", "dataset")] or files
    return _yaml(named[0]) if len(named) == 1 else []


def _yaml(file: Path) -> list[Part]:
    document = read_yaml(file)
    names, landmarks = class_names(document, file), landmark_values(document, file)
    return [
        Part(split, "yolo", file, None, tuple(split_places(document, file, key)), names, landmarks)
        for split, keys in SPLITS.items()
        for key in keys
        if document.get(key)
    ]


def _yolo(root: Path) -> list[Part]:
    if root.is_file():
        return _yaml(root)
    parts = _yaml_in(root)
    if parts:
        return parts
    if _has_labels(root):
        inner = _split_folders(root / "images")
        names = names_beside(root) or names_beside(root / "labels")
        if inner:
            return [Part(split, "yolo", root, places=(folder,), names=names) for split, folder in inner]
        folder = root / "images" if (root / "images").is_dir() else root
        return [Part("", "yolo", root, places=(folder,), names=names)]
    return [
        Part(split, "yolo", folder, places=(folder,), names=names_beside(root) or names_beside(folder))
        for split, folder in _split_folders(root)
        if _has_labels(folder)
    ]


def _has_labels(root: Path) -> bool:
    """Whether a folder holds YOLO's label files, in labels/ or beside the pictures."""
    if (root / "labels").is_dir():
        return any((root / "labels").rglob("*.txt"))
    texts = {file.stem for file in root.glob("*.txt")}
    return any(picture in texts for picture in stems_in(root))
