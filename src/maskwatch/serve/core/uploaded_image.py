"""A picture of a request as it was uploaded: a file, Base64 text, or an address instead."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from maskwatch.media.formats import is_picture
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import Limits

NAME_LENGTH = 200

_URL_SAFE = bytes.maketrans(b"-_", b"+/")  # the URL-safe alphabet → the standard one (RFC 4648)
_LINE_ENDS = b"\t\n\v\f\r"
_DEEPEST_INDENT = 16
_ESCAPES = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%0D", b""), (b"%0A", b""), (b"%20", b""))
_MAY_BE_BASE64 = re.compile(rb"data:|[\w+/-]{16}", re.ASCII | re.IGNORECASE)
_SPACES = "spaces within the text, as a form puts them in the place of +"
_HEAD_LENGTH = 200  # bytes; a client may send nothing but white space, so the rest is not searched


@dataclass(frozen=True)
class UploadedImage:
    """A picture as it was uploaded; it has not been decoded yet and may be unreadable."""

    source: str
    data: bytes = b""
    url: str | None = None


def clean_name(name: str | None, default: str) -> str:
    """The name of a picture in records: short enough, and encodable as UTF-8."""
    return (name or default)[:NAME_LENGTH].encode("utf-8", "replace").decode()


def too_many(count: int, limits: Limits) -> Problem:
    """413: more pictures than a request may have."""
    return Problem(
        413, f"the request has {count} pictures, and {limits.max_images} may be; send several requests"
    )


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
        ValueError: it is no Base64; the message says why.
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
    """Removes line ends and indents.

    Raises:
        ValueError: a space elsewhere; it was a +, and the picture would be another one without it.
    """
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
