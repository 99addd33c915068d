"""The file of zones and lines: reads it and reports all errors at once."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskwatch.errors import OptionError
from maskwatch.live.tracking.zones import Line, Shares, Zone, Zones, shape_error
from maskwatch.text import plural, read_text, reading

ZONES_FORMAT = "maskwatch.zones/1"
"""Required in every file; the number rises when a key changes its meaning."""

LONGEST_NAME = 60

_ALL = ("format", "only_zones", "zone", "line")
_ZONE = ("name", "source", "points", "alert")
_LINE = ("name", "source", "points")


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
        raise OptionError(f"{path}: this is no TOML file ({error}); fix it there") from None
    errors = list(_file_errors(table))
    zones = [_zone(item, f"zone {_title(item, n)}", errors) for n, item in enumerate(_items(table, "zone"))]
    lines = [_line(item, f"line {_title(item, n)}", errors) for n, item in enumerate(_items(table, "line"))]
    good_zones = tuple(zone for zone in zones if zone is not None)
    good_lines = tuple(line for line in lines if line is not None)
    errors += [*_duplicates("zone", good_zones), *_duplicates("line", good_lines)]
    if table.get("only_zones") is True and not zones:
        errors.append("only_zones is true, but there is no zone; nobody would be counted")
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise OptionError(
            f"{path}: {plural(len(errors), 'error')}:\n{listed}\n"
            f"Fix them; maskwatch zones SOURCE --zones {path} draws where they lie."
        )
    return Zones(good_zones, good_lines, bool(table.get("only_zones", False)))


def check_sources(zones: Zones, names: Sequence[str], path: Path) -> None:
    """Checks that every zone and line belongs to a source that is watched.

    Raises:
        OptionError: lists those that do not, and the sources.
    """
    everything: list[Zone | Line] = [*zones.zones, *zones.lines]
    unknown = [
        f"{type(shape).__name__.lower()} {shape.name!r} is for source {shape.source!r}"
        for shape in everything
        if shape.source is not None and shape.source not in names
    ]
    if unknown:
        raise OptionError(
            f"{path}: {'; '.join(unknown)}, which is not watched; the sources are {', '.join(names)}"
        )


def _items(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key, [])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _file_errors(table: dict[str, Any]) -> Iterator[str]:
    if "format" not in table:
        yield f'format is missing; begin the file with: format = "{ZONES_FORMAT}"'
    elif table["format"] != ZONES_FORMAT:
        yield f"format is {table['format']!r}; this version reads {ZONES_FORMAT!r}"
    for key in table:
        if key not in _ALL:
            yield f"{key!r} is unknown; use {', '.join(_ALL)}"
    if not isinstance(table.get("only_zones", False), bool):
        yield f"only_zones is {table['only_zones']!r}; write true or false"
    for key in ("zone", "line"):
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            yield f"{key} is {found!r:.60}; write [[{key}]], with two brackets, above its name and points"


def _title(item: dict[str, Any], index: int) -> str:
    name = item.get("name")
    return repr(name) if isinstance(name, str) and name else f"number {index + 1}"


def _zone(item: dict[str, Any], title: str, errors: list[str]) -> Zone | None:
    before = len(errors)
    _check_keys(item, _ZONE, title, errors)
    points = _points(item, title, errors)
    if points is not None and len(points) < 3:
        errors.append(f"{title}: points has {len(points)}, a zone needs at least 3")
    elif points is not None and (error := shape_error(points)):
        errors.append(f"{title}: {error}")
    if not isinstance(item.get("alert", True), bool):
        errors.append(f"{title}: alert is {item['alert']!r}; write true or false")
    if len(errors) > before or points is None:
        return None
    return Zone(item["name"], points, item.get("source"), item.get("alert", True))


def _line(item: dict[str, Any], title: str, errors: list[str]) -> Line | None:
    before = len(errors)
    _check_keys(item, _LINE, title, errors)
    points = _points(item, title, errors)
    if points is not None and len(points) != 2:
        errors.append(f"{title}: points has {len(points)}, a line needs 2")
    elif points is not None and points[0] == points[1]:
        errors.append(f"{title}: both points are {list(points[0])}; a line needs two different ones")
    if len(errors) > before or points is None:
        return None
    return Line(item["name"], points, item.get("source"))


def _check_keys(item: dict[str, Any], known: Sequence[str], title: str, errors: list[str]) -> None:
    errors += [f"{title}: {key!r} is unknown; use {', '.join(known)}" for key in item if key not in known]
    name = item.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        what = "is missing" if name is None else f"is {name!r}"
        errors.append(f"{title}: name {what}; give it a text of 1 to {LONGEST_NAME} characters")
    source = item.get("source", "all")
    if not isinstance(source, str) or not source.strip():
        errors.append(f"{title}: source is {source!r}; give the name of a source, or leave it out for all")


def _points(item: dict[str, Any], title: str, errors: list[str]) -> Shares | None:
    """The points; None where one is invalid, with each error added."""
    given = item.get("points")
    if not isinstance(given, list):
        what = "is missing" if given is None else f"is {given!r}"
        errors.append(f"{title}: points {what}; write [[0.1, 0.2], [0.9, 0.2], …]")
        return None
    before = len(errors)
    for number, point in enumerate(given, 1):
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            errors.append(f"{title}: point {number} is {point!r}; write [x, y]")
        elif not all(0 <= value <= 1 for value in point):
            errors.append(
                f"{title}: point {number} is {point!r}; coordinates are shares of the frame from 0 to 1: "
                "divide x by its width and y by its height"
            )
    return None if len(errors) > before else tuple((float(x), float(y)) for x, y in given)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)  # a large int has no float


def _duplicates(kind: str, shapes: Sequence[Zone | Line]) -> Iterator[str]:
    for index, shape in enumerate(shapes):
        for other in shapes[:index]:
            if shape.name == other.name and (
                None in (shape.source, other.source) or shape.source == other.source
            ):
                yield f"{kind} {shape.name!r} appears twice for one source; give each its own name"
