"""The class names of a YOLO data set: its data.yaml, classes.txt, obj.names and the like."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskwatch.data.formats.base import read_class_list
from maskwatch.data.formats.tree import Folder, split_of
from maskwatch.errors import DataError
from maskwatch.text import read_text, reason_of

_NOTHING = ("", "~", "null", "Null", "NULL")  # YAML's spellings of a missing value
YAML = (".yaml", ".yml")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt")
_NAME_SUFFIXES = (".names", ".labels")  # the latter is Roboflow's _darknet.labels


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a data.yaml that have a value, with all values as texts.

    Raises:
        DataError: it cannot be read, or has no class names.
    """
    try:
        # Values stay texts: YAML reads the name "no" as False and "007" as the number 7.
        document = yaml.load(read_text(path), Loader=yaml.BaseLoader)  # BaseLoader creates no objects
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError([f"{path}: not readable as YAML ({reason_of(error)}); fix that line"]) from None
    rows = document.items() if isinstance(document, dict) else ()
    stated = {key: value for key, value in rows if value not in _NOTHING}
    if "names" not in stated:
        raise DataError([f"{path}: has no 'names'; give the data.yaml of a YOLO data set"])
    return stated


def class_names(document: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Class names by number, from a list or a mapping; DataError for anything else."""
    names = document["names"]
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        if all(isinstance(name, str) for name in pairs.values()):
            return {int(number): name for number, name in pairs.items()}
    except (AttributeError, TypeError, ValueError):
        pass
    text = f"names {reprlib.repr(names)} is neither a list nor numbers with names; write names: [a, b]"
    raise DataError([f"{path}: {text}"])


def landmark_values(document: Mapping[str, Any], path: Path) -> int | None:
    """How many numbers follow each box, by `kpt_shape`; None without it, DataError if it is invalid."""
    shape = document.get("kpt_shape")
    if shape is None:
        return None
    words = [word for word in shape if isinstance(word, str)] if isinstance(shape, list) else []
    if len(words) != 2 or not words[0].isdecimal() or words[1] not in ("2", "3"):
        text = f"{path}: kpt_shape {reprlib.repr(shape)} is not a number of landmarks and of values (2 or 3)"
        raise DataError([f"{text}; write for example kpt_shape: [5, 2]"])
    return int(words[0]) * int(words[1])


def names_beside(folder: Path) -> dict[int, str]:
    """Class names by number from classes.txt, obj.names or the like; empty without one."""
    names = {file: file.name.lower() for file in folder.iterdir() if not file.name.startswith(".")}
    listed = [file for wanted in NAME_FILES for file, name in names.items() if name == wanted]
    for ending in _NAME_SUFFIXES:
        listed += sorted(file for file, name in names.items() if name.endswith(ending))
    return next((read_class_list(file) for file in listed if file.is_file()), {})


def names_in(folder: Folder) -> Mapping[int, str]:
    """Class names by number from a classes.txt, else from a YAML file, in a folder."""
    names: Mapping[int, str] = names_beside(folder.path)
    for file in folder.of_kind(*YAML) if not names else ():
        with contextlib.suppress(DataError):
            names = names or class_names(read_yaml(file), file)
    return names


def names_above(folder: Folder) -> Mapping[int, str]:
    """Class names by number from the folders above, or from beside a split (train/ beside data.yaml)."""
    above = [*folder.upwards()][1:]
    found = next((names for one in above if (names := names_in(one))), {})
    start = (above or [folder])[-1].path.absolute()
    if found or not split_of(start.name):
        return found
    with contextlib.suppress(OSError):
        beside = sorted(file for file in start.parent.iterdir() if file.is_file())
        return names_in(Folder(start.parent, beside))
    return {}
