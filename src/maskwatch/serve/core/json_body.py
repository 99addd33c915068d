"""A JSON body → pictures. What it holds is counted before anything is built from it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from maskwatch.net.addresses import without_credentials
from maskwatch.serve.core.base64_text import decode_base64
from maskwatch.serve.core.picture_file import NAME_LENGTH, PictureFile, clean_name, too_many
from maskwatch.serve.core.problem import Problem, faults_of
from maskwatch.serve.settings import Limits

_URL_LENGTH = 2000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_MARKS = (b"{", b"[", b",", b":")
"""Each value of a JSON text has one of them before it."""

_ANY_MARKS = 65_536
"""So many are read whatever the limits, in a few milliseconds, so that the answer can say what is wrong."""

_MARKS_EACH = NAME_LENGTH + _URL_LENGTH + 16
"""What a picture may have: names and addresses may consist of them."""


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


def from_json_body(body: bytes, limits: Limits, *, allow_urls: bool) -> list[PictureFile]:
    """The pictures of a JSON body.

    Raises:
        Problem: 413, more pictures than may be; 422, it cannot be used.
    """
    _check_marks(body, limits)
    try:
        document = from_json(body.removeprefix(_BYTE_ORDER_MARK), cache_strings=False)
    except ValueError as error:
        raise Problem(422, f"the body is no JSON ({error}); correct it, see /openapi.json") from None
    listed = document.get("images") if isinstance(document, dict) else None
    if isinstance(listed, list) and len(listed) > limits.max_images:
        raise too_many(len(listed), limits)
    try:
        pictures = DetectBody.model_validate(document).images
    except ValidationError as error:
        raise Problem(422, faults_of(error.errors(include_url=False)[:5])) from None
    return [_picture(picture, number, allow_urls) for number, picture in enumerate(pictures, 1)]


def _check_marks(body: bytes, limits: Limits) -> None:
    most = _ANY_MARKS + limits.max_images * _MARKS_EACH
    marks = sum(map(body.count, _MARKS))
    if marks > most:
        raise Problem(
            413,
            f"the body has {marks} brackets, colons and commas, more than {limits.max_images} pictures need, "
            f"and so many pictures may be; send several requests",
        )


def _picture(picture: PictureBody, number: int, allow_urls: bool) -> PictureFile:
    if (picture.data is None) == (picture.url is None):
        raise Problem(422, f"picture {number} of the body has not exactly one of data and url; give one")
    if picture.url is not None:
        shown = without_credentials(picture.url)
        if not allow_urls:
            raise Problem(
                422, f"url {shown[:200]!r}: addresses are not fetched here; send the picture as data"
            )
        return PictureFile(clean_name(picture.name, shown), url=picture.url)
    return PictureFile(clean_name(picture.name, f"picture-{number}"), _decoded(picture.data, number))


def _decoded(text: Any, number: int) -> bytes:
    try:
        return decode_base64(text.encode("ascii"))
    except ValueError as error:
        raise Problem(422, f"data of picture {number} is no Base64 ({error}); encode the file") from None
