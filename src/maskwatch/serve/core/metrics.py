"""Metrics of the service, for Prometheus. With several workers the numbers are their sums."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from maskwatch._version import __version__

# Environment variable that prometheus_client reads: the folder in which workers share their numbers.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which is not needed

# Seconds: from a small picture on a fast machine to the limit of a request.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one app.

    Attributes:
        stages: the time of a picture in each stage: decode, queue, detect, encode.
        frames_dropped: frames of streams that a newer one replaced.
        queued: pictures in work or waiting.
        uploads: uploads in progress.
        streams: open WebSockets and watch streams.
    """

    def __init__(self) -> None:
        self._shared = SHARED_FOLDER in os.environ
        # Shared numbers are read back from files; registering them as well would count them twice.
        self._registry = CollectorRegistry()
        registry = None if self._shared else self._registry
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, buckets=_BUCKETS, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self._requests = counter("maskwatch_requests", "Requests answered.", ["method", "path", "status"])
        self._seconds = histogram("maskwatch_request_seconds", "Time for a request.", ["path"])
        stages = histogram("maskwatch_stage_seconds", "Time for a picture, by stage.", ["stage"])
        self._pictures = counter("maskwatch_pictures", "Pictures, by result.", ["result"])
        self._detections = counter("maskwatch_detections", "Faces, by model and class.", ["model", "class"])
        self.frames_dropped = counter("maskwatch_stream_frames_dropped", "Frames that a newer one replaced.")
        self.queued = gauge("maskwatch_queue_pictures", "Pictures in work or waiting.")
        self.uploads = gauge("maskwatch_uploads", "Uploads in progress.")
        self.streams = gauge("maskwatch_streams", "Open streams.")
        info = gauge("maskwatch_build_info", "Version of the service.", ["version"], multiprocess_mode="max")
        info.labels(__version__).set(1)
        self.stages = {stage: stages.labels(stage) for stage in ("decode", "queue", "detect", "encode")}

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Counts a response; `path` is the route's template, which keeps the number of series small."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def picture(self, model: str, class_names: Iterable[str]) -> None:
        """Counts a picture and its detections."""
        self._pictures.labels("found").inc()
        for name in class_names:
            self._detections.labels(model, name).inc()

    def failed(self) -> None:
        """Counts a picture that could not be read."""
        self._pictures.labels("failed").inc()

    def add(self, collector: Collector) -> None:
        """Adds numbers that are collected for each scrape, of this process only."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """All numbers in the Prometheus text format. Runs the added collectors, so it may block briefly."""
        own = generate_latest(self._registry)
        if not self._shared:
            return own
        everything = CollectorRegistry()
        MultiProcessCollector(everything)  # type: ignore[no-untyped-call]
        return generate_latest(everything) + own
