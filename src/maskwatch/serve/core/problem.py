"""Every error of the service: one JSON object as in RFC 9457."""

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

from maskwatch.errors import MaskwatchError

MEDIA_TYPE = "application/problem+json"

_HINTS = {
    404: "see /openapi.json for what there is",
    405: "see /openapi.json for what there is",
}


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP, 400 to 599.
        detail: shows the offending value and ends with the next step.
        headers: of the answer, such as Retry-After.
        more: further members of the object.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
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
        """The answer, as a server sends it."""
        # Escaped, since half of a surrogate pair in what a client sent has no UTF-8.
        body = json.dumps(self.to_dict(instance)).encode("ascii")
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, retry_after_s: int) -> Problem:
    """503, with the seconds after which it is worth to ask again."""
    return Problem(503, detail, {"Retry-After": str(max(1, retry_after_s))})


def of_error(error: MaskwatchError) -> Problem:
    """422: one of our own errors that a client's value has caused; its text ends with the next step."""
    return Problem(422, str(error))


def add_handlers(app: FastAPI) -> None:
    """Makes every error of an app, its framework's too, a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_defect)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.to_response(request.url.path)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = _HINTS.get(error.status_code, "check the request")
    detail = f"{request.method} {request.url.path}: {str(error.detail).lower()}; {hint}"
    return Problem(error.status_code, detail, error.headers).to_response(request.url.path)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return Problem(422, faults_of(error.errors())).to_response(request.url.path)


async def _on_defect(request: Request, error: Exception) -> Response:
    del error  # the server's log has it, with its traceback; a client has no use for it
    detail = f"{request.method} {request.url.path}: a defect of the service; its log tells more, report it"
    return Problem(500, detail).to_response(request.url.path)


def faults_of(errors: Any) -> str:
    """Pydantic's list of errors in a line: where, what was given, what is wanted."""
    texts = []
    for error in errors:
        place = " ".join(str(part) for part in error["loc"])
        # A client knows objects, and no models of ours.
        wanted = "Input should be an object" if error.get("type") == "model_type" else error["msg"]
        texts.append(f"{place} is {_short(error.get('input'))}: {wanted}")
    return f"{'; '.join(texts)}; correct it, see /openapi.json"


def _short(value: Any) -> str:
    text = reprlib.repr(value)  # of what is large only a part: the text of 32 MiB takes a while
    return text if len(text) <= 80 else text[:77] + "..."
