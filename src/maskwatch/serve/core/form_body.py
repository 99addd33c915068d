"""A body of several parts → pictures: what a part holds decides, not what its headers say."""

from __future__ import annotations

import binascii
import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

from maskwatch.media.formats import is_picture
from maskwatch.serve.core.base64_text import decode_base64, picture_bytes
from maskwatch.serve.core.picture_file import PictureFile, clean_name, too_many
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import Limits

FIELD = "images"

_FIELDS = (FIELD, "images[]")
_MORE_PARTS = 8
"""Beside the pictures; they are ignored."""

_HEAD_LENGTH = 16 << 10  # bytes of a part's headers
_FIRST_LINE = re.compile(rb"--([^\r\n]{1,200}?)[ \t]*(\r?\n)")
_FIRST_LENGTH = 300
_HINT = "send multipart/form-data as RFC 7578 has it; see docs/service.md"


@dataclass(frozen=True)
class _Part:
    number: int
    head: Message
    content: bytes

    @property
    def field(self) -> str | None:
        name = self.head.get_param("name", header="content-disposition")
        return None if name is None else collapse_rfc2231_value(name)

    @property
    def file_name(self) -> str | None:
        return self.head.get_filename()

    @property
    def is_meant(self) -> bool:
        """Whether it is meant as a picture, whatever it holds."""
        return self.file_name is not None or self.field in _FIELDS

    @property
    def label(self) -> str:
        """What messages call it."""
        return clean_name(self.file_name or self.field, f"part {self.number}")


def from_form_body(content_type: str, body: bytes, limits: Limits) -> list[PictureFile]:
    """The pictures of a form: each part that is one, that has a file name, or that is called `images`.

    Raises:
        Problem: 400, it cannot be read; 413, more pictures than may be; 422, there is none.
    """
    parts = list(_parts(content_type, body, limits))
    contents = [(part, _decoded(part)) for part in parts]
    pictures = [(part, content) for part, content in contents if part.is_meant or is_picture(content)]
    if len(pictures) > limits.max_images:
        raise too_many(len(pictures), limits)
    if not pictures:
        names = ", ".join(f"{part.label[:80]!r} of {len(part.content)} bytes" for part in parts) or "none"
        raise Problem(422, f"no part of the form is a picture (its parts: {names}); add one as {FIELD!r}")
    return [
        PictureFile(clean_name(_source(part), f"picture-{number}"), content)
        for number, (part, content) in enumerate(pictures, 1)
    ]


def _source(part: _Part) -> str | None:
    return part.file_name or (None if part.field in _FIELDS else part.field)


def _decoded(part: _Part) -> bytes:
    encoding = str(part.head.get("content-transfer-encoding", "")).strip().lower()
    try:
        if encoding == "base64" and not is_picture(part.content):
            return decode_base64(part.content)
        if encoding == "quoted-printable" and not is_picture(part.content):
            return binascii.a2b_qp(part.content)
        return picture_bytes(part.content)
    except ValueError as error:
        if not part.is_meant:
            return part.content
        raise Problem(
            422, f"{part.label!r} of the form is no Base64 ({error}); send the file itself"
        ) from None


def _parts(content_type: str, body: bytes, limits: Limits) -> Iterator[_Part]:
    boundary, newline = _boundary(content_type, body)
    delimiter = newline + b"--" + boundary
    most = limits.max_images + _MORE_PARTS
    found = body.count(delimiter) + body.startswith(b"--" + boundary)
    if found > most + 1:  # the last one ends the form
        raise Problem(
            413, f"the form has some {found - 1} parts, and {limits.max_images} pictures and {_MORE_PARTS} "
            "other parts may be; send several requests",
        )  # fmt: skip
    _, *chunks = (newline + body).split(delimiter)
    for number, chunk in enumerate(chunks, 1):
        if chunk.startswith(b"--"):
            return
        yield _part(number, chunk, newline)
    # A form that breaks off is not one that has fewer parts.
    raise Problem(400, f"the form of {len(body)} bytes does not end with its boundary; send it again")


def _boundary(content_type: str, body: bytes) -> tuple[bytes, bytes]:
    """The boundary, and the end of a line.

    The body's first line has the boundary as well, and clients that set the header by hand forget it there.
    """
    head = Message()
    head["content-type"] = content_type
    boundary = (head.get_boundary() or "").encode("latin-1", "replace")
    if boundary and b"--" + boundary in body:
        newline = b"\n" if b"--" + boundary + b"\n" in body else b"\r\n"
        return boundary, newline
    if first := _FIRST_LINE.match(body[:_FIRST_LENGTH].lstrip(b"\r\n")):
        return first[1], first[2]
    raise Problem(400, f"Content-Type {content_type[:200]!r} names no boundary that the body has; {_HINT}")


def _part(number: int, chunk: bytes, newline: bytes) -> _Part:
    line_end = chunk.find(newline, 0, _HEAD_LENGTH)
    head_end = chunk.find(newline * 2, max(0, line_end), _HEAD_LENGTH)
    if line_end < 0 or chunk[:line_end].strip(b" \t") or head_end < 0:
        raise Problem(
            400, f"part {number} of the form has no headers that end within {_HEAD_LENGTH} bytes; {_HINT}"
        )
    head = chunk[line_end + len(newline) : head_end]
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    return _Part(number, email.message_from_string(text), chunk[head_end + 2 * len(newline) :])
