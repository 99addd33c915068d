"""The pictures of a data set are decoded and checked on a cluster."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import ray.data

from maskwatch.cluster.detection import ClusterOptions
from maskwatch.cluster.session import configure, connect, map_blocks
from maskwatch.data.quality.probe import ImageProbe, probe_image

_BLOCK = 32


def probe_images(
    paths: Sequence[Path],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    options: ClusterOptions | None = None,
) -> list[ImageProbe]:
    """As `data.quality.probe.probe_images`, on a cluster; every node sees the pictures under their paths.

    Raises:
        ClusterError: there is no cluster.
    """
    options = options or ClusterOptions()
    connect(options.address)
    configure()
    starts = range(0, len(paths), _BLOCK)
    files = [path.absolute() for path in paths]
    blocks = [
        pa.table({"start": [start], "paths": [pickle.dumps(files[start : start + _BLOCK])]})
        for start in starts
    ]
    if not blocks:
        return []
    probed = map_blocks(ray.data.from_arrow(blocks), _probe, num_cpus=1, concurrency=workers)
    lost = "reading it failed on the cluster; see Ray's logs, and run again"
    probes, done = [ImageProbe(path, lost) for path in paths], 0
    for row in probed.iter_rows():
        found = pickle.loads(row["probes"])
        for number, probe in enumerate(found, row["start"]):
            probes[number] = replace(probe, path=paths[number])
        done += len(found)
        if progress is not None:
            progress(done, len(paths))
    return probes


def _probe(batch: pa.Table) -> pa.Table:
    (row,) = batch.to_pylist()
    probes = [probe_image(path) for path in pickle.loads(row["paths"])]
    return pa.table({"start": [row["start"]], "probes": [pickle.dumps(probes)]})
