"""The client that waits for each answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, TypeVar

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from maskwatch.client import protocol, streams
from maskwatch.client.answers import Answer, FrameAnswer, Model
from maskwatch.client.protocol import Call, Classes, Threshold
from maskwatch.errors import ServiceError
from maskwatch.media.images import ImageInput

T = TypeVar("T")


class Client:
    """Asks a Maskwatch service and waits for the answer; a context manager, or `close()` it.

    Args:
        url: the service's address; one with a path goes for a service behind a proxy.
        token: the service's token, if it wants one. Send it over https only, except on your own machine.
        timeout_s: seconds for connecting, and for each pause in an answer.
        retries: how often it asks again when the service is full (503, 429), each time after as many
            seconds as `Retry-After` says.
        tls: which certificates to trust, such as `ssl.create_default_context(cafile="house.pem")`; None takes
            those that the system trusts.
        transport: an httpx2 transport in place of the network, such as one for a Unix socket.

    One client may be used by several threads at once.

    Raises:
        OptionError: an address or a token that cannot be used.
    """

    def __init__(
        self,
        url: str = protocol.DEFAULT_URL,
        *,
        token: str | None = None,
        timeout_s: float = protocol.TIMEOUT_S,
        retries: int = protocol.RETRIES,
        tls: ssl.SSLContext | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._timeout_s, self._retries, self._tls = timeout_s, retries, tls
        self._http = httpx2.Client(**protocol.settings(url, token, timeout_s, tls), transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that it keeps."""
        self._http.close()

    def detect(
        self,
        images: ImageInput | list[Any] | tuple[Any, ...],
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        model: str | None = None,
        annotate: bool = False,
        blur: bool = False,
    ) -> Answer:
        """Finds the faces in one picture, or in each of a list (or tuple) of pictures, in one request.

        Args:
            images: a path, the bytes of a picture file, a PIL image, an array uint8 (H, W, 3) RGB, or a list
                of these. Files go as they are. An http(s) address is fetched by the service, if it may.
            threshold: scores above it count: one for all classes, or class name → score for some of them.
            classes: only detections of these.
            model: a name of `models()`; None takes the service's first.
            annotate: True also asks for the drawn pictures.
            blur: True has faces blurred in the drawn pictures.

        Raises:
            ImageError: a file that cannot be opened, an array that is no picture.
            OptionError: an empty list.
            ServiceError: the service cannot be reached or says no. A picture that only it finds unreadable is
                an entry of `failures`, unless there is no other: then this, with status 422.
        """
        return self._ask(protocol.detect(images, threshold, classes, model, annotate, blur))

    def models(self) -> tuple[Model, ...]:
        """The models of the service, its default first.

        Raises:
            ServiceError: as for `detect`.
        """
        return self._ask(protocol.models())

    def ticket(self) -> str:
        """A ticket that opens a stream's address for a minute, for programs that cannot send the token.

        Raises:
            ServiceError: as for `detect`.
        """
        return self._ask(protocol.ticket())

    def is_alive(self) -> bool:
        """True where a service runs at the address."""
        return self._is_well("/healthz")

    def is_ready(self) -> bool:
        """True where the service takes pictures: its models are loaded, and it is not about to stop."""
        return self._is_well("/readyz")

    def stream(
        self,
        *,
        threshold: Threshold | None = None,
        classes: Classes | None = None,
        model: str | None = None,
    ) -> Stream:
        """Opens a stream for frames; arguments as for `detect`.

        Raises:
            ServiceError: as for `detect`.
        """
        url = streams.address(self._http.base_url, protocol.query(threshold, classes, model))
        how = streams.connecting(self._http, self._timeout_s, self._tls)
        try:
            return Stream(connect(url, **how))
        except (OSError, InvalidHandshake) as error:
            raise streams.refused(self._http.base_url, error) from error

    def _ask(self, call: Call[T]) -> T:
        tried = 0
        while True:
            try:
                return protocol.read_answer(call, self._send(call))
            except ServiceError as error:
                tried += 1
                wait_s = protocol.pause_s(error, tried, self._retries)
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    def _send(self, call: Call[T]) -> httpx2.Response:
        try:
            return self._http.request(call.method, call.path, **call.options)
        except httpx2.TransportError as error:
            raise protocol.unreachable(self._http.base_url, error) from error

    def _is_well(self, path: str) -> bool:
        try:
            return self._http.get(path).status_code == 200
        except httpx2.TransportError:
            return False


class Stream:
    """An open stream: frames go in, answers to the newest come out; a context manager, or `close()` it.

    One thread may send while another receives.
    """

    def __init__(self, connection: AbstractContextManager[ClientConnection]) -> None:
        self._open = ExitStack()
        self._connection = self._open.enter_context(connection)
        self._ledger = streams.Ledger()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stream."""
        self._open.close()

    def detect(self, frames: Iterable[ImageInput], *, ahead: int = streams.AHEAD) -> Iterator[FrameAnswer]:
        """Sends frames and gives the answers; a frame for which a newer one came in time has none.

        Args:
            frames: as `send` takes them; the next one is asked for only when fewer than `ahead` are open, so
                that a camera should give its newest.
            ahead: frames that are on their way at once; 1 has every frame answered.

        Raises:
            ServiceError: the stream has ended.
        """
        for frame in frames:
            self.send(frame)
            while self._ledger.open >= ahead:
                yield self.receive()
        while self._ledger.open:
            yield self.receive()

    def send(self, image: ImageInput) -> int:
        """Sends a frame and gives its number, from 1; arrays and PIL images go as JPEG.

        Raises:
            ServiceError: the stream has ended.
        """
        number, message = self._ledger.pack(image)
        self._say(message)
        return number

    def receive(self, timeout_s: float | None = protocol.TIMEOUT_S) -> FrameAnswer:
        """The next answer.

        Raises:
            ServiceError: the stream has ended, no answer came in time, or a setting was refused.
        """
        try:
            return self._ledger.read(self._connection.recv(timeout_s))
        except TimeoutError as error:
            raise ServiceError(
                f"no answer on the stream within {timeout_s:g} s; send a frame first"
            ) from error
        except ConnectionClosed as error:
            raise streams.ended(error) from error

    def set_threshold(self, threshold: Threshold | None) -> None:
        """Changes the threshold from the next frame on; None goes back to the model's own.

        What cannot be used makes the next `receive` raise.

        Raises:
            ServiceError: the stream has ended.
        """
        self._say(streams.threshold_message(threshold))

    def set_classes(self, classes: Classes | None) -> None:
        """Changes which classes are told of from the next frame on; None tells of all. As `set_threshold`."""
        self._say(streams.classes_message(classes))

    def _say(self, message: str | bytes) -> None:
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise streams.ended(error) from error
