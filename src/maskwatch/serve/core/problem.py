"""Errors of the service: problem JSON as in RFC 9457."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error response.

    Args:
        status: HTTP status, 400 to 599.
        detail: shows the offending value and ends with the next step.
        headers: of the response, such as Retry-After.
        more: further members of the object.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more

    def to_dict(self, instance: str) -> dict[str, Any]:
        """The object of RFC 9457; `instance` is the path of the request."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            **self.more,
        }

    def to_response(self, instance: str) -> Response:
        """The HTTP response."""
        # ASCII only: a lone surrogate in what a client sent cannot be encoded as UTF-8.
        body = json.dumps(self.to_dict(instance)).encode("ascii")
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, retry_after_s: int) -> Problem:
    """503, with the seconds after which a client should try again."""
    return Problem(503, detail, {"Retry-After": str(max(1, retry_after_s))})


def add_handlers(app: FastAPI) -> None:
    """Turns every error of an app, including the framework's, into a problem."""
    for kind in (Problem, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _respond)


async def _respond(request: Request, error: Exception) -> Response:
    path = request.url.path
    match error:
        case Problem():
            problem = error
        case HTTPException():
            unknown = error.status_code in (404, 405)
            hint = "see /openapi.json for what there is" if unknown else "check the request"
            detail = f"{request.method} {path}: {str(error.detail).lower()}; {hint}"
            problem = Problem(error.status_code, detail, error.headers)
        case RequestValidationError():
            problem = Problem(422, describe_errors(error.errors()))
        case _:  # the server's log has the traceback
            detail = f"{request.method} {path}: a bug in the service; see its log, and report it"
            problem = Problem(500, detail)
    return problem.to_response(path)


def describe_errors(errors: Any) -> str:
    """Pydantic's list of errors on one line: where, what was given, what is expected."""
    texts = []
    for error in errors:
        place = " ".join(str(part) for part in error["loc"])
        # A client knows JSON objects, not our models.
        expected = "Input should be an object" if error.get("type") == "model_type" else error["msg"]
        texts.append(f"{place} is {_short(error.get('input'))}: {expected}")
    return f"{'; '.join(texts)}; correct it, see /openapi.json"


def _short(value: Any) -> str:
    text = reprlib.repr(value)  # only a part of a large value: repr of 32 MiB is slow
    return text if len(text) <= 80 else text[:77] + "..."
