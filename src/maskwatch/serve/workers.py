"""Several processes on one address; one that dies is replaced while the others go on."""

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
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from maskwatch.errors import MaskwatchError
from maskwatch.models import load_model_file
from maskwatch.serve.core.metrics import SHARED_FOLDER
from maskwatch.serve.server import Server, address_of, listen, quiet
from maskwatch.serve.settings import ServeSettings

CANNOT_BEGIN = 2
"""Exit code of a worker whose service cannot begin: another one could not either."""

_LOOK_S = 0.2
_PAUSE_S = 1.0
"""Before a worker that died young is replaced, so that a fault that kills all does not burn the processor."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, eq=False)
class _Worker:
    process: SpawnProcess
    ready: Connection
    began_s: float


def run_workers(settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serves in `settings.workers` processes until Ctrl-C or SIGTERM.

    Args:
        announce: gets the address when all take requests.

    Raises:
        MaskwatchError: the service cannot begin.
    """
    for model in settings.models:
        load_model_file(model)
    with listen(settings.host, settings.port) as listener, _shared_numbers():
        Supervisor(settings, listener, announce).run()


class Supervisor:
    """Starts workers and keeps their number, until told to stop."""

    def __init__(
        self, settings: ServeSettings, listener: socket.socket, announce: Callable[[str], None]
    ) -> None:
        self._settings, self._listener, self._announce = settings, listener, announce
        self._workers: list[_Worker] = []
        self._waiting: set[Connection] = set()
        self._signals = 0

    def run(self) -> None:
        """Until Ctrl-C or SIGTERM; the second one ends the workers at once.

        Raises:
            MaskwatchError: a worker says that its service cannot begin.
        """
        with self._signalled():
            try:
                for _ in range(self._settings.workers):
                    self._start()
                self._watch()
            finally:
                self._end()

    def _start(self) -> None:
        ready, says_ready = _spawn.Pipe(duplex=False)
        process = _spawn.Process(
            target=_work, args=(self._settings, self._listener, says_ready), name="maskwatch-worker"
        )
        process.start()
        says_ready.close()  # the worker has its own end, so that its death shows here
        self._workers.append(_Worker(process, ready, time.monotonic()))
        self._waiting.add(ready)

    def _watch(self) -> None:
        announced = False
        while not self._signals:
            things: list[Any] = [worker.process.sentinel for worker in self._workers]
            wait([*things, *self._waiting], _LOOK_S)
            self._hear()
            self._replace()
            if not announced and not self._waiting:
                self._announce(address_of(self._listener, self._settings.host))
                announced = True

    def _hear(self) -> None:
        for ready in list(self._waiting):
            if ready.poll():
                with contextlib.suppress(EOFError):
                    ready.recv()
                self._waiting.discard(ready)

    def _replace(self) -> None:
        for worker in [one for one in self._workers if not one.process.is_alive()]:
            code = worker.process.exitcode
            self._forget(worker)
            if code == CANNOT_BEGIN:
                raise MaskwatchError("a worker could not begin, see above; correct it and start again")
            print(f"worker {worker.process.pid} ended ({code}); another takes its place", file=sys.stderr)
            if time.monotonic() - worker.began_s < _PAUSE_S:
                time.sleep(_PAUSE_S)
            if not self._signals:
                self._start()

    def _forget(self, worker: _Worker) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        worker.process.join()
        worker.ready.close()
        self._waiting.discard(worker.ready)
        self._workers.remove(worker)
        if worker.process.pid is not None:
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        """Every worker finishes what it has."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in list(self._workers):
            while worker.process.is_alive():
                worker.process.join(_LOOK_S)
                if self._signals > 1:
                    worker.process.kill()
            self._forget(worker)

    @contextlib.contextmanager
    def _signalled(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._signals += 1

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _work(settings: ServeSettings, listener: socket.socket, ready: Connection) -> None:
    """A worker's whole life."""
    quiet()
    try:
        server = Server(settings, lambda: _say_ready(ready), alone=False)
    except MaskwatchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(CANNOT_BEGIN)
    threading.Thread(target=_follow_parent, args=(server,), daemon=True, name="parent").start()
    server.run([listener])


def _say_ready(ready: Connection) -> None:
    with contextlib.suppress(OSError):
        ready.send(True)
    ready.close()


def _follow_parent(server: Server) -> None:
    """A worker whose supervisor was killed ends, so that the address becomes free."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        server.stop()


@contextlib.contextmanager
def _shared_numbers() -> Iterator[None]:
    """A folder in which workers add up what they count."""
    with tempfile.TemporaryDirectory(prefix="maskwatch-numbers-") as folder:
        before = os.environ.get(SHARED_FOLDER)
        os.environ[SHARED_FOLDER] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[SHARED_FOLDER]
            else:
                os.environ[SHARED_FOLDER] = before
