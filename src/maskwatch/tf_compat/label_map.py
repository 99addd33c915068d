"""Label maps of the TF Object Detection API (`label_map.pbtxt`): class names by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maskwatch.errors import DataError
from maskwatch.labels import find_class
from maskwatch.outputs import new_file
from maskwatch.text import read_text, reading
from maskwatch.tf_compat import textproto

# Names in the zoo's COCO label map are ids of Google's Knowledge Graph, with a readable `display_name` each.
_GRAPH_ID = "/m/"
BACKGROUND = "background"


def read_label_map(path: str | Path) -> dict[int, str]:
    """Class names by id, in the order of the ids, which count from 1 (0 is the background, left out here).

    The name of an item is its `name`, or its `display_name` where it has no name but a Knowledge Graph id.

    Raises:
        DataError: the file cannot be read or is no label map; the message names every item that is wrong.
    """
    with reading(path, DataError, "give a label_map.pbtxt"):
        text = read_text(path)
    try:
        content = textproto.parse(text)
    except ValueError as error:
        raise DataError([f"{path}: {error}; give a label_map.pbtxt of items with id and name"]) from None
    items = content.get("item", [])
    names: dict[int, str] = {}
    problems = [] if items else [f"{path}: holds no item; write item {{ id: 1 name: 'mask' }}"]
    for number, item in enumerate(items, start=1):
        if problem := _add(names, item):
            problems.append(f"{path}: item {number} {problem}")
    if problems:
        raise DataError(problems)
    return dict(sorted(names.items()))


def write_label_map(path: str | Path, names: Mapping[int, str]) -> None:
    """Writes a label map, replacing a file that is there.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    items: list[textproto.Value] = [{"id": [class_id], "name": [name]} for class_id, name in names.items()]
    with new_file(path) as part:
        part.write_text(textproto.write({"item": items}), encoding="utf-8")


def _add(names: dict[int, str], item: textproto.Value) -> str | None:
    """Adds an item, or returns what is wrong with it."""
    if not isinstance(item, dict):
        return f"is {item!r}; write item {{ id: 1 name: 'mask' }}"
    # The last value of an optional field counts.
    class_id, name, shown = (
        item[key][-1] if item.get(key) else None for key in ("id", "name", "display_name")
    )
    if name is None or (isinstance(name, str) and name.startswith(_GRAPH_ID)):
        name = name if shown is None else shown
    if not isinstance(name, str) or not name.strip():
        return f"has the name {name!r}; give it a text"
    if class_id == 0 and name == BACKGROUND:
        return None
    if type(class_id) is not int or class_id < 1:
        return f"({name!r}) has the id {class_id!r}; give it a whole number from 1"
    if class_id in names:
        return f"({name!r}) has the id {class_id} of {names[class_id]!r}; give each its own"
    if find_class(list(names.values()), name) is not None:
        return f"names {name!r} a second time; give each class its own name"
    names[class_id] = name
    return None
