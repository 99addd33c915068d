"""What the service counts, for Prometheus. With several workers the numbers are those of all together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

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

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the environment that prometheus_client reads: where workers leave their numbers."""

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads

STAGES = ("decode", "queue", "detect", "encode")

# Seconds. From a small picture on a fast machine to the limit of a request.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one app.

    Attributes:
        queued: pictures in work or waiting.
        uploads: bodies that are coming in.
        streams: open WebSockets and watch streams.
    """

    def __init__(self) -> None:
        self._shared = SHARED_FOLDER in os.environ
        # Shared numbers are read back from files; a registry that held them too would count them twice.
        self._registry = CollectorRegistry()
        registry = None if self._shared else self._registry
        self._requests = Counter(
            "maskwatch_requests", "Requests answered.", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "maskwatch_request_seconds", "Time for a request.", ["path"], buckets=_BUCKETS, registry=registry
        )
        self._stages = Histogram(
            "maskwatch_stage_seconds", "Time a picture takes, by stage.", ["stage"],
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._pictures = Counter("maskwatch_pictures", "Pictures, by what came of them.", ["result"],
                                 registry=registry)  # fmt: skip
        self._detections = Counter(
            "maskwatch_detections", "Faces found, by model and class.", ["model", "class"], registry=registry
        )
        self._frames_dropped = Counter(
            "maskwatch_stream_frames_dropped", "Frames for which a newer one came.", registry=registry
        )
        self.queued = self._gauge("maskwatch_queue_pictures", "Pictures in work or waiting.", registry)
        self.uploads = self._gauge("maskwatch_uploads", "Bodies that are coming in.", registry)
        self.streams = self._gauge("maskwatch_streams", "Open streams.", registry)
        info = Gauge("maskwatch_build_info", "Version of the service.", ["version"],
                     registry=registry, multiprocess_mode="max")  # fmt: skip
        info.labels(__version__).set(1)
        for stage in STAGES:
            self._stages.labels(stage)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Counts an answer; `path` is that of the route, so that there are few of them."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """Counts the time of a picture in one of `STAGES`."""
        self._stages.labels(stage).observe(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Counts the time of its block."""
        began = perf_counter()
        try:
            yield
        finally:
            self.stage(stage, perf_counter() - began)

    def picture(self, model: str, class_names: Iterable[str]) -> None:
        """Counts a picture and what was found in it."""
        self._pictures.labels("found").inc()
        for name in class_names:
            self._detections.labels(model, name).inc()

    def failed(self) -> None:
        """Counts a picture that could not be read."""
        self._pictures.labels("failed").inc()

    def dropped(self, frames: int) -> None:
        """Counts frames of a stream that were forgotten."""
        self._frames_dropped.inc(frames)

    def add(self, collector: Collector) -> None:
        """Adds numbers that are asked for each time; those of this process only."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """All numbers in Prometheus' own format. Asks what was added, so that it may block for a moment."""
        own = generate_latest(self._registry)
        if not self._shared:
            return own
        everything = CollectorRegistry()
        MultiProcessCollector(everything)  # type: ignore[no-untyped-call]
        return generate_latest(everything) + own

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry | None) -> Gauge:
        return Gauge(name, text, registry=registry, multiprocess_mode="livesum")
