"""The same jobs on a Ray cluster: detection, evaluation, checking of data."""

from __future__ import annotations

import os

from maskwatch.errors import MissingExtraError

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import of Ray, which else reports over the network

try:
    import ray.data  # noqa: F401
except ModuleNotFoundError:
    raise MissingExtraError("computing on a cluster", "ray") from None

from maskwatch.cluster.detection import ClusterOptions, detect, detect_to
from maskwatch.cluster.evaluation import predict_all
from maskwatch.cluster.probing import probe_images
from maskwatch.cluster.session import connect, connection

__all__ = ["ClusterOptions", "connect", "connection", "detect", "detect_to", "predict_all", "probe_images"]
