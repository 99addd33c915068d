"""Uvicorn's protocol of HTTP, with limits for the head of a request, where it has none of its own."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maskwatch.serve.core.problem import Problem

HEAD_LENGTH = 64 << 10
"""Bytes of a request before its body."""

HEAD_S = 30.0
"""Seconds in which these have to come, counted from the connection or from their first byte."""


class BoundedHttp(HttpToolsProtocol):
    """Ends connections on which the head of a request does not end."""

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
        if self._head_length is not None and self._head_length > HEAD_LENGTH:
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
        if self.cycle is None or self.cycle.response_complete:  # else it would stand within another answer
            text = f"the head of the request is longer than {HEAD_LENGTH} bytes; send less in it"
            response = Problem(431, text).to_response("")
            head = [b"HTTP/1.1 431 Request Header Fields Too Large", b"connection: close"]
            head += [name + b": " + value for name, value in response.raw_headers]
            self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()
