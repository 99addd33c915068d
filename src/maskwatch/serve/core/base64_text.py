"""Base64 as clients write it → bytes: data: addresses, wrapped lines, either alphabet, padded or not."""

from __future__ import annotations

import binascii
import re

from maskwatch.media.formats import is_picture

_ALPHABET = bytes.maketrans(b"-_", b"+/")  # of addresses and file names → the plain one (RFC 4648)
_LINE_ENDS = b"\t\n\v\f\r"
_DEEPEST_INDENT = 16
_ESCAPES = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%0D", b""), (b"%0A", b""), (b"%20", b""))
_LOOKS_LIKE_IT = re.compile(rb"data:|[\w+/-]{16}", re.ASCII | re.IGNORECASE)
_EATEN = "spaces within the text, as a form puts them in the place of +"
_HEAD_LENGTH = 200  # bytes, of which some may be blanks; what a client sends may be nothing else


def decode_base64(text: bytes) -> bytes:
    """The bytes that a text stands for.

    Raises:
        ValueError: it is no Base64; the message says why.
    """
    if text[:_HEAD_LENGTH].lstrip()[:5].lower() == b"data:":
        text = _after_head(text)
    text = _in_one_line(text).translate(_ALPHABET).rstrip(b"=")
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)


def picture_bytes(content: bytes) -> bytes:
    """The file of a picture that came as it is, or as Base64; what is neither is given back as it came.

    Raises:
        ValueError: a data: address that is broken.
    """
    head = content[:_HEAD_LENGTH].lstrip()
    if not _LOOKS_LIKE_IT.match(head) or is_picture(content):
        return content
    try:
        decoded = decode_base64(content)
    except ValueError:
        if head[:5].lower() == b"data:":
            raise
        return content
    return decoded if is_picture(decoded) else content


def _after_head(address: bytes) -> bytes:
    """What a data: address carries (RFC 2397)."""
    head, comma, text = address.partition(b",")
    if not comma or not head.rstrip().lower().endswith(b";base64"):
        raise ValueError("a data: address without ;base64 and a comma before the data")
    if b"%" in text:
        for escaped, plain in _ESCAPES:
            text = text.replace(escaped, plain).replace(escaped.lower(), plain)
    return text


def _in_one_line(text: bytes) -> bytes:
    """Without the blanks that end or indent lines.

    Raises:
        ValueError: a blank elsewhere; it was a +, and without it the picture would be another one.
    """
    blanks, text = b" " in text, text.rstrip()  # the last one may have been a + as well
    for _ in range(_DEEPEST_INDENT if b"\n " in text else 0):
        text = text.replace(b"\n ", b"\n")
    text = text.translate(None, _LINE_ENDS).lstrip()
    width = text.find(b" ")
    if width >= 0 and (width % 4 or text[width :: width + 1].count(b" ") != text.count(b" ")):
        raise ValueError(_EATEN)  # else these are the lines of a shell's $(base64 FILE)
    text = text.replace(b" ", b"")
    if blanks and len(text) % 4:
        raise ValueError(_EATEN)
    return text
