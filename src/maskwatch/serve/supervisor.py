"""The supervisor: several worker processes on one address, by uvicorn's own supervisor.

It adds what `Multiprocess` lacks: the address is announced when all workers take requests, a replaced worker
is reported and its gauges no longer count, workers end when their supervisor is killed, a second signal ends
them at once, and a service that cannot start is an error. Only dead workers are replaced: the health check of
`Multiprocess` also kills those that are slow to answer, and notices late the death of one that it waits for.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait

from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from maskwatch.errors import MaskwatchError
from maskwatch.models import load_model_file
from maskwatch.serve.app import create_app
from maskwatch.serve.core.metrics import SHARED_FOLDER
from maskwatch.serve.server import address_of, drain_on_signal, listen, silence_libraries, uvicorn_config
from maskwatch.serve.settings import ServeSettings

_START_S = 60  # how long a worker may take to start when SIGHUP replaces all of them, one after the other
_POLL_S = 0.1


def run_workers(settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serves in `settings.workers` processes until Ctrl-C or SIGTERM.

    Args:
        settings: of the service.
        announce: is called with the address when all workers take requests.

    Raises:
        MaskwatchError: the service cannot start.
    """
    for model in settings.models:
        load_model_file(model)
    with listen(settings.host, settings.port) as listener, _shared_metrics():
        address = address_of(listener, settings.host)
        supervisor = Supervisor(settings, listener, lambda: announce(address))
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise MaskwatchError("a worker could not start, see above; correct it and start again")


class Supervisor(Multiprocess):
    """Starts workers and keeps their number, until a signal ends it."""

    def __init__(
        self, settings: ServeSettings, listener: socket.socket, on_ready: Callable[[], None]
    ) -> None:
        config = uvicorn_config(
            settings,
            partial(_create_worker_app, settings),
            factory=True,
            workers=settings.workers,
            timeout_worker_healthcheck=_START_S,
        )
        super().__init__(config, [listener])
        self._on_ready, self._announced = on_ready, False

    def keep_subprocess_alive(self) -> None:
        for index, process in enumerate(self.processes):
            if process.process.is_alive():
                continue
            process.join()
            if process.exitcode == STARTUP_FAILURE:  # another worker could not start either
                self.should_exit.set()
                return
            if process.pid is not None:
                mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            text = f"worker {process.pid} ended ({process.exitcode}); starting another"
            print(text, file=sys.stderr, flush=True)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()
        if not self._announced and all(map(_is_ready, self.processes)):
            self._on_ready()
            self._announced = True

    def join_all(self) -> None:
        while any(process.process.is_alive() for process in self.processes):
            if self.signal_queue:  # a second signal
                for process in self.processes:
                    process.kill()
            time.sleep(_POLL_S)
        super().join_all()


def _is_ready(process: Process) -> bool:
    """Whether a worker takes requests, by its newest answer: it answers late while it loads its models."""
    ready = process.is_ready(_POLL_S)
    while process.parent_conn.poll():
        ready = process.parent_conn.recv()
    return ready


def _create_worker_app(settings: ServeSettings) -> FastAPI:
    """The app of a worker, made in its process."""
    silence_libraries()
    threading.Thread(target=_follow_parent, daemon=True, name="parent").start()
    try:
        return create_app(settings, partial(drain_on_signal, ignore_interrupt=True))
    except MaskwatchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(STARTUP_FAILURE)


def _follow_parent() -> None:
    """Ends a worker whose supervisor was killed, so that the address becomes free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder in which workers share their metrics."""
    with tempfile.TemporaryDirectory(prefix="maskwatch-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[SHARED_FOLDER]
