"""Where the pictures, labels and class names of a YOLO data set lie."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskwatch.data.formats.raw import Entry
from maskwatch.data.formats.tree import PICTURE_FOLDERS, Folder, id_below, list_folder, split_of
from maskwatch.data.formats.voc_files import listed_names
from maskwatch.data.formats.yolo import class_names, landmark_values, names_beside, read_names, read_yaml
from maskwatch.data.formats.yolo_labels import Labels, is_label
from maskwatch.data.issues import Fault
from maskwatch.data.names import Names, in_order, in_words, same_text, unquoted, without_suffix
from maskwatch.errors import DataError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import read_lines, reason_of

_TEXT = ".txt"


@dataclass
class YoloUnit:
    """The pictures of one split ("" for none), and the names of the classes by number.

    landmarks: how many numbers follow each box; None where nothing says so.
    """

    split: str
    path: Path
    entries: list[Entry]
    names: Mapping[int, str]
    faults: list[Fault] = field(default_factory=list)
    landmarks: int | None = None


# ---- data.yaml -------------------------------------------------------------------------------------------


def find_yaml(folder: Folder) -> Path | None:
    """The data.yaml of a folder: the YAML file that names classes and where their pictures lie."""
    files = [file for file in folder.of_kind(".yaml", ".yml") if _names_splits(file)]
    named = [file for file in files if file.stem.lower() in ("data", "dataset")] or files
    return named[0] if len(named) == 1 else None


def names_in(folder: Folder) -> Mapping[int, str]:
    """Names by number that a classes.txt, or a YAML file which names nothing else, says of a folder."""
    names: Mapping[int, str] = names_beside(folder.path)
    for file in folder.of_kind(".yaml", ".yml") if not names else ():
        with contextlib.suppress(DataError):
            names = names or class_names(read_yaml(file), file)
    return names


def names_above(folder: Path) -> Mapping[int, str]:
    """Names by number from beside a folder that is one split of a set (train/ beside data.yaml)."""
    folder = folder.absolute()
    if not split_of(folder.name):
        return {}
    with contextlib.suppress(OSError):
        return names_in(
            Folder(folder.parent, sorted(file for file in folder.parent.iterdir() if file.is_file()))
        )
    return {}


def _names_splits(file: Path) -> bool:
    try:
        return any(split_of(str(key)) for key in read_yaml(file))
    except DataError:
        # What cannot be read is told of where it is surely meant, not where it may be of another program.
        return file.stem.lower() == "data"


def units_of_yaml(file: Path) -> list[YoloUnit]:
    """The splits that a data.yaml names.

    A test split that is not there is a warning where there are others: exports name one that they lack.

    Raises:
        DataError: it cannot be read, or names pictures that are not there.
    """
    document = read_yaml(file)
    names, landmarks = class_names(document, file), landmark_values(document, file)
    units: list[YoloUnit] = []
    labels, listed, absent = Labels(), False, list[Fault]()
    pictures: dict[Path, _Pictures] = {}
    for key in document:
        if split_of(str(key)) and document[key]:
            unit = YoloUnit(split_of(str(key)), file, [], names, landmarks=landmarks)
            try:
                places = split_places(document, file, key)
            except DataError as error:
                if unit.split != "test" or not units:
                    raise
                absent.append(_absent(error, file))
                continue
            root = Path(os.path.commonpath(places))
            for place in places:
                listed = listed or not place.is_dir()
                _add_place(unit, place, root, labels, pictures)
            units.append(unit)
    if units:
        units[0].faults += absent
    return _finished(units, labels, listed=listed)


def _absent(error: DataError, file: Path) -> Fault:
    text, _, mend = error.problems[0].removeprefix(f"{file}: ").rpartition("; ")
    return Fault("split-missing", file, text, f"{mend} if it is somewhere", severity="warning")


def split_places(document: Mapping[str, Any], yaml_path: Path, key: str) -> list[Path]:
    """Folders and list files that a data.yaml names for a split.

    Raises:
        DataError: one of them is not there.
    """
    value = document.get(key)
    written = [str(item) for item in (value if isinstance(value, list) else [value]) if item]
    base = str(document.get("path") or "")
    places, problems = [], []
    for text in written:
        options = _places(text, base, yaml_path.parent)
        # Path's own raises for names that no file can have.
        found = next((place for place in options if os.path.exists(place)), None)  # noqa: PTH110
        if found is None:
            problems.append(f"{yaml_path}: {key}: {text!r} is not there; correct the path")
        else:
            places.append(found)
    if problems:
        raise DataError(problems)
    return places


def _places(text: str, base: str, here: Path) -> Iterable[Path]:
    """Where a path of a data.yaml may lead: exports are moved, and Roboflow writes ../train/images."""
    text, base = text.replace("\\", "/"), base.replace("\\", "/")
    yield from (here / base / text, here / text)
    for written in (f"{base}/{text}", text):
        parts = [part for part in written.split("/") if part not in ("", ".", "..")]
        yield from (here.joinpath(*parts[at:]) for at in range(max(1, len(parts) - 1)))


def _add_place(
    unit: YoloUnit, place: Path, root: Path, labels: Labels, pictures: dict[Path, _Pictures]
) -> None:
    """Adds the pictures of a folder, which are named from the root on, or those of a list.

    Args:
        pictures: of the folders of lists so far; is added to.
    """
    if place.is_dir():
        home = unit.path.parent
        above = root.relative_to(home).parts if root.is_relative_to(home) else (root.name,)
        inside = list_folder(place).below(*PICTURE_SUFFIXES)
        unit.entries += [labels.entry(picture, root, unit.split, above) for picture in inside]
        return
    if place.parent not in pictures:
        pictures[place.parent] = _Pictures(list_folder(place.parent))
    _add_list(unit, place, pictures[place.parent], labels)


# ---- Darknet ---------------------------------------------------------------------------------------------


def find_darknet(folder: Folder) -> list[YoloUnit]:
    """The splits of obj.data with its lists and names, as darknet and CVAT write it; [] for none."""
    for file in folder.of_kind(".data"):
        keys = _data_file(file)
        lists = {key: found for key, text in keys.items() if (found := _list_file(folder, key, text))}
        if lists:
            files = _below(folder, ".names", _TEXT).find(keys.get("names", ""), loose=True)
            names = read_names(files[0]) if files else names_beside(folder.path)
            return _listed(folder, file, lists, names)
    return []


def find_lists(folder: Folder) -> list[YoloUnit]:
    """The splits of lists of pictures (train.txt, val.txt) beside the names of the classes."""
    lists = {file.stem: file for file in folder.of_kind(_TEXT) if split_of(file.stem)}
    names = names_beside(folder.path)
    pictures = folder.below(*PICTURE_SUFFIXES)
    if not lists or not names or not pictures:
        return []
    return _listed(folder, folder.path, lists, names)


def _data_file(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in listed_names(file))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _list_file(folder: Folder, key: str, text: str) -> Path | None:
    """The list that a key of obj.data names: `train = data/train.txt`."""
    if key.lower() in ("classes", "names", "backup", "results", "eval", "top"):
        return None
    found = _below(folder, _TEXT).find(text, loose=True)
    return found[0] if len(found) == 1 else None


def _below(folder: Folder, *suffixes: str) -> Names[Path]:
    """Finds files below a folder by paths from it, or from wherever they were written."""
    files = folder.below(*suffixes)
    return Names((file, file.relative_to(folder.path).as_posix(), ()) for file in files)


def _listed(
    folder: Folder, path: Path, lists: Mapping[str, Path], names: Mapping[int, str]
) -> list[YoloUnit]:
    units, labels, pictures = [], Labels(), _Pictures(folder)
    for key, file in lists.items():
        unit = YoloUnit(split_of(key), path, [], names)
        _add_list(unit, file, pictures, labels)
        units.append(unit)
    return _finished(units, labels, listed=True)


class _Pictures:
    """Finds the pictures of a folder by what lists call them: paths from it, or from wherever written."""

    def __init__(self, folder: Folder) -> None:
        self.root = folder.path
        self._names = _below(folder, *PICTURE_SUFFIXES)
        below = folder.below(*PICTURE_SUFFIXES)
        self._shorter = Names((picture, id_below(picture, self.root, ""), ()) for picture in below)

    def find(self, written: str) -> list[Path]:
        return self._names.find(written, loose=True) or self._shorter.find(written, loose=True)


def _add_list(unit: YoloUnit, file: Path, pictures: _Pictures, labels: Labels) -> None:
    """Adds the pictures that a list names."""
    entries: list[Entry] = []
    try:
        lines = read_lines(file)
    except (OSError, UnicodeError) as error:
        mend = "write the list again"
        unit.faults.append(Fault("annotation-unreadable", file, f"not readable: {reason_of(error)}", mend))
        lines = []
    for number, line in enumerate(lines, start=1):
        written = unquoted(line)
        if not written:
            continue
        direct = file.parent / written
        # Path's own raises for names that no file can have.
        there = os.path.isfile(direct)  # noqa: PTH113
        found = [direct] if there else pictures.find(written)
        if len(found) == 1:
            entries.append(labels.entry(found[0], pictures.root, unit.split))
            continue
        where = f"line {number}"
        if found:
            text, _, mend = in_words(written, (str(picture) for picture in found)).rpartition("; ")
            unit.faults.append(Fault("picture-ambiguous", file, text, mend, where))
        else:
            text = f"no picture {written}"
            unit.faults.append(Fault("picture-missing", file, text, "add it or remove the line", where))
    unit.entries += _from_split_on(entries, unit.split)


def _from_split_on(entries: list[Entry], split: str) -> list[Entry]:
    """The entries, named from the folder of their split on (pics/train/a.jpg), if that tells them apart."""
    shorter = []
    for entry in entries:
        *folders, name = entry.image_id.split("/")
        places = [at for at, folder in enumerate(folders, start=1) if split and split_of(folder) == split]
        shorter.append("/".join([*folders[places[0] if places else 0 :], name]))
    if len({*shorter}) < len(shorter):
        return entries
    return [replace(entry, image_id=name) for entry, name in zip(entries, shorter, strict=True)]


# ---- Folders ---------------------------------------------------------------------------------------------


def find_folders(folder: Folder, names: Mapping[int, str]) -> tuple[list[YoloUnit], list[Folder]] | None:
    """The pictures of a folder whose labels lie in labels/ or beside them, and the folders left to look at.

    Args:
        names: of the classes, from a folder above.

    Returns:
        None where there are no labels.
    """
    own = folder.of_kind(*PICTURE_SUFFIXES)
    labelled, images = _label_folders(folder), _picture_folders(folder, own)
    places = (folder, *(inner for outer in (*labelled, *images) for inner in outer.walk()))
    names = next((found for place in places if (found := names_in(place))), names)
    if labelled and images:
        pictures = [picture for inner in images for picture in inner.below(*PICTURE_SUFFIXES)]
        root, used = (images[0] if len(images) == 1 else folder).path, [*labelled, *images]
    elif labelled and own:
        used = labelled
        pictures, root = own, folder.path
    elif _are_labels(folder, own):
        used = [inner for inner in folder.folders if not split_of(inner.name) and not _has_labels(inner)]
        pictures, root = [*own, *(p for inner in used for p in inner.below(*PICTURE_SUFFIXES))], folder.path
    else:
        return None
    rest = [inner for inner in folder.folders if inner not in used]
    return _by_split(folder.path, root, pictures, names, labelled), rest


def _picture_folders(folder: Folder, own: Sequence[Path]) -> list[Folder]:
    """The folder of the pictures by its name, or where there are none beside, those that hold no text."""
    images = [inner for inner in folder.folders if inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in folder.named(*PICTURE_FOLDERS) if inner in images]
    return named[:1] or [inner for inner in images if not own and not inner.below(_TEXT)]


def _label_folders(folder: Folder) -> list[Folder]:
    """Folders without pictures that are called labels, or else whose texts are labels of pictures beside."""
    texts = [inner for inner in folder.folders if inner.below(_TEXT) and not inner.below(*PICTURE_SUFFIXES)]
    named = [inner for inner in texts if inner.name.lower() == "labels"]
    if named or not texts:
        return named
    stems = {without_suffix(same_text(picture.name)) for picture in folder.below(*PICTURE_SUFFIXES)}

    def is_of_picture(text: Path) -> bool:
        return without_suffix(same_text(text.name)) in stems and is_label(text)

    return [inner for inner in texts if any(map(is_of_picture, inner.below(_TEXT)))]


def _are_labels(folder: Folder, pictures: Sequence[Path]) -> bool:
    texts = {without_suffix(same_text(file.name)) for file in folder.of_kind(_TEXT)}
    return any(without_suffix(same_text(picture.name)) in texts for picture in pictures)


def _has_labels(folder: Folder) -> bool:
    return any(_are_labels(inner, inner.of_kind(*PICTURE_SUFFIXES)) for inner in folder.walk()) or any(
        inner.name.lower() == "labels" for inner in folder.walk()
    )


def _by_split(
    path: Path, root: Path, pictures: Sequence[Path], names: Mapping[int, str], labelled: Sequence[Folder]
) -> list[YoloUnit]:
    """One unit for each split among the folders just below the root (images/train), and one for the rest."""
    labels = Labels([home.path for home in labelled])
    units: dict[str, YoloUnit] = {}
    for picture in pictures:
        first = picture.relative_to(root).parts[0]
        split = split_of(first) if picture.parent != root else ""
        unit = units.setdefault(split, YoloUnit(split, path, [], names))
        unit.entries.append(labels.entry(picture, root, split, () if root == path else (root.name,)))
    return _finished([*units.values()], labels, [inner.path for home in labelled for inner in home.walk()])


def _finished(
    units: list[YoloUnit], labels: Labels, homes: Sequence[Path] = (), *, listed: bool = False
) -> list[YoloUnit]:
    """The units sorted, each picture once; label files that belong to no picture are among their faults.

    Args:
        homes: folders of labels; those in which a picture has its own are looked at anyway.
        listed: pictures were chosen by lists, which may leave some out on purpose.
    """
    used: dict[Path | None, set[Path | None]] = defaultdict(set)
    for entry in (entry for unit in units for entry in unit.entries):
        used[entry.annotation].add(entry.image)
    empty = not any(label is not None and label.is_file() for label in used)
    told: set[Path] = set()
    for unit in units:
        by_path = {entry.image: entry for entry in unit.entries}
        unit.entries = sorted(by_path.values(), key=lambda entry: in_order(entry.image_id))
        if empty and unit.entries:
            text = f"none of its {len(unit.entries)} pictures has a label file, nor has any other of the set"
            mend = "put them beside the pictures or into labels/"
            unit.faults.append(Fault("annotation-missing", unit.path, text, mend))
        unit.faults += _shared(unit.entries, used)
        folders = sorted({*homes, *(entry.annotation.parent for entry in unit.entries if entry.annotation)})
        for label in (label for folder in folders for label in sorted(labels.listed(folder).values())):
            if not listed and label not in used and label not in told and is_label(label):
                told.add(label)
                text, mend = "no picture belongs to this label file", "add the picture or remove the file"
                unit.faults.append(Fault("picture-missing", label, text, mend))
    return units


def _shared(entries: Sequence[Entry], used: Mapping[Path | None, set[Path | None]]) -> Iterable[Fault]:
    """Label files of a unit that are of several pictures, as those of a.jpg and a.png are."""
    for label in dict.fromkeys(entry.annotation for entry in entries):
        if label is not None and len(used[label]) > 1 and label.is_file():
            pictures = ", ".join(sorted(str(picture) for picture in used[label]))
            text, mend = f"belongs to several pictures: {pictures}", "keep one of them, or give each its own"
            yield Fault("picture-ambiguous", label, text, mend)
