"""The file of zones and lines: reads it and reports all errors at once."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskwatch.errors import OptionError
from maskwatch.live.tracking.zones import Line, NormalizedPoints, Zone, Zones, shape_error
from maskwatch.text import plural, read_text, reading

ZONES_FORMAT = "maskwatch.zones/1"
"""Required in every file; the number rises when a key changes its meaning."""

_LONGEST_NAME = 60
_KEYS = {
    "file": ("format", "only_zones", "zone", "line"),
    "zone": ("name", "source", "points", "alert"),
    "line": ("name", "source", "points"),
}


def read_zones(path: Path) -> Zones:
    """Reads a file of zones and lines; docs/people.md describes it.

    Raises:
        OptionError: it cannot be read, or has errors; the message lists all of them.
    """
    with reading(path, OptionError, "check the path"):
        text = read_text(path)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or numbers and nesting beyond Python
        raise OptionError(f"{path}: not a TOML file ({error}); fix it there") from None
    errors = list(_file_errors(table))
    shapes = [
        _shape(kind, item, number, errors)
        for kind in ("zone", "line")
        for number, item in enumerate(_items(table, kind), 1)
    ]
    zones = tuple(shape for shape in shapes if isinstance(shape, Zone))
    lines = tuple(shape for shape in shapes if isinstance(shape, Line))
    errors += [*_duplicates("zone", zones), *_duplicates("line", lines)]
    if table.get("only_zones") is True and not _items(table, "zone"):
        errors.append("only_zones is true, but there is no zone; no person would count")
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise OptionError(
            f"{path}: {plural(len(errors), 'error')}:\n{listed}\n"
            f"Fix them; maskwatch zones SOURCE --zones {path} draws the zones and lines."
        )
    return Zones(zones, lines, bool(table.get("only_zones", False)))


def check_sources(zones: Zones, names: Sequence[str], path: Path) -> None:
    """Checks that every zone and line belongs to a source that is watched.

    Raises:
        OptionError: lists those that do not, and the sources.
    """
    unknown = [
        f"{type(shape).__name__.lower()} {shape.name!r} is for source {shape.source!r}"
        for shape in zones.shapes
        if shape.source not in (None, *names)
    ]
    if unknown:
        raise OptionError(
            f"{path}: {'; '.join(unknown)}, which is not watched; the sources are {', '.join(names)}"
        )


def _items(table: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = table.get(kind, [])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _file_errors(table: dict[str, Any]) -> Iterator[str]:
    if "format" not in table:
        yield f'format is missing; begin the file with: format = "{ZONES_FORMAT}"'
    elif table["format"] != ZONES_FORMAT:
        yield f"format is {table['format']!r}; this version reads {ZONES_FORMAT!r}"
    yield from _unknown_keys("file", table)
    if not isinstance(table.get("only_zones", False), bool):
        yield f"only_zones is {table['only_zones']!r}; write true or false"
    for kind in ("zone", "line"):
        found = table.get(kind, [])
        if not isinstance(found, list) or len(_items(table, kind)) < len(found):
            yield f"{kind} is {found!r:.60}; write [[{kind}]], with two brackets, above its name and points"


def _unknown_keys(kind: str, table: dict[str, Any]) -> Iterator[str]:
    known = _KEYS[kind]
    return (f"{key!r} is unknown; use {', '.join(known)}" for key in table if key not in known)


def _shape(kind: str, item: dict[str, Any], number: int, errors: list[str]) -> Zone | Line | None:
    """A zone or line; None where it has errors, which are added to `errors`."""
    name, source, alert = item.get("name"), item.get("source"), item.get("alert", True)
    found = [*_unknown_keys(kind, item), *_name_errors(name, source)]
    if point_errors := list(_point_errors(item.get("points"))):
        found += point_errors
    else:
        points: NormalizedPoints = tuple((float(x), float(y)) for x, y in item["points"])
        found += _zone_errors(points) if kind == "zone" else _line_errors(points)
    if kind == "zone" and not isinstance(alert, bool):
        found.append(f"alert is {alert!r}; write true or false")
    if found:
        title = repr(name) if isinstance(name, str) and name else f"number {number}"
        errors += [f"{kind} {title}: {error}" for error in found]
        return None
    return Zone(item["name"], points, source, alert) if kind == "zone" else Line(item["name"], points, source)


def _name_errors(name: object, source: object) -> Iterator[str]:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        what = "is missing" if name is None else f"is {name!r}"
        yield f"name {what}; give it a text of 1 to {_LONGEST_NAME} characters"
    if source is not None and (not isinstance(source, str) or not source.strip()):
        yield f"source is {source!r}; give the name of a source, or leave it out for all"


def _point_errors(given: object) -> Iterator[str]:
    if not isinstance(given, list):
        what = "is missing" if given is None else f"is {given!r}"
        yield f"points {what}; write [[0.1, 0.2], [0.9, 0.2], …]"
        return
    for number, point in enumerate(given, 1):
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            yield f"point {number} is {point!r}; write [x, y]"
        elif not all(0 <= value <= 1 for value in point):
            yield (
                f"point {number} is {point!r}; coordinates are shares of the frame from 0 to 1: "
                "divide x by its width and y by its height"
            )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)  # a large int has no float


def _zone_errors(points: NormalizedPoints) -> Iterator[str]:
    if len(points) < 3:
        yield f"points has {len(points)}, a zone needs at least 3"
    elif error := shape_error(points):
        yield error


def _line_errors(points: NormalizedPoints) -> Iterator[str]:
    if len(points) != 2:
        yield f"points has {len(points)}, a line needs 2"
    elif points[0] == points[1]:
        yield f"both points are {list(points[0])}; a line needs two different ones"


def _duplicates(kind: str, shapes: Sequence[Zone | Line]) -> Iterator[str]:
    for index, shape in enumerate(shapes):
        for other in shapes[:index]:
            overlap = None in (shape.source, other.source) or shape.source == other.source
            if shape.name == other.name and overlap:
                yield f"{kind} {shape.name!r} appears twice for one source; give each its own name"
