"""The server: uvicorn in one process, which answers every request in work before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maskwatch.errors import OptionError
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.middleware import HEADERS_LENGTH
from maskwatch.serve.settings import ServeSettings, ServiceLimits

if TYPE_CHECKING:
    from maskwatch.serve.core.service import Service

HEAD_S = 30.0  # seconds for the head of a request, from the connection or from its first byte
_KEEP_ALIVE_S = 30
_FLUSH_S = 5  # how long clients have to read the end of their answers when the service stops
_BACKLOG = 2048  # connections that may wait to be accepted, as uvicorn has it
_WS_OVERHEAD = 1024  # bytes of a message beside its picture


def run_server(settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serves in this process until Ctrl-C or SIGTERM.

    Args:
        settings: of the service.
        announce: is called with the address when the service takes requests.

    Raises:
        MaskwatchError: the service cannot start.
    """
    from maskwatch.serve.app import create_app  # the labelling server works without it

    silence_libraries()
    with listen(settings.host, settings.port) as listener:
        address = address_of(listener, settings.host)

        @contextlib.contextmanager
        def announced(service: Service) -> Iterator[None]:
            with drain_on_signal(service):
                announce(address)  # clients can connect: the socket listens already
                yield

        config = uvicorn_config(settings, create_app(settings, announced))
        with contextlib.suppress(KeyboardInterrupt):  # with which uvicorn returns after a signal
            uvicorn.Server(config).run([listener])


class HasLimits(Protocol):
    """Settings of a server, as far as uvicorn is concerned."""

    @property
    def limits(self) -> ServiceLimits: ...


class Drains(Protocol):
    """A service that ends gracefully."""

    async def drain(self) -> None: ...


def uvicorn_config(settings: HasLimits, app: Callable[..., Any], **more: Any) -> uvicorn.Config:
    """The configuration of uvicorn for a service."""
    return uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        http=BoundedHttp,
        ws="websockets-sansio",
        ws_max_size=settings.limits.max_bytes + _WS_OVERHEAD,
        ws_max_queue=2,  # more would only be dropped later
        ws_ping_timeout=60.0,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FLUSH_S,
        **more,
    )


@contextlib.contextmanager
def drain_on_signal(service: Drains, *, ignore_interrupt: bool = False) -> Iterator[None]:
    """Drains the service at the first SIGTERM or Ctrl-C, then ends the server; the second ends it at once.

    Uvicorn itself stops listening at once, while clients that ask a draining service get 503.

    Args:
        service: in whose lifespan it is entered, when uvicorn has set its own handlers.
        ignore_interrupt: for workers: Ctrl-C reaches them too, and their supervisor sends SIGTERM.
    """
    loop = asyncio.get_running_loop()
    signals, tasks = list[int](), list[asyncio.Task[None]]()
    end_server = signal.getsignal(signal.SIGTERM)
    assert callable(end_server)

    def end() -> None:
        end_server(signal.SIGINT, None)  # for the second time it ends without waiting for connections

    async def drain() -> None:
        await service.drain()
        end()

    def start_drain() -> None:
        tasks.append(loop.create_task(drain()))  # kept, or it could be collected while it runs

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) == 1:
            loop.call_soon_threadsafe(start_drain)
        else:
            end()
            end()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignore_interrupt else on_signal)
    yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OptionError: nothing can listen there.
    """
    try:
        # Resolvers accept no brackets around an address, and some of them no dot at the end of a name.
        name = host.removeprefix("[").removesuffix("]").removesuffix(".")
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OptionError(f"--host {host}: {error.strerror}; name an address of this machine") from None
    try:
        if sys.platform != "win32":  # where it would let two programs listen at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OptionError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port, or 0 for a "
            "free one"
        ) from None
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The address for a browser on this machine."""
    host = host.removeprefix("[").removesuffix("]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"


class _NoHandshakeWarning(logging.Filter):
    """Uvicorn warns when a WebSocket is refused with an HTTP response, as if the app had not answered."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in str(record.msg)


def silence_libraries() -> None:
    """Keeps libraries' messages about clients' broken files out of the log; clients get them as problems."""
    warnings.simplefilter("ignore")  # a worker starts with Python's own setting
    logging.getLogger("PIL").setLevel(logging.ERROR)
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, _NoHandshakeWarning) for one in logger.filters):
        logger.addFilter(_NoHandshakeWarning())


class BoundedHttp(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with limits on the head of a request: its length, and the time until it ends.

    Uvicorn bounds neither with httptools, so that a client could fill the memory, or hold connections, with
    heads that never end.
    """

    _head_length: int | None = 0  # None once the head is complete
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_length is not None:
            self._head_length += len(data)
        super().data_received(data)
        if self._head_length is not None and self._head_length > HEADERS_LENGTH:
            self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_length is None:  # not the first request of the connection
            self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._head_length = 0
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        self._head_length = None
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _refuse(self) -> None:
        self._end_head()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # not inside another response
            text = f"the head of the request is longer than {HEADERS_LENGTH} bytes; send less in it"
            response = Problem(431, text).to_response("")
            head = [b"HTTP/1.1 431 Request Header Fields Too Large", b"connection: close"]
            head += [name + b": " + value for name, value in response.raw_headers]
            self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()
