"""Uploaded pictures: files, Base64 text, and multipart forms, of which the content decides, not the headers.

Starlette's own parser refuses what real clients send: a header without a boundary, parts without a name.
"""

from __future__ import annotations

import binascii
import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

from maskwatch.media.formats import is_picture
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import ServiceLimits

NAME_LENGTH = 200

_URL_SAFE = bytes.maketrans(b"-_", b"+/")  # the URL-safe alphabet → the standard one (RFC 4648)
_LINE_ENDS = b"\t\n\v\f\r"
_DEEPEST_INDENT = 16
_ESCAPES = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%0D", b""), (b"%0A", b""), (b"%20", b""))
_MAY_BE_BASE64 = re.compile(rb"data:|[\w+/-]{16}", re.ASCII | re.IGNORECASE)
_SPACES = "spaces within the text, as a form writes them instead of +"
_HEAD_LENGTH = 200  # bytes; a client may send nothing but white space, so the rest is not searched

FIELD = "images"

_FIELDS = (FIELD, "images[]")
_OTHER_PARTS = 8  # allowed beside the pictures; they are ignored
_PART_HEAD_LENGTH = 16 << 10  # bytes of a part's headers
_FIRST_LINE = re.compile(rb"--([^\r\n]{1,200}?)[ \t]*(\r?\n)")
_FIRST_LENGTH = 300
_HINT = "send multipart/form-data as RFC 7578 has it; see docs/service.md"


@dataclass(frozen=True)
class UploadedImage:
    """A picture as it was uploaded, not decoded yet; `url` is its address where the service must fetch it."""

    source: str
    data: bytes = b""
    url: str | None = None


def clean_name(name: str | None, default: str) -> str:
    """The name of a picture in records: short enough, and encodable as UTF-8."""
    return (name or default)[:NAME_LENGTH].encode("utf-8", "replace").decode()


def too_many(count: int, limits: ServiceLimits) -> Problem:
    """413: more pictures than a request may have."""
    text = f"the request has {count} pictures; the limit is {limits.max_images}; send several requests"
    return Problem(413, text)


def image_bytes(content: bytes) -> bytes:
    """The picture file in an upload, decoded if it is Base64; anything else is returned unchanged.

    Raises:
        ValueError: a broken data: address.
    """
    head = content[:_HEAD_LENGTH].lstrip()
    if not _MAY_BE_BASE64.match(head) or is_picture(content):
        return content
    try:
        decoded = decode_base64(content)
    except ValueError:
        if head[:5].lower() == b"data:":
            raise
        return content
    return decoded if is_picture(decoded) else content


def decode_base64(text: bytes) -> bytes:
    """Decodes Base64 as clients write it: data: addresses, wrapped lines, either alphabet, padded or not.

    Raises:
        ValueError: it is not Base64; the message says why.
    """
    if text[:_HEAD_LENGTH].lstrip()[:5].lower() == b"data:":
        text = _data_of_url(text)
    text = _unwrap(text).translate(_URL_SAFE).rstrip(b"=")
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)


def _data_of_url(url: bytes) -> bytes:
    """The data of a data: address (RFC 2397)."""
    head, comma, text = url.partition(b",")
    if not comma or not head.rstrip().lower().endswith(b";base64"):
        raise ValueError("a data: address without ;base64 and a comma before the data")
    if b"%" in text:
        for escaped, plain in _ESCAPES:
            text = text.replace(escaped, plain).replace(escaped.lower(), plain)
    return text


def _unwrap(text: bytes) -> bytes:
    """Removes line ends and indents; `ValueError` for a space elsewhere, which was a + of the data."""
    has_spaces, text = b" " in text, text.rstrip()  # the last space may have been a + as well
    for _ in range(_DEEPEST_INDENT if b"\n " in text else 0):
        text = text.replace(b"\n ", b"\n")
    text = text.translate(None, _LINE_ENDS).lstrip()
    width = text.find(b" ")
    if width >= 0 and (width % 4 or text[width :: width + 1].count(b" ") != text.count(b" ")):
        raise ValueError(_SPACES)  # otherwise these are the lines of a shell's $(base64 FILE)
    text = text.replace(b" ", b"")
    if has_spaces and len(text) % 4:
        raise ValueError(_SPACES)
    return text


@dataclass(frozen=True)
class _Part:
    number: int
    field: str | None
    file_name: str | None
    encoding: str
    content: bytes

    @property
    def is_declared_picture(self) -> bool:
        """Whether the client means it as a picture, whatever it holds."""
        return self.file_name is not None or self.field in _FIELDS

    @property
    def source(self) -> str | None:
        return self.file_name or (None if self.field in _FIELDS else self.field)

    @property
    def label(self) -> str:
        """Its name in messages."""
        return clean_name(self.file_name or self.field, f"part {self.number}")


def parse_form(content_type: str, body: bytes, limits: ServiceLimits) -> list[UploadedImage]:
    """The pictures of a form: each part that is one, has a file name, or has the field name `images`.

    Raises:
        Problem: 400, it cannot be read; 413, too many pictures; 422, there is none.
    """
    parts = list(_parts(content_type, body, limits))
    contents = [(part, _decoded(part)) for part in parts]
    pictures = [(part, data) for part, data in contents if part.is_declared_picture or is_picture(data)]
    if len(pictures) > limits.max_images:
        raise too_many(len(pictures), limits)
    if not pictures:
        names = ", ".join(f"{part.label[:80]!r} of {len(part.content)} bytes" for part in parts) or "none"
        raise Problem(422, f"no part of the form is a picture (its parts: {names}); add one as {FIELD!r}")
    return [
        UploadedImage(clean_name(part.source, f"picture-{number}"), content)
        for number, (part, content) in enumerate(pictures, 1)
    ]


def _decoded(part: _Part) -> bytes:
    try:
        if part.encoding == "base64" and not is_picture(part.content):
            return decode_base64(part.content)
        if part.encoding == "quoted-printable" and not is_picture(part.content):
            return binascii.a2b_qp(part.content)
        return image_bytes(part.content)
    except ValueError as error:
        if not part.is_declared_picture:
            return part.content
        text = f"{part.label!r} of the form is not Base64 ({error}); send the file itself"
        raise Problem(422, text) from None


def _parts(content_type: str, body: bytes, limits: ServiceLimits) -> Iterator[_Part]:
    boundary, newline = _boundary(content_type, body)
    delimiter = newline + b"--" + boundary
    most = limits.max_images + _OTHER_PARTS
    found = body.count(delimiter) + body.startswith(b"--" + boundary)
    if found > most + 1:  # the last one ends the form
        allowed = f"{limits.max_images} pictures and {_OTHER_PARTS} other parts"
        text = f"the form has some {found - 1} parts; the limit is {allowed}; send several requests"
        raise Problem(413, text)
    _, *chunks = (newline + body).split(delimiter)
    for number, chunk in enumerate(chunks, 1):
        if chunk.startswith(b"--"):
            return
        yield _part(number, chunk, newline)
    # A truncated form must not pass for one with fewer parts.
    raise Problem(400, f"the form of {len(body)} bytes does not end with its boundary; send it again")


def _boundary(content_type: str, body: bytes) -> tuple[bytes, bytes]:
    """The boundary, and the line end.

    Clients that set the header themselves often forget the boundary; the body's first line has it as well.
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
    line_end = chunk.find(newline, 0, _PART_HEAD_LENGTH)
    head_end = chunk.find(newline * 2, max(0, line_end), _PART_HEAD_LENGTH)
    if line_end < 0 or chunk[:line_end].strip(b" \t") or head_end < 0:
        raise Problem(
            400,
            f"part {number} of the form has no headers that end within {_PART_HEAD_LENGTH} bytes; {_HINT}",
        )
    raw_head = chunk[line_end + len(newline) : head_end]
    try:
        head = email.message_from_string(raw_head.decode("utf-8"))
    except UnicodeDecodeError:
        head = email.message_from_string(raw_head.decode("latin-1"))
    try:
        name = head.get_param("name", header="content-disposition")
        field, file_name = None if name is None else collapse_rfc2231_value(name), head.get_filename()
    except (TypeError, ValueError):  # Python's parser, on parameters that RFC 2231 does not allow
        raise Problem(400, f"part {number} of the form has a broken Content-Disposition; {_HINT}") from None
    encoding = str(head.get("content-transfer-encoding", "")).strip().lower()
    return _Part(number, field, file_name, encoding, chunk[head_end + 2 * len(newline) :])
