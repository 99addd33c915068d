"""Rows of work and rows of results, as Arrow tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from maskwatch.records import JSON_SCHEMA

WORK = pa.schema(
    [
        ("source", pa.string()),
        ("kind", pa.string()),
        ("path", pa.binary()),  # of a file that every node sees, in the bytes of the file system
        ("url", pa.string()),
        ("data", pa.binary()),  # the bytes of a picture file
        ("part", pa.int64()),  # index of the first frame; 0 for a picture
        ("num_frames", pa.int64()),  # these three only for a part of a video
        ("start_pts", pa.int64()),
        ("end_pts", pa.int64()),
    ]
)
"""A picture, a video, or a part of a video. `source` and `part` together name it."""

_DETECTION = pa.struct(
    [
        ("class", pa.string()),
        ("class_id", pa.int64()),
        ("score", pa.float64()),
        ("box", pa.list_(pa.float64())),
    ]
)
RESULTS = pa.schema(
    [
        ("schema", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("detections", pa.list_(_DETECTION)),
        ("error", pa.string()),
        ("part", pa.int64()),
    ]
)
"""The fields of `records.to_record`, with the reason of a failure and the part of the video."""

JOB_FIELDS = ("schema", "error", "part")
"""Fields of a row that are no fields of a record."""

KEY_TYPE = "S12"
"""The key of a row of work: 96 bits of a hash, so that two of 10⁸ are equal with a chance of 10⁻¹³."""


def work_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows of work with missing fields null."""
    return pa.Table.from_pylist([{"part": 0, **row} for row in rows], WORK)


def result_row(record: dict[str, Any], part: int) -> dict[str, Any]:
    """The row of a record of `records.to_record`."""
    return {"schema": JSON_SCHEMA, **record, "error": None, "part": part}


def error_row(source: str, kind: str, reason: str, part: int) -> dict[str, Any]:
    """The row of a picture or video that cannot be read."""
    return {
        "schema": JSON_SCHEMA,
        "source": source,
        "kind": kind,
        "detections": [],
        "error": reason,
        "part": part,
    }


def to_record(row: dict[str, Any]) -> dict[str, Any]:
    """The record in a row without error, as `maskwatch detect --json` writes it."""
    return {name: value for name, value in row.items() if name not in JOB_FIELDS}


def keys_of(table: pa.Table) -> npt.NDArray[np.bytes_]:
    """The key (N,) of each row of work, or of the work that a row of results belongs to."""
    pairs = zip(table["source"].to_pylist(), table["part"].to_pylist(), strict=True)
    return np.array([_key(source, part) for source, part in pairs], KEY_TYPE)


def not_among(table: pa.Table, done: npt.NDArray[np.bytes_]) -> pa.Table:
    """The rows whose key is not in `done`, which is sorted."""
    keys = keys_of(table)
    at = np.searchsorted(done, keys)
    found = done[np.minimum(at, len(done) - 1)] == keys if len(done) else np.zeros(len(keys), bool)
    return table.filter(pa.array(~found))


def in_blocks(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Slices of a table; each is its own task."""
    for start in range(0, len(table), rows):
        yield table.slice(start, rows).combine_chunks()


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of results."""
    return pa.concat_tables([table.cast(RESULTS) for table in tables]) if tables else RESULTS.empty_table()


def _key(source: str, part: int) -> bytes:
    return hashlib.blake2b(f"{part} {source}".encode("utf-8", "surrogateescape"), digest_size=12).digest()
