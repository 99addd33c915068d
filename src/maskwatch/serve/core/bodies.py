"""Request bodies → uploaded pictures: a picture file, a form, or JSON."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from maskwatch.media.formats import is_picture
from maskwatch.net.addresses import without_credentials
from maskwatch.serve.core.problem import Problem, describe_errors
from maskwatch.serve.core.upload_limits import IncomingBody
from maskwatch.serve.core.uploads import (
    NAME_LENGTH,
    UploadedImage,
    clean_name,
    decode_base64,
    image_bytes,
    parse_form,
    too_many,
)
from maskwatch.serve.settings import ServiceLimits

_WAYS = "send multipart/form-data, a picture as image/*, or JSON; see docs/service.md"
_RAW_TYPES = ("", "application/octet-stream")
_JSON_STARTS = (b"{", b"\xef\xbb\xbf{")

_URL_LENGTH = 2000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# One of them precedes each value of a JSON text, so their number bounds what is built from it.
_DELIMITERS = (b"{", b"[", b",", b":")

# So many are always parsed, which takes a few milliseconds, so that the error can name what is wrong.
_FREE_DELIMITERS = 65_536

# Allowed for each picture: names and addresses may consist of them.
_DELIMITERS_EACH = NAME_LENGTH + _URL_LENGTH + 16


class PictureBody(BaseModel):
    """A picture in a JSON body: either `data` or `url`."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=NAME_LENGTH)] | None = Field(None, examples=["door.jpg"])
    data: str | None = Field(
        None,
        description="The file in Base64: either alphabet, wrapped or not, with or without padding; a data: "
        "address too.",
        json_schema_extra={"format": "byte"},
    )
    url: Annotated[str, Field(max_length=_URL_LENGTH)] | None = Field(
        None, description="Only where the service was started with --allow-urls."
    )


class DetectBody(BaseModel):
    """A JSON body of `POST /v1/detect`."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[list[PictureBody], Field(min_length=1)]


async def read_body(request: Request, limits: ServiceLimits, incoming: IncomingBody) -> bytes:
    """Receives a request's body.

    Raises:
        Problem: 400, 408, 413, 415 or 503.
    """
    if encoding := request.headers.get("content-encoding"):
        raise Problem(415, f"Content-Encoding {encoding!r} is not accepted; send the body uncompressed")
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


def parse_body(
    content_type: str, name: str | None, body: bytes, limits: ServiceLimits, *, allow_urls: bool
) -> list[UploadedImage]:
    """The pictures of a body, at least one, not decoded yet.

    The content decides, not the declared type: many libraries set a wrong one.

    Args:
        content_type: the header, or "".
        name: of a picture that is the whole body.

    Raises:
        Problem: 400, 413, 415 or 422.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        return parse_form(content_type, body, limits)
    if _is_json(kind, body):
        return _parse_json(body, limits, allow_urls=allow_urls)
    try:
        content = image_bytes(body)
    except ValueError as error:
        raise Problem(422, f"the body is not Base64 ({error}); send the file itself") from None
    if not (kind in _RAW_TYPES or kind.startswith("image/") or is_picture(content)):
        raise Problem(
            415, f"Content-Type {kind[:200]!r} is not accepted, and the body is not a picture; {_WAYS}"
        )
    return [UploadedImage(clean_name(name, "picture"), content)]


def _is_json(kind: str, body: bytes) -> bool:
    if kind.endswith(("/json", "+json")):
        return not is_picture(body)
    return not kind.startswith("image/") and body[:100].lstrip().startswith(_JSON_STARTS)


def _too_large(size: str, limits: ServiceLimits) -> Problem:
    text = f"the body has {size} bytes; the limit is {limits.max_bytes}; send fewer or smaller pictures"
    return Problem(413, text)


def _parse_json(body: bytes, limits: ServiceLimits, *, allow_urls: bool) -> list[UploadedImage]:
    check_delimiters(body, limits)
    try:
        document = from_json(body.removeprefix(_BYTE_ORDER_MARK), cache_strings=False)
    except ValueError as error:
        raise Problem(422, f"the body is not JSON ({error}); correct it, see /openapi.json") from None
    listed = document.get("images") if isinstance(document, dict) else None
    if isinstance(listed, list) and len(listed) > limits.max_images:
        raise too_many(len(listed), limits)
    try:
        pictures = DetectBody.model_validate(document).images
    except ValidationError as error:
        raise Problem(422, describe_errors(error.errors(include_url=False)[:5])) from None
    return [_uploaded(picture, number, allow_urls) for number, picture in enumerate(pictures, 1)]


def check_delimiters(body: bytes, limits: ServiceLimits) -> None:
    """Bounds the work before anything is built from the body."""
    found = sum(map(body.count, _DELIMITERS))
    if found > _FREE_DELIMITERS + limits.max_images * _DELIMITERS_EACH:
        text = (
            f"the body has {found} brackets, colons and commas, more than {limits.max_images} pictures need"
        )
        raise Problem(413, f"{text}, which are the limit; send several requests")


def _uploaded(picture: PictureBody, number: int, allow_urls: bool) -> UploadedImage:
    if (picture.data is None) == (picture.url is None):
        raise Problem(422, f"picture {number} of the body has not exactly one of data and url; give one")
    if picture.url is not None:
        shown = without_credentials(picture.url)
        if not allow_urls:
            text = f"url {shown[:200]!r}: this service fetches no addresses; send the picture as data"
            raise Problem(422, text)
        return UploadedImage(clean_name(picture.name, shown), url=picture.url)
    assert picture.data is not None  # which the type checker cannot know
    try:
        data = decode_base64(picture.data.encode("ascii"))
    except ValueError as error:
        raise Problem(422, f"data of picture {number} is not Base64 ({error}); encode the file") from None
    return UploadedImage(clean_name(picture.name, f"picture-{number}"), data)
