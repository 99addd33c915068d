"""Removes from PNG and JPEG files what does not change their pixels.

Viewers show a picture whose text, colour profile or other description is huge or broken. Pillow does not, so
such parts are removed before it decodes the file.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import TypeAlias

Bytes: TypeAlias = "bytes | memoryview"
Metadata: TypeAlias = "dict[str, bytes | str]"

_PNG_SIGNATURE_BYTES = 8
_PNG_COLOR_TYPE_AT = 25
_TRNS_BYTES = {0: 2, 2: 6}  # by colour type: grey, RGB; a palette takes any number

# Keywords of texts that may hold the orientation of a PNG, and their keys in Pillow's `Image.info`.
_ORIENTATION_TEXTS = {b"XML:com.adobe.xmp": "xmp", b"Raw profile type exif": "Raw profile type exif"}
_MAX_TEXT_BYTES = 1 << 20  # of a compressed text, so that it cannot fill the memory

_SOS, _COM, _APP0, _APP1, _APP14, _APP15 = 0xDA, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF


def sanitize_png(data: bytes) -> tuple[bytes, Metadata]:
    """A PNG file with only the chunks that determine pixels (PNG specification, third edition, section 5).

    An animated PNG becomes its still picture. A truncated chunk stays, for the decoder to report.

    Returns:
        The file, and the entries of Pillow's `Image.info` that may hold its orientation.
    """
    kept: list[Bytes] = [data[:_PNG_SIGNATURE_BYTES]]
    metadata: Metadata = {}
    for kind, body, chunk in _png_chunks(memoryview(data)):
        critical = not kind[0] & 0x20
        if critical or (kind == b"tRNS" and _is_intact(chunk) and _is_transparency(data, body)):
            kept.append(chunk)
        elif kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt") and _is_intact(chunk):
            metadata |= _png_metadata(kind, body)
    return b"".join(kept), metadata


def sanitize_jpeg(data: bytes) -> bytes:
    """A JPEG file without comments and application segments, except those of orientation (EXIF, XMP) and
    colours (JFIF, Adobe)."""
    kept: list[Bytes] = [data[:2]]
    view, position = memoryview(data), 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF or marker in (0x00, 0xFF):  # filling
            position += 1
            continue
        if marker == _SOS:
            break
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if _determines_pixels(marker, bytes(view[position + 4 : end])):
            kept.append(view[position:end])
        position = end
    kept.append(view[position:])
    return b"".join(kept)


def _png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """(kind, body, whole chunk) up to the end mark."""
    position, kind = _PNG_SIGNATURE_BYTES, b""
    while position + 8 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        yield kind, data[position + 8 : position + 8 + length], data[position:end]
        position = end


def _is_intact(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]


def _is_transparency(data: bytes, body: memoryview) -> bool:
    color_type = data[_PNG_COLOR_TYPE_AT] if len(data) > _PNG_COLOR_TYPE_AT else 0
    return len(body) == _TRNS_BYTES.get(color_type, len(body))


def _png_metadata(kind: bytes, body: memoryview) -> Metadata:
    if kind == b"eXIf":
        return {"exif": b"Exif\0\0" + bytes(body)}
    keyword, _, text = bytes(body).partition(b"\0")
    key = _ORIENTATION_TEXTS.get(keyword)
    if key is None:
        return {}
    compressed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    if kind == b"iTXt":
        text = text[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    elif compressed:
        text = text[1:]  # after the method
    if compressed:
        try:
            text = zlib.decompressobj().decompress(text, _MAX_TEXT_BYTES)
        except zlib.error:
            return {}
    return {key: text if key == "xmp" else text.decode("latin-1")}


def _determines_pixels(marker: int, body: bytes) -> bool:
    if marker == _APP0:
        return body.startswith(b"JFIF\0") and len(body) >= 14
    if marker == _APP1:
        return bool(re.match(rb"Exif\0\0|http://ns\.adobe\.com/xap/1\.0/\0", body))
    if marker == _APP14:
        return body.startswith(b"Adobe") and len(body) >= 12
    return marker != _COM and not _APP0 < marker <= _APP15
