"""PNG and JPEG files without what their pixels do not depend on.

Pillow gives up on a picture whose text, colour profile or other description is huge or broken. Viewers show
it, and so must we: such parts are taken out before a decoder sees them.
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
_PNG_COLOUR_TYPE_AT = 25
_TRNS_BYTES = {0: 2, 2: 6}  # by colour type: grey, RGB; a palette takes any number

# Descriptions that may say how a PNG is turned, and where Pillow looks for them in `Image.info`.
_TURNING_TEXTS = {b"XML:com.adobe.xmp": "xmp", b"Raw profile type exif": "Raw profile type exif"}
_MAX_TEXT_BYTES = 1 << 20  # what is unpacked of a compressed text, so that it cannot fill the memory

_SOS, _COM, _APP0, _APP1, _APP14, _APP15 = 0xDA, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF


def sanitize_png(data: bytes) -> tuple[bytes, Metadata]:
    """A PNG file with those chunks alone that decide on pixels (PNG specification, third edition, section 5).

    An animated PNG becomes its still picture. A chunk that is cut off stays so, for the decoder to find.

    Returns:
        The file, and what it says on how it is turned, under the keys of Pillow's `Image.info`.
    """
    kept: list[Bytes] = [data[:_PNG_SIGNATURE_BYTES]]
    metadata: Metadata = {}
    for kind, body, chunk in _png_chunks(memoryview(data)):
        critical = not kind[0] & 0x20
        if critical or (kind == b"tRNS" and _is_intact(chunk) and _is_transparency(data, body)):
            kept.append(chunk)
        elif kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            metadata |= _png_metadata(kind, body, chunk)
    return b"".join(kept), metadata


def sanitize_jpeg(data: bytes) -> bytes:
    """A JPEG file without comments and application segments, but for those that say how it is turned (EXIF,
    XMP) or what its colours are (JFIF, Adobe)."""
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
        if _decides_on_pixels(marker, bytes(view[position + 4 : end])):
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
    colour_type = data[_PNG_COLOUR_TYPE_AT] if len(data) > _PNG_COLOUR_TYPE_AT else 0
    return len(body) == _TRNS_BYTES.get(colour_type, len(body))


def _png_metadata(kind: bytes, body: memoryview, chunk: memoryview) -> Metadata:
    if kind == b"eXIf":
        return {"exif": b"Exif\0\0" + bytes(body)} if _is_intact(chunk) else {}
    keyword = next((word for word in _TURNING_TEXTS if body[: len(word) + 1] == word + b"\0"), None)
    if keyword is None or not _is_intact(chunk):
        return {}
    text = bytes(body[len(keyword) + 1 :])
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    elif compressed:
        text = text[1:]  # after the method
    if compressed:
        try:
            text = zlib.decompressobj().decompress(text, _MAX_TEXT_BYTES)
        except zlib.error:
            return {}
    key = _TURNING_TEXTS[keyword]
    return {key: text if key == "xmp" else text.decode("latin-1")}


def _decides_on_pixels(marker: int, body: bytes) -> bool:
    if marker == _APP0:
        return body.startswith(b"JFIF\0") and len(body) >= 14
    if marker == _APP1:
        return bool(re.match(rb"Exif\0\0|http://ns\.adobe\.com/xap/1\.0/\0", body))
    if marker == _APP14:
        return body.startswith(b"Adobe") and len(body) >= 12
    return marker != _COM and not _APP0 < marker <= _APP15
