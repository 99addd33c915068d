"""Middleware of the labelling server: who may use it, limits, and headers."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskwatch.net.address_guard import leads_to_loopback
from maskwatch.serve.api.page import SECURITY_HEADERS
from maskwatch.serve.core.auth import Authenticator
from maskwatch.serve.core.problem import Problem, busy
from maskwatch.serve.middleware import check_host, check_length, check_origin

API = "/api/label"


class LabelMiddleware:
    """ASGI middleware: everything below `/api/label` needs the token, which the page has as a cookie.

    Args:
        app: inside it.
        auth: knows the token.
        host: where the server listens.
        max_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, auth: Authenticator, host: str, max_bytes: int) -> None:
        self._app, self._auth, self._host, self._max_bytes = app, auth, host, max_bytes
        self._checks_host = leads_to_loopback(host)
        self.stopping, self.in_flight = False, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        counted = scope["path"] != f"{API}/changes"
        self.in_flight += counted
        try:
            response = self._check(scope)
            if response is None:
                await self._app(scope, receive, send_with_headers)
            else:
                await response(scope, receive, send_with_headers)
        except Problem as problem:
            await problem.to_response(scope["path"])(scope, receive, send_with_headers)
        finally:
            self.in_flight -= counted

    def _check(self, scope: Scope) -> Response | None:
        """The response if the request does not reach the app; raises `Problem` if it may not."""
        check_length(scope)
        headers, path = Headers(scope=scope), scope["path"]
        if self.stopping:
            raise busy(f"{path}: the server is stopping; start it again", 1)
        if self._checks_host:
            check_host(headers, self._host, "start it with --host")
        token = QueryParams(scope["query_string"]).get("token")
        if path == "/" and token is not None:
            return self._signed_in(scope, token)
        if path.startswith(API):
            check_origin(headers, ())
            if not self._has_token(scope, headers):
                text = f"{path}: no token, or an old one; open the address that the server printed"
                raise Problem(401, text)
            self._check_body(scope, headers)
        return None

    def _signed_in(self, scope: Scope, token: str) -> Response:
        """Turns the token of the printed address into a cookie, and leaves the address without it."""
        if not self._auth.accepts(f"Bearer {token}"):
            raise Problem(401, "the token is not that of this server; open the address that it printed")
        response = Response(status_code=303, headers={"Location": "/"})
        response.set_cookie(_cookie_name(scope), token, path="/", httponly=True, samesite="strict")
        return response

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if self._auth.accepts(headers.get("authorization")):
            return True
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(_cookie_name(scope))
        return cookie is not None and self._auth.accepts(f"Bearer {cookie.value}")

    def _check_body(self, scope: Scope, headers: Headers) -> None:
        if scope["method"] not in ("PUT", "POST"):
            return
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise Problem(411, "no Content-Length; send the length of the body")
        if int(length) > self._max_bytes:
            limit = self._max_bytes
            raise Problem(413, f"the body has {length} bytes; the limit is {limit}; send fewer boxes")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Problem(415, "the body is not JSON; send Content-Type: application/json")


def _cookie_name(scope: Scope) -> str:
    """Of this port: browsers send a host's cookies to all its ports."""
    server = scope.get("server")
    return f"maskwatch_label_{server[1] if server else 0}"
