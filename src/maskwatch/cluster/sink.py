"""Result files of a job: written whole, named by Ray's task, and read again to go on."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow import fs
from ray.data import Datasink
from ray.data.block import BlockAccessor

from maskwatch._version import __version__
from maskwatch.cluster.rows import KEY_TYPE, RESULTS, concat, keys_of
from maskwatch.cluster.storage import open_storage, write_whole
from maskwatch.errors import OutputError
from maskwatch.net.addresses import without_credentials
from maskwatch.records import JSON_SCHEMA

RecordFormat: TypeAlias = Literal["parquet", "jsonl"]

JOB_FILE = "_job.json"
"""What the folder was written with; readers of Parquet folders ignore names that begin with `_`."""


@dataclass(frozen=True)
class Written:
    """Counts of rows that were written.

    work: pictures, videos and parts of videos; faces, images: by class, as in the table of `detect`; kinds:
    of the sources without error.
    """

    rows: int = 0
    work: int = 0
    failures: int = 0
    faces: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Written) -> Written:
        return Written(
            self.rows + other.rows,
            self.work + other.work,
            self.failures + other.failures,
            self.faces + other.faces,
            self.images + other.images,
            self.kinds + other.kinds,
        )

    @classmethod
    def of(cls, table: pa.Table) -> Written:
        """The counts of a table of results that holds whole rows of work."""
        faces: Counter[str] = Counter()
        images: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        failures, videos = 0, set()
        columns = ("source", "kind", "detections", "error", "part")
        for source, kind, detections, error, part in zip(
            *(table[name].to_pylist() for name in columns), strict=True
        ):
            names = Counter(one["class"] for one in detections)
            faces += names
            images.update(names.keys())
            failures += error is not None
            kinds["picture"] += error is None and kind == "picture"
            if error is None and kind == "video" and part == 0:
                videos.add(source)
        kinds["video"] += len(videos)
        return cls(len(table), len(np.unique(keys_of(table))), failures, faces, images, +kinds)


class RecordSink(Datasink[Written]):
    """Writes each bundle of blocks to one file.

    The name holds the job and the number of Ray's task: a task that Ray runs again replaces its own file. Row
    of work are never divided between files, since a block holds whole ones.

    Args:
        folder: path or address.
        record_format: "parquet" or "jsonl".
        rows_per_file: at least so many rows of work wait for one file.
        about: metadata of the Parquet files.
    """

    def __init__(
        self, folder: str, record_format: RecordFormat, rows_per_file: int, about: dict[str, Any]
    ) -> None:
        self._folder, self._format, self._rows, self._about = folder, record_format, rows_per_file, about
        self._job = secrets.token_hex(4)
        self.written = Written()

    @property
    def min_rows_per_write(self) -> int:
        return self._rows

    def write(self, blocks: Iterable[Any], ctx: Any) -> Written:
        """Writes one file; called in a task of Ray."""
        table = concat([BlockAccessor.for_block(block).to_arrow() for block in blocks])
        if len(table):
            filesystem, path = open_storage(self._folder)
            name = f"{path}/part-{self._job}-{ctx.task_idx:06}.{self._format}"
            write_whole(filesystem, name, self._encoded(table))
        return Written.of(table)

    def on_write_complete(self, write_result: Any) -> None:
        """Adds up the counts of all files, in the driver."""
        returned = [each for each in write_result.write_returns if isinstance(each, Written)]
        self.written = reduce(Written.__add__, returned, Written())

    def _encoded(self, table: pa.Table) -> pa.Buffer:
        target = pa.BufferOutputStream()
        if self._format == "parquet":
            about = {f"maskwatch.{name}": json.dumps(value) for name, value in self._about.items()}
            pq.write_table(table.replace_schema_metadata(about), target, compression="zstd")
        else:
            for row in table.to_pylist():
                target.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        return target.getvalue()


def start_folder(folder: str, record_format: RecordFormat, about: dict[str, Any], *, resume: bool) -> None:
    """Prepares a folder of results: a new one, or one that an earlier run left, to go on.

    Raises:
        OutputError: there are other files in it, another run wrote it, or it cannot be written.
    """
    shown = without_credentials(folder)
    filesystem, path = open_storage(folder)
    job = {"schema": JSON_SCHEMA, "format": record_format, **about}
    try:
        found = [info.base_name for info in _files(filesystem, path)]
        if not found:
            filesystem.create_dir(path, recursive=True)
            text = json.dumps({"maskwatch": __version__, **job}, ensure_ascii=False, indent=1)
            write_whole(filesystem, f"{path}/{JOB_FILE}", text.encode())
            return
        if not resume:
            raise OutputError(f"{shown}: is not empty; go on with --resume, or write somewhere else")
        if JOB_FILE not in found:
            raise OutputError(f"{shown}: holds no results of maskwatch; write somewhere else")
        with filesystem.open_input_stream(f"{path}/{JOB_FILE}") as stream:
            before = json.loads(stream.read())
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(f"{shown}: cannot be used ({reason}); write somewhere else") from None
    for name, value in job.items():
        if before.get(name) != value:
            raise OutputError(
                f"{shown}: was written with another {name}; take that one to go on, or write somewhere else"
            )


def written_keys(folder: str, record_format: RecordFormat) -> npt.NDArray[np.bytes_]:
    """The keys (N,) of all work that has rows in a folder, sorted.

    Raises:
        OutputError: a file cannot be read.
    """
    filesystem, path = open_storage(folder)
    keys = [np.array([], KEY_TYPE)]
    for info in _files(filesystem, path):
        if info.base_name.startswith("part-"):
            try:
                keys.append(np.unique(keys_of(_read_keys(filesystem, info.path, record_format))))
            except (OSError, pa.ArrowException) as error:
                raise OutputError(f"{info.path}: cannot be read ({error}); delete this file") from None
    return np.unique(np.concatenate(keys))


def read_results(folder: str, record_format: RecordFormat) -> pa.Table:
    """All rows of a folder, file by file."""
    filesystem, path = open_storage(folder)
    files = [info.path for info in _files(filesystem, path) if info.base_name.startswith("part-")]
    return concat(list(_tables(filesystem, files, record_format)))


def _tables(filesystem: fs.FileSystem, files: list[str], record_format: RecordFormat) -> Iterator[pa.Table]:
    for file in files:
        if record_format == "parquet":
            yield pq.read_table(file, filesystem=filesystem)
        else:
            yield _read_json(filesystem, file)


def _read_keys(filesystem: fs.FileSystem, path: str, record_format: RecordFormat) -> pa.Table:
    if record_format == "parquet":
        return pq.read_table(path, filesystem=filesystem, columns=["source", "part"])
    return _read_json(filesystem, path)


def _read_json(filesystem: fs.FileSystem, path: str) -> pa.Table:
    options = pyarrow.json.ParseOptions(explicit_schema=RESULTS)
    with filesystem.open_input_stream(path) as stream:
        return pyarrow.json.read_json(stream, parse_options=options)


def _files(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """The files in a folder; hidden ones, which were never finished, are left out."""
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted((info for info in infos if not info.base_name.startswith(".")), key=lambda info: info.path)
