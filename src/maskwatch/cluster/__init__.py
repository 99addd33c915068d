"""The same jobs on a Ray cluster. Extra `[ray]`; docs/cluster.md has examples.

`evaluation` and `probing` need the extra `train` as well, and are imported by their names.
"""

from __future__ import annotations

import os

from maskwatch.errors import MissingExtraError

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import of Ray, which else reports over the network

try:
    import ray.data  # noqa: F401
except ModuleNotFoundError:
    raise MissingExtraError("computing on a cluster", "ray") from None

from maskwatch.cluster.detection import ClusterOptions, detect, detect_to
from maskwatch.cluster.session import connect, connection

__all__ = ["ClusterOptions", "connect", "connection", "detect", "detect_to"]
