"""Sources → rows of work: files and addresses are listed here, tables are read on the cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pyarrow as pa
import ray.data

from maskwatch.cluster.rows import work_table
from maskwatch.cluster.session import map_blocks
from maskwatch.cluster.storage import list_files, open_storage
from maskwatch.errors import OptionError, SourceError
from maskwatch.media.formats import PICTURE_SUFFIXES, UNSUPPORTED_SUFFIXES, VIDEO_SUFFIXES
from maskwatch.media.sources import Source, find_sources
from maskwatch.net.addresses import is_address, without_credentials

_SUFFIXES = frozenset([*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, *UNSUPPORTED_SUFFIXES])
_TABLES = (".parquet", ".lance")

LIGHT: dict[str, Any] = {"num_cpus": 0}
"""Stages that only pass rows on take no core from the detectors."""


@dataclass(frozen=True)
class Columns:
    """Columns of a table of pictures: of paths or bytes, and of names; None takes what can be recognised."""

    picture: str | None = None
    name: str | None = None

    def resolve(self, schema: pa.Schema) -> Columns:
        """These columns in a table. Raises `OptionError` where they are not there or not clear."""
        have = ", ".join(schema.names)
        for option, column in (("--column", self.picture), ("--name-column", self.name)):
            if column is not None and column not in schema.names:
                raise OptionError(f"{option} {column}: the table has {have}; name one of them")
        picture = self.picture or self._guess(schema, have)
        kind = schema.field(picture).type
        if self.name is None and _is_bytes(kind):
            raise OptionError(
                f"column {picture} holds bytes, which have no name; add --name-column, one of {have}"
            )
        return Columns(picture, self.name)

    def _guess(self, schema: pa.Schema, have: str) -> str:
        pictures = [field.name for field in schema if _is_bytes(field.type) or _is_image(field.type)]
        paths = [field.name for field in schema if _is_text(field.type) and field.name != self.name]
        for found in (pictures, paths):
            if len(found) == 1:
                return str(found[0])
        raise OptionError(f"the table has {have}; name the column of pictures with --column")


def table_to_work(columns: Columns, table: pa.Table) -> pa.Table:
    """Rows of a table as rows of work; the columns are resolved."""
    assert columns.picture is not None
    values = table[columns.picture].to_pylist()
    names = [None] * len(values) if columns.name is None else table[columns.name].to_pylist()
    return work_table(_work_row(*pair) for pair in zip(values, names, strict=True))


def list_work(sources: Sequence[str]) -> pa.Table:
    """The rows of work of files, folders, patterns and addresses. Raises `SourceError`."""
    here = [source for source in sources if not is_remote(source)]
    rows = [_source_row(source) for source in find_sources(here)] if here else []
    for place in sources:
        if is_remote(place):
            rows += [_address_row(found) for found in list_files(place, _SUFFIXES)]
    return work_table(rows)


def read_table(place: str, columns: Columns) -> ray.data.Dataset:
    """A Parquet file, a folder of them or a Lance table as rows of work."""
    if _suffix(place) == ".lance":
        try:
            return to_work(ray.data.read_lance(place), columns)
        except ImportError:
            raise SourceError(f"{place}: Lance is not installed; run: pip install pylance") from None
    filesystem, path = open_storage(place)
    shown = without_credentials(place)
    try:
        return to_work(ray.data.read_parquet(path, filesystem=filesystem, **LIGHT), columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, OptionError):
            raise
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{shown}: cannot be read as a table ({reason}); check it") from None


def to_work(dataset: ray.data.Dataset, columns: Columns) -> ray.data.Dataset:
    """A data set with a column of pictures as rows of work. Raises `OptionError`."""
    schema = dataset.schema()
    if schema is None:
        raise SourceError("the table has no rows; check the path")
    resolved = columns.resolve(pa.schema(zip(schema.names, schema.types, strict=True)))
    needed = [name for name in (resolved.picture, resolved.name) if name is not None]
    return map_blocks(dataset.select_columns(needed, **LIGHT), partial(table_to_work, resolved), **LIGHT)


def is_table(place: str) -> bool:
    """Whether a source is a table of pictures, by its suffix."""
    return _suffix(place) in _TABLES


def is_remote(place: str) -> bool:
    """Whether a source is at an address that is listed and read through a file system."""
    return is_address(place) and not place.startswith(("http://", "https://"))


def _suffix(place: str) -> str:
    return PurePosixPath(place.rstrip("/")).suffix.lower()


def _source_row(source: Source) -> dict[str, Any]:
    if source.path is None and source.url is None:
        raise OptionError("- is standard input of this machine; name files, folders or tables for --ray")
    path = None if source.path is None else os.fsencode(source.path.absolute())
    return {"source": source.name, "kind": source.kind, "path": path, "url": source.url}


def _address_row(place: str) -> dict[str, Any]:
    return {"source": without_credentials(place), "kind": _kind(place), "url": place}


def _work_row(value: Any, name: Any) -> dict[str, Any]:
    """A picture of a table: bytes, a path, or both as in data sets of Hugging Face."""
    if isinstance(value, dict):
        name = name if name is not None else value.get("path")
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return {"source": str(name), "kind": "picture", "data": value}
    if value is None:
        return {"source": str(name), "kind": "picture", "data": b""}  # reported as an empty file
    place = cast(str, value)
    source = without_credentials(place if name is None else str(name))
    row = {"source": source, "kind": _kind(place)}
    return (
        {**row, "url": place} if is_address(place) else {**row, "path": os.fsencode(Path(place).absolute())}
    )


def _kind(place: str) -> str:
    return "video" if _suffix(place) in VIDEO_SUFFIXES else "picture"


def _is_bytes(kind: Any) -> bool:
    return isinstance(kind, pa.DataType) and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    return isinstance(kind, pa.DataType) and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_image(kind: Any) -> bool:
    """A struct with bytes, as in data sets of Hugging Face."""
    return isinstance(kind, pa.DataType) and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
