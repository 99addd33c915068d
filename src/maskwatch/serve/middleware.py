"""The door: who is let in, how many are inside, and what is counted about each request."""

from __future__ import annotations

import re
from time import perf_counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwatch.net.address_guard import is_loopback
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.core.service import Service
from maskwatch.serve.http_protocol import HEAD_LENGTH

_ALWAYS = frozenset(["/healthz", "/readyz", "/metrics"])
"""Answered while the service stops, too."""

_TICKETS = re.compile(r"/v1/stream|/v1/watch/.+")
"""What a browser opens without headers of a program's choice."""

_ENDLESS = re.compile(r"/v1/watch/.+")
"""Answers that end only when the client or the service goes; nobody waits for these."""

_DETECT = "/v1/detect"

_ANY_ADDRESS = frozenset(["0.0.0.0", "[::]"])
"""A browser that is given one of these connects to its own machine."""

_QUERY_LENGTH = 8 << 10


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, began, status = self._service, perf_counter(), 500
        counted = not _ENDLESS.fullmatch(scope["path"])

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _careful(scope["path"], message.get("headers", []))
                if service.stopping.is_set():
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        service.in_flight += counted
        try:
            problem = self._refusal(scope)
            if problem is None:
                await self._app(scope, receive, watched_send)
            else:
                await problem.to_response(scope["path"])(scope, receive, watched_send)
        finally:
            service.in_flight -= counted
            # A request that found the house full has no route.
            full = status == 503 and scope["path"] == _DETECT
            path = getattr(scope.get("route"), "path", _DETECT if full else "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            service.metrics.request(method, path, status, perf_counter() - began)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._refusal(scope)
        if problem is None:
            await self._app(scope, receive, send)
            return
        await receive()  # the wish to connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": problem.detail[:120]})
            return

        async def denied(message: Message) -> None:
            await send({**message, "type": message["type"].replace("http.", "websocket.http.", 1)})

        await problem.to_response(scope["path"])({**scope, "type": "http"}, receive, denied)

    def _refusal(self, scope: Scope) -> Problem | None:
        if problem := _length_problem(scope):
            return problem
        path, headers = scope["path"], Headers(scope=scope)
        if self._service.stopping.is_set() and path not in _ALWAYS:
            return busy(f"{path}: the service is stopping; ask again, another will answer", 1)
        if not (path == "/metrics" or path.startswith("/v1/")):
            return None if self._service.tokens.asked else self._host_problem(headers)
        if self._service.tokens.asked:
            problem = self._token_problem(scope, headers)
        else:
            problem = self._host_problem(headers) or self._origin_problem(headers)
        return problem or self._rate_problem(scope) or self._full_problem(scope)

    def _full_problem(self, scope: Scope) -> Problem | None:
        """Here, since the way to the route costs as much again, and a flood is told nothing else."""
        if scope["path"] != _DETECT or scope.get("method") != "POST":
            return None
        return self._service.capacity.closed()

    def _token_problem(self, scope: Scope, headers: Headers) -> Problem | None:
        tokens, path = self._service.tokens, scope["path"]
        if tokens.admits(headers.get("authorization")):
            return None
        ticket = QueryParams(scope["query_string"]).get("ticket")
        if ticket is not None and _TICKETS.fullmatch(path) and tokens.admits_ticket(ticket):
            return None
        # What was given is not shown: it may be a token with a slip of the finger.
        what = "the ticket is too old or not ours" if ticket is not None else "no token, or a wrong one"
        return Problem(
            401,
            f"{path}: {what}; send the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )

    def _host_problem(self, headers: Headers) -> Problem | None:
        """Without a token: a name of someone else's that leads to this machine is none of ours."""
        host = headers.get("host", "")
        name = re.sub(r":\d*$", "", host).lower()
        if is_loopback(name) or name in _ANY_ADDRESS or name == self._service.settings.host.lower():
            return None
        return Problem(403, f"host {host!r} is not this machine; use localhost, or give the service a token")

    def _origin_problem(self, headers: Headers) -> Problem | None:
        origin = headers.get("origin")
        if origin is None or origin in self._service.settings.cors:
            return None
        if urlsplit(origin).netloc == headers.get("host"):
            return None
        return Problem(403, f"origin {origin!r} may not use the service; start it with --cors {origin}")

    def _rate_problem(self, scope: Scope) -> Problem | None:
        client = scope.get("client")
        try:
            self._service.rates.check(client[0] if client else "unknown")
        except Problem as problem:
            return problem
        return None


def _length_problem(scope: Scope) -> Problem | None:
    """Before anything is made of it: thousands of parameters or headers take a while to take apart."""
    query = len(scope["query_string"])
    if query > _QUERY_LENGTH:
        return Problem(414, f"the query has {query} bytes, and {_QUERY_LENGTH} may be; send less in it")
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    if headers > HEAD_LENGTH:
        return Problem(431, f"the headers have {headers} bytes, and {HEAD_LENGTH} may be; send fewer")
    return None


def _careful(path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What the API says of people is kept by no cache, unless an answer allows it itself."""
    if not path.startswith("/v1/"):
        return headers
    given = {name.lower() for name, _ in headers}
    more = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    return [*headers, *(header for header in more if header[0] not in given)]


_METHODS = frozenset(["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"])
