"""Middleware around the whole app: access, limits, headers, and the metrics of each request."""

from __future__ import annotations

import re
from collections.abc import Collection
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from maskwatch.net.address_guard import is_loopback
from maskwatch.serve.core.problem import Problem, busy

if TYPE_CHECKING:
    from maskwatch.serve.core.service import Service

HEADERS_LENGTH = 64 << 10  # bytes of a request before its body
_QUERY_LENGTH = 8 << 10
_METHODS = frozenset(["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"])

_ALWAYS = frozenset(["/healthz", "/readyz", "/metrics"])  # answered while the service stops, too
# What a browser opens with no way to set headers.
_URL_TOKEN_PATHS = re.compile(r"/v1/stream|/v1/watch/.+")

# Responses that end only when the client or the service does; a stopping service does not wait for them.
_ENDLESS = re.compile(r"/v1/watch/.+")

_DETECT = "/v1/detect"

_ANY_ADDRESS = frozenset(["0.0.0.0", "[::]"])  # browsers take one of these for their own machine


class ServiceMiddleware:
    """ASGI middleware of a service."""

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
        service, path, began_s, status = self._service, scope["path"], perf_counter(), 500
        counted = not _ENDLESS.fullmatch(path)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if path.startswith("/v1/"):  # no cache may store what the API reports about people
                    headers.setdefault("Cache-Control", "no-store")
                    headers.setdefault("X-Content-Type-Options", "nosniff")
                if service.draining.is_set():
                    headers["Connection"] = "close"
            await send(message)

        service.in_flight += counted
        try:
            try:
                self._check(scope)
            except Problem as problem:
                await problem.to_response(path)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        finally:
            service.in_flight -= counted
            self._count(scope, status, perf_counter() - began_s)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # A request that was not admitted has no route.
        rejected = status == 503 and scope["path"] == _DETECT
        path = getattr(scope.get("route"), "path", _DETECT if rejected else "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._service.metrics.request(method, path, status, seconds)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
        except Problem as problem:
            socket = WebSocket(scope, receive, send)
            await socket.receive()  # the request to connect
            await socket.send_denial_response(problem.to_response(scope["path"]))
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises `Problem` if a request may not reach the app."""
        check_length(scope)
        path, headers, service = scope["path"], Headers(scope=scope), self._service
        if service.stopping.is_set() and path not in _ALWAYS:
            raise busy(f"{path}: the service is stopping; try again", 1)
        protected = path == "/metrics" or path.startswith("/v1/")
        if not service.auth.required:
            check_host(headers, service.settings.host, "give the service a token")
            if protected:
                check_origin(headers, service.settings.cors)
        elif protected:
            self._check_token(scope, headers)
        if protected:
            client = scope.get("client")
            service.rates.check(client[0] if client else "unknown")
            if path == _DETECT and scope.get("method") == "POST":
                service.capacity.check_admission()  # here, since routing would double the cost of a rejection

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        auth, path = self._service.auth, scope["path"]
        if auth.accepts(headers.get("authorization")):
            return
        url_token = QueryParams(scope["query_string"]).get("ticket")
        if url_token is not None and _URL_TOKEN_PATHS.fullmatch(path) and auth.accepts_url_token(url_token):
            return
        # The value is not shown: it may be the token with a typing error.
        what = (
            "the ticket has expired or is not from this service"
            if url_token is not None
            else "no token, or a wrong one"
        )
        text = f"{path}: {what}; send the header Authorization: Bearer TOKEN"
        raise Problem(401, text, {"WWW-Authenticate": "Bearer"})


def check_host(headers: Headers, listens_on: str, other_way: str) -> None:
    """Only names of this machine: others may lead here by DNS rebinding. Raises `Problem`."""
    host = headers.get("host", "")
    name = re.sub(r":\d*$", "", host).lower()
    if not (is_loopback(name) or name in _ANY_ADDRESS or name == listens_on.lower()):
        raise Problem(403, f"host {host!r} is not this machine; use localhost, or {other_way}")


def check_origin(headers: Headers, allowed: Collection[str]) -> None:
    """Only pages of the service itself and of allowed origins. Raises `Problem`."""
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return
    if urlsplit(origin).netloc != headers.get("host"):
        raise Problem(403, f"origin {origin!r} may not use the service; start it with --cors {origin}")


def check_length(scope: Scope) -> None:
    """Before anything is parsed: thousands of parameters or headers take long."""
    query = len(scope["query_string"])
    if query > _QUERY_LENGTH:
        raise Problem(414, f"the query has {query} bytes; the limit is {_QUERY_LENGTH}; send a shorter one")
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    if headers > HEADERS_LENGTH:
        raise Problem(431, f"the headers have {headers} bytes; the limit is {HEADERS_LENGTH}; send fewer")
