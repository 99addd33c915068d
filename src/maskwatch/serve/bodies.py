"""The body of a request → pictures as bytes, whichever of three ways it came."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from maskwatch.serve.problem import Problem, faults_of
from maskwatch.serve.settings import Limits

FIELD = "images"
NAME_LENGTH = 200

_WAYS = "send multipart/form-data, a picture as image/*, or JSON; see docs/service.md"
_RAW_TYPES = ("", "application/octet-stream")
_MORE_FIELDS = 8
"""Of a form, beside its pictures; they are ignored."""

ShortName = Annotated[str, Field(max_length=NAME_LENGTH)]


@dataclass(frozen=True)
class Upload:
    """A picture as it came: its bytes, or its address instead."""

    source: str
    data: bytes = b""
    url: str | None = None


class PictureBody(BaseModel):
    """A picture in a JSON body: either `data` or `url`."""

    model_config = ConfigDict(extra="forbid")
    name: ShortName | None = Field(None, examples=["door.jpg"])
    data: str | None = Field(None, description="The file in Base64.", json_schema_extra={"format": "byte"})
    url: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="Only where the service was started with --allow-urls."
    )


class DetectBody(BaseModel):
    """A JSON body of `POST /v1/detect`."""

    model_config = ConfigDict(extra="forbid")
    images: Annotated[list[PictureBody], Field(min_length=1)]


async def read_uploads(request: Request, limits: Limits, *, allow_urls: bool) -> list[Upload]:
    """The pictures of a request, at least one; whether they are pictures is not known yet.

    Raises:
        Problem: 400, 408, 413, 415 or 422.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    json_body, form = kind == "application/json", kind == "multipart/form-data"
    if not (json_body or form or kind in _RAW_TYPES or kind.startswith("image/")):
        raise Problem(415, f"Content-Type {kind!r} is not taken; {_WAYS}")
    if encoding := request.headers.get("content-encoding"):
        raise Problem(415, f"Content-Encoding {encoding!r} is not taken; send the body as it is")
    body = await _read(request, limits)
    if json_body:
        uploads = await asyncio.to_thread(_from_json, body, allow_urls)
    elif form:
        uploads = await _from_form(request, body, limits)
    else:
        uploads = [Upload(clean_name(request.query_params.get("name"), "picture"), body)]
    if len(uploads) > limits.max_images:
        raise _too_many(len(uploads), limits)
    return uploads


def clean_name(name: str | None, otherwise: str) -> str:
    """What records call a picture: not endless, and such that UTF-8 can carry it."""
    return (name or otherwise)[:NAME_LENGTH].encode("utf-8", "replace").decode()


async def _read(request: Request, limits: Limits) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(declared, limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_bytes:
                    raise _too_large(f"more than {limits.max_bytes}", limits)
    except TimeoutError:
        raise Problem(
            408,
            f"{len(body)} bytes came in {limits.timeout_s:g} s and then no end; send it faster, or less",
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Problem(400, f"the body broke off after {len(body)} bytes; send it again") from None
    return bytes(body)


def _from_json(body: bytes, allow_urls: bool) -> list[Upload]:
    try:
        pictures = DetectBody.model_validate_json(body).images
    except ValidationError as error:
        # Without the input of the first level, which is the whole body.
        raise Problem(422, faults_of(error.errors(include_url=False)[:5])) from None
    return [_from_picture(picture, number, allow_urls) for number, picture in enumerate(pictures, 1)]


def _from_picture(picture: PictureBody, number: int, allow_urls: bool) -> Upload:
    if (picture.data is None) == (picture.url is None):
        raise Problem(422, f"picture {number} of the body has not exactly one of data and url; give one")
    if picture.url is not None:
        if not allow_urls:
            raise Problem(
                422, f"url {picture.url[:200]!r}: addresses are not fetched here; send the picture as data"
            )
        return Upload(clean_name(picture.name, picture.url), url=picture.url)
    assert picture.data is not None
    try:
        data = base64.b64decode(picture.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, f"data of picture {number} is no Base64 ({error}); encode the file") from None
    return Upload(clean_name(picture.name, f"picture-{number}"), data)


async def _from_form(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    _check_form_end(request.headers["content-type"], body)
    parser = MultiPartParser(request.headers, once(), max_files=limits.max_images, max_fields=_MORE_FIELDS)
    parser.spool_max_size = limits.max_bytes + 1  # in memory, where it is anyway: no face goes to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(f"more than {limits.max_images}", limits) from None
        raise Problem(400, f"the form cannot be read: {error.message} {_WAYS}") from None
    try:
        files = [part for part in form.getlist(FIELD) if isinstance(part, UploadFile)]
        if not files:
            fields = ", ".join(repr(name)[:80] for name in form) or "none"
            raise Problem(422, f"the form has no file in field {FIELD!r} (its fields: {fields}); add one")
        return [
            Upload(clean_name(file.filename, f"picture-{number}"), await file.read())
            for number, file in enumerate(files, 1)
        ]
    finally:
        await form.close()


def _check_form_end(content_type: str, body: bytes) -> None:
    """Starlette's parser takes a form that breaks off for one that has fewer parts."""
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise Problem(400, f"Content-Type {content_type!r} has no boundary; {_WAYS}")
    if b"\r\n--" + boundary + b"--" not in body:
        raise Problem(400, f"the form of {len(body)} bytes does not end with its boundary; send it again")


def _too_large(size: str, limits: Limits) -> Problem:
    return Problem(
        413, f"the body has {size} bytes, and {limits.max_bytes} may be; send fewer or smaller pictures"
    )


def _too_many(count: int | str, limits: Limits) -> Problem:
    return Problem(
        413, f"the request has {count} pictures, and {limits.max_images} may be; send several requests"
    )
