"""The blocking client. Made from `async_client` by `make sync-client`; do not edit."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import httpx2

from maskwatch.client import errors, protocol
from maskwatch.client.answers import Answer, FrameAnswer, Model
from maskwatch.client.protocol import Call, Classes, Threshold
from maskwatch.client.transport import (
    Connection,
    Frames,
    each_blocking_frame,
    in_this_thread,
    websocket_options,
)
from maskwatch.errors import ServiceError
from maskwatch.media.images import ImageInput

T = TypeVar("T")


class Client:
    """Sends pictures to a Maskwatch service; a context manager, or `close()` it.

    Methods raise `ServiceError` where the service cannot be reached or refuses.

    Args:
        url: the service's address; include the path of a service behind a proxy.
        token: the service's token, if it needs one. Send it over https only, except on your own machine.
        timeout_s: seconds for connecting, and for each pause in an answer.
        retries: how often a request is repeated when the service is full (503, 429), each time after the
            seconds that `Retry-After` gives.
        tls: which certificates to trust, such as `ssl.create_default_context(cafile="house.pem")`; None takes
            those that the system trusts.
        transport: an httpx2 transport in place of the network, such as one for a Unix socket.

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
        self._retries = retries
        self._http = httpx2.Client(**protocol.settings(url, token, timeout_s, tls), transport=transport)
        self._stream_options = websocket_options(self._http, timeout_s, tls)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that it keeps open."""
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
                of these. Files are sent unchanged. The service fetches an http(s) address, if it may.
            threshold: scores above it count: one for all classes, or class name → score for some of them.
            classes: only detections of these.
            model: a name of `models()`; None takes the service's default.
            annotate: True also requests the annotated pictures.
            blur: True blurs the faces in the annotated pictures.

        Raises:
            ImageError: a file that cannot be opened, an array that is not a picture.
            OptionError: an empty list.
            ServiceError: the service cannot be reached or refuses. A picture that only the service finds
                unreadable is an entry of `failures`; when no picture is readable, this has status 422.
        """
        call = in_this_thread(protocol.detect, images, threshold, classes, model, annotate, blur)
        return self._request(call)

    def models(self) -> tuple[Model, ...]:
        """The models of the service, its default first."""
        return self._request(protocol.MODELS)

    def ticket(self) -> str:
        """A ticket that opens a stream's address for a minute, for programs that cannot send the token."""
        return self._request(protocol.TICKET)

    def is_alive(self) -> bool:
        """True where a service runs at the address."""
        return self._is_ok("/healthz")

    def is_ready(self) -> bool:
        """True where the service takes pictures: its models are loaded, and it is not about to stop."""
        return self._is_ok("/readyz")

    def stream(
        self, *, threshold: Threshold | None = None, classes: Classes | None = None, model: str | None = None
    ) -> Stream:
        """Opens a stream for frames; arguments as for `detect`. Use it in a `with` block."""
        params = protocol.query(threshold, classes, model)
        return Stream(Connection(self._http.base_url, params, self._stream_options))

    def _request(self, call: Call[T]) -> T:
        tries = 0
        while True:
            try:
                response = self._http.request(call.method, call.path, **call.options)
                return protocol.read_answer(call, response)
            except httpx2.TransportError as error:
                raise errors.unreachable(self._http.base_url, error) from error
            except ServiceError as error:
                tries += 1
                pause_s = errors.pause_s(error, tries, self._retries)
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def _is_ok(self, path: str) -> bool:
        try:
            return (self._http.get(path)).status_code == 200
        except httpx2.TransportError:
            return False


class Stream:
    """An open stream: frames go in, answers to the newest come out; a context manager.

    One task or thread may send while another receives. Methods raise `ServiceError` where the stream has
    ended.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tracker = protocol.FrameTracker()

    def __enter__(self) -> Stream:
        self._connection.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stream."""
        self._connection.close()

    def detect(self, frames: Frames, *, ahead: int = protocol.FRAMES_AHEAD) -> Iterator[FrameAnswer]:
        """Sends frames and yields the answers; a frame that a newer one overtakes has none.

        Args:
            frames: as `send` takes them. It takes the next one only when fewer than `ahead` are unanswered,
                so a camera should give its newest.
            ahead: frames in flight at once; with 1 every frame gets an answer.
        """
        for frame in each_blocking_frame(frames):
            self.send(frame)
            while self._tracker.in_flight >= ahead:
                yield self.receive()
        while self._tracker.in_flight:
            yield self.receive()

    def send(self, image: ImageInput) -> int:
        """Sends a frame and returns its number, from 1; arrays and PIL images go as JPEG."""
        number, message = self._tracker.pack(image)
        self._connection.send(message)
        return number

    def receive(self, timeout_s: float | None = protocol.TIMEOUT_S) -> FrameAnswer:
        """The next answer.

        Raises:
            ServiceError: the stream has ended, no answer came in time, or a setting was refused.
        """
        return self._tracker.read(self._connection.receive(timeout_s))

    def set_threshold(self, threshold: Threshold | None) -> None:
        """Changes the threshold from the next frame on; None goes back to the model's own.

        An unusable value makes the next `receive` raise.
        """
        self._connection.send(protocol.threshold_message(threshold))

    def set_classes(self, classes: Classes | None) -> None:
        """Changes which classes are reported from the next frame on; None reports all. As `set_threshold`."""
        self._connection.send(protocol.classes_message(classes))
