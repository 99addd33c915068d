"""The body of a request → pictures as bytes, whichever of three ways it came."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from maskwatch.media.formats import is_picture
from maskwatch.serve.core.base64_text import picture_bytes
from maskwatch.serve.core.form_body import from_form_body
from maskwatch.serve.core.json_body import from_json_body
from maskwatch.serve.core.picture_file import PictureFile, clean_name
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.upload_limiter import IncomingBody
from maskwatch.serve.settings import Limits

_WAYS = "send multipart/form-data, a picture as image/*, or JSON; see docs/service.md"
_RAW_TYPES = ("", "application/octet-stream")
_JSON_STARTS = (b"{", b"\xef\xbb\xbf{")


async def read_body(request: Request, limits: Limits, incoming: IncomingBody) -> bytes:
    """All bytes of a request's body.

    Raises:
        Problem: 400, 408, 413, 415 or 503.
    """
    if encoding := request.headers.get("content-encoding"):
        raise Problem(415, f"Content-Encoding {encoding!r} is not taken; send the body as it is")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(declared, limits)
    body = bytearray()
    try:
        async with incoming.reading(limits.timeout_s):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.max_bytes:
                    raise _too_large(f"more than {limits.max_bytes}", limits)
                incoming.grow(len(chunk))
                body += chunk
    except ClientDisconnect:
        raise Problem(400, f"the body broke off after {len(body)} bytes; send it again") from None
    return bytes(body)


def pictures_of(
    content_type: str, name: str | None, body: bytes, limits: Limits, *, allow_urls: bool
) -> list[PictureFile]:
    """The pictures of a body, at least one; whether they are pictures is not known yet.

    What is inside counts: programs send pictures under the type that their library puts there.

    Args:
        content_type: the header, or "".
        name: what to call a picture that came as it is.

    Raises:
        Problem: 400, 413, 415 or 422.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        return from_form_body(content_type, body, limits)
    if _is_json(kind, body):
        return from_json_body(body, limits, allow_urls=allow_urls)
    try:
        content = picture_bytes(body)
    except ValueError as error:
        raise Problem(422, f"the body is no Base64 ({error}); send the file itself") from None
    if not (kind in _RAW_TYPES or kind.startswith("image/") or is_picture(content)):
        raise Problem(415, f"Content-Type {kind[:200]!r} is not taken, and the body is no picture; {_WAYS}")
    return [PictureFile(clean_name(name, "picture"), content)]


def _is_json(kind: str, body: bytes) -> bool:
    if kind.endswith(("/json", "+json")):
        return not is_picture(body)
    return not kind.startswith("image/") and body[:100].lstrip().startswith(_JSON_STARTS)


def _too_large(size: str, limits: Limits) -> Problem:
    return Problem(
        413, f"the body has {size} bytes, and {limits.max_bytes} may be; send fewer or smaller pictures"
    )
