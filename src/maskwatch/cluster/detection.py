"""Detection on a cluster: sources → a data set of records, or files of them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from maskwatch.cluster.rows import KEY_TYPE, in_blocks, not_among
from maskwatch.cluster.session import configure, connect, map_blocks
from maskwatch.cluster.sink import RecordFormat, RecordSink, Written, start_folder, written_keys
from maskwatch.cluster.work import LIGHT, Columns, is_table, list_work, read_table, to_work
from maskwatch.cluster.worker import DetectWorker, split_videos
from maskwatch.detector import Detector

MAX_BLOCK_ROWS = 64
"""Pictures of one task: what a lost process computes again."""

_TASKS_PER_WORKER = 8
"""With fewer pictures, blocks are smaller, so that no worker is left with a long one at the end."""

_WORKERS_PER_WRITER = 16
"""A writer is a separate process, which takes seconds to start and then has little to do."""


@dataclass(frozen=True)
class ClusterOptions:
    """How a job uses the cluster.

    Attributes:
        address: see `session.connect`.
        workers: actors at most; None for as many as there are cores or GPUs.
        cpus: cores of an actor.
        gpus: share of a GPU that an actor takes, such as 0.25; 0 for none.
        columns: of pictures and names, in sources that are tables.
        video_part_s: seconds of video that one task takes.
    """

    address: str = "local"
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0
    columns: Columns = field(default_factory=Columns)
    video_part_s: float = 60.0


def detect(
    sources: str | Path | Sequence[str | Path] | Dataset,
    detector: Detector,
    options: ClusterOptions | None = None,
    *,
    class_ids: Collection[int] | None = None,
    in_order: bool = False,
) -> Dataset:
    """Finds the faces in pictures and videos on a cluster.

    Connects to the cluster of the options if this process is not connected. Nothing is computed before the
    rows are taken, by `iter_rows`, `take` or a writer of Ray Data.

    Args:
        sources: paths, folders, patterns and addresses (`http(s)`, and what pyarrow and fsspec know: `s3`,
            `gs`, `abfs`, `hdfs`), Parquet files or folders and Lance tables (`*.parquet`, `*.lance`) with a
            column of paths or bytes; or a data set of Ray with such a column.
        detector: with `threads` as many as an actor has cores.
        class_ids: of the detections that are returned; None for all.
        in_order: rows come in the order of the sources.

    Returns:
        A row for each picture and frame: the fields of a record ([Records](records.md)), `error` with the
        reason where something cannot be read, and `part`, the first frame of the part of a video.

    Raises:
        ClusterError, SourceError, OptionError: there is no cluster; a source gives nothing; a column is not
            there.
    """
    options = options or ClusterOptions()
    connect(options.address)
    configure(in_order=in_order)
    work = _plan(_listed(sources), options, np.array([], KEY_TYPE))
    return _detected(work.dataset, detector, options, class_ids)


def detect_to(
    folder: str | Path,
    sources: str | Path | Sequence[str | Path] | Dataset,
    detector: Detector,
    options: ClusterOptions | None = None,
    *,
    class_ids: Collection[int] | None = None,
    record_format: RecordFormat = "parquet",
    rows_per_file: int = 1000,
    resume: bool = False,
) -> tuple[Written, int]:
    """As `detect`, and writes the rows to a folder: Parquet, or JSON Lines.

    Args:
        folder: path or address, the same for all nodes; new or empty, except with `resume`.
        rows_per_file: at least so many rows wait for one file.
        resume: leaves out what an earlier run has written to the folder.

    Returns:
        Counts of what was written, and the number of pictures and parts of videos that have no row, because
        of an error that is none of theirs; Ray's logs have it.

    Raises:
        OutputError: the folder is not empty, or belongs to another job; and as `detect`.
    """
    options, folder = options or ClusterOptions(), str(folder)
    connect(options.address)
    configure()
    about = _about(detector, class_ids)
    start_folder(folder, record_format, about, resume=resume)
    done = written_keys(folder, record_format)
    work = _plan(_listed(sources), options, done)
    sink = RecordSink(folder, record_format, rows_per_file, about)
    if work.rows:
        results = _detected(work.dataset, detector, options, class_ids)
        writers = math.ceil((options.workers or _workers_here(options)) / _WORKERS_PER_WRITER)
        results.write_datasink(sink, ray_remote_args={**LIGHT, "max_retries": -1}, concurrency=writers)
    return sink.written, max(0, work.rows - sink.written.work)


@dataclass(frozen=True)
class _Plan:
    """The work that is left: a data set of rows of work, and their number."""

    dataset: Dataset
    rows: int


def _listed(sources: str | Path | Sequence[str | Path] | Dataset) -> list[str] | Dataset:
    if isinstance(sources, Dataset):
        return sources
    return [str(each) for each in ([sources] if isinstance(sources, (str, Path)) else sources)]


def _plan(sources: list[str] | Dataset, options: ClusterOptions, done: npt.NDArray[np.bytes_]) -> _Plan:
    if isinstance(sources, Dataset):
        return _of_table(to_work(sources, options.columns), done)
    by_path = options.columns.picture is not None
    tables = [place for place in sources if by_path or is_table(place)]
    plans = [_of_table(read_table(place, options.columns), done) for place in tables]
    files = [place for place in sources if place not in tables]
    if files:
        plans.append(_of_files(files, options, done))
    first, *others = (plan.dataset for plan in plans)
    return _Plan(first.union(*others) if others else first, sum(plan.rows for plan in plans))


def _of_table(work: Dataset, done: npt.NDArray[np.bytes_]) -> _Plan:
    """Filters on the cluster: a table may be larger than this process."""
    rows = max(0, work.count() - len(done))
    if len(done):
        keys = ray.put(done)

        def remaining(table: pa.Table) -> pa.Table:
            return not_among(table, ray.get(keys))

        work = map_blocks(work, remaining, **LIGHT)
    return _Plan(work.repartition(target_num_rows_per_block=MAX_BLOCK_ROWS), rows)


def _of_files(sources: Sequence[str], options: ClusterOptions, done: npt.NDArray[np.bytes_]) -> _Plan:
    table = list_work(sources)
    is_video = pa.compute.equal(table["kind"], "video")
    if pa.compute.any(is_video).as_py():
        table = _split_videos(table, options.video_part_s)
    left = not_among(table, done)
    workers = options.workers or _workers_here(options)
    rows = max(1, min(MAX_BLOCK_ROWS, len(left) // (workers * _TASKS_PER_WORKER)))
    return _Plan(ray.data.from_arrow(list(_blocks(left, rows)) or [left]), len(left))


def _blocks(table: pa.Table, rows: int) -> list[pa.Table]:
    """Tasks of some pictures, or of one part of a video; in the order of the table."""
    kinds, blocks, begin = table["kind"].to_pylist(), [], 0
    for end in range(1, len(kinds) + 1):
        if end == len(kinds) or kinds[end] == "video" or kinds[begin] == "video":
            blocks += list(in_blocks(table.slice(begin, end - begin), rows))
            begin = end
    return blocks


def _split_videos(table: pa.Table, length_s: float) -> pa.Table:
    """The same work with videos in parts; their packets are read on the cluster."""
    blocks = ray.data.from_arrow(_blocks(table, MAX_BLOCK_ROWS))
    split = map_blocks(blocks, partial(split_videos, length_s), num_cpus=1)
    parts = pa.concat_tables(ray.get(split.to_arrow_refs()))
    order = {source: number for number, source in enumerate(table["source"].to_pylist())}
    rank = [(order[row["source"]], row["part"]) for row in parts.select(["source", "part"]).to_pylist()]
    return parts.take(sorted(range(len(rank)), key=rank.__getitem__))


def _workers_here(options: ClusterOptions) -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if options.gpus:
        return max(1, int(resources.get("GPU", 0) / options.gpus))
    return max(1, int(resources.get("CPU", 1) // options.cpus))


def _detected(
    work: Dataset, detector: Detector, options: ClusterOptions, class_ids: Collection[int] | None
) -> Dataset:
    """The results of rows of work. An actor pool of at least one: a lost node leaves the others working."""
    here = _workers_here(options)
    pool = ActorPoolStrategy(
        min_size=1, max_size=options.workers, initial_size=min(here, options.workers or here)
    )
    ids = frozenset(range(len(detector.class_names)) if class_ids is None else class_ids)
    share: dict[str, Any] = {"num_gpus": options.gpus} if options.gpus else {"num_cpus": options.cpus}
    return map_blocks(
        work,
        DetectWorker,
        fn_constructor_args=(ray.put(pickle.dumps(detector)), ids, options.cpus),
        compute=pool,
        **share,
    )


def _about(detector: Detector, class_ids: Collection[int] | None) -> dict[str, Any]:
    """The model as in the JSON document, and what else changes the rows."""
    metadata = detector.metadata
    model = {"name": metadata.name, "version": metadata.version, "classes": list(metadata.classes)}
    ids = range(len(metadata.classes)) if class_ids is None else sorted(class_ids)
    return {
        "model": {**model, "thresholds": detector.thresholds},
        "classes": [metadata.classes[class_id] for class_id in ids],
    }
