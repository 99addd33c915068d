"""One process that serves: uvicorn, and an end at which nobody's request is cut off."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType

import uvicorn

from maskwatch.errors import OptionError
from maskwatch.serve.app import create_app
from maskwatch.serve.http_protocol import BoundedHttp
from maskwatch.serve.settings import ServeSettings

_KEEP_ALIVE_S = 30
_FLUSH_S = 5
"""How long clients have to take the end of their answers."""

_WS_OVERHEAD = 1024  # bytes of a message beside its picture


def listen(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """A listening socket.

    Raises:
        OptionError: nothing can listen there.
    """
    try:
        # Resolvers know neither the brackets of an address nor, some of them, the dot that ends a name.
        name = host.removeprefix("[").removesuffix("]").removesuffix(".")
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OptionError(f"--host {host}: {error.strerror}; name an address of this machine") from None
    try:
        if sys.platform != "win32":  # there it would let two programs listen at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OptionError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port, or 0 for a "
            "free one"
        ) from None
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """What a browser on this machine types."""
    host = host.removeprefix("[").removesuffix("]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"


class _NoFalseAlarm(logging.Filter):
    """Uvicorn takes a WebSocket that was refused with an answer of HTTP for an app that forgot to answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in str(record.msg)


def quiet() -> None:
    """Keeps out of the log what libraries say of a client's broken files and forms: it is in the answer."""
    warnings.simplefilter("ignore")  # a worker begins with Python's own setting
    logging.getLogger("PIL").setLevel(logging.ERROR)
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, _NoFalseAlarm) for one in logger.filters):
        logger.addFilter(_NoFalseAlarm())


class Server(uvicorn.Server):
    """Serves until told to stop; then answers 503 to who comes, and ends when the others have their answer.

    Args:
        on_ready: called when requests are taken.
        alone: False for a worker, which leaves Ctrl-C to its supervisor.
    """

    def __init__(self, settings: ServeSettings, on_ready: Callable[[], None], *, alone: bool = True) -> None:
        app = create_app(settings)
        self._service = app.state.service
        self._on_ready, self._alone, self._drain_s = on_ready, alone, settings.drain_s
        self._limit_s = settings.limits.timeout_s * 2 + settings.drain_s  # a body, then the work
        self._stopped_s: float | None = None
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            http=BoundedHttp,
            ws="websockets-sansio",
            ws_max_size=settings.limits.max_bytes + _WS_OVERHEAD,
            ws_max_queue=2,  # older frames would only be forgotten later
            ws_ping_timeout=60.0,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_FLUSH_S,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def stop(self) -> None:
        """Begins the end; from any thread."""
        if self._stopped_s is None:
            self._stopped_s = time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        if sig == signal.SIGINT and not self._alone:
            return
        if self._stopped_s is not None:  # the second time: at once
            self.should_exit = self.force_exit = True
        self.stop()

    async def on_tick(self, counter: int) -> bool:
        if self._stopped_s is not None and not self._service.stopping.is_set():
            self._service.stop()
            return await super().on_tick(counter)  # one more round for who is just coming in
        return await super().on_tick(counter) or self._drained()

    def _drained(self) -> bool:
        if self._stopped_s is None:
            return False
        waited_s = time.monotonic() - self._stopped_s
        busy = self._service.in_flight > 0
        if busy and waited_s > self._limit_s:
            logging.getLogger("uvicorn.error").warning("%d requests cut off", self._service.in_flight)
            return True
        return not busy and waited_s >= self._drain_s


def run_alone(settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serves in this process until Ctrl-C or SIGTERM.

    Args:
        announce: gets the address when requests are taken.

    Raises:
        MaskwatchError: the service cannot begin.
    """
    quiet()
    with listen(settings.host, settings.port) as listener:
        address = address_of(listener, settings.host)
        Server(settings, lambda: announce(address)).run([listener])


def run_in_thread(settings: ServeSettings) -> tuple[Server, str, threading.Thread]:
    """A server in a thread, for a program that does something else beside: itself, its address, its thread.

    End it with `Server.stop`, then join the thread.

    Raises:
        MaskwatchError: the service cannot begin.
    """
    listener = listen(settings.host, settings.port)
    address, ready = address_of(listener, settings.host), threading.Event()
    server = Server(settings, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    while not ready.wait(0.1):
        if not thread.is_alive():
            raise RuntimeError("the server did not begin")
    return server, address, thread
