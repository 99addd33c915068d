"""Whether a video file is truncated, by the sizes of the boxes in its container.

Frame counts and durations are no evidence: recorders estimate them before the first frame, or write them for
a rate that the video does not keep. But where the box of the pictures ends beyond the end of the file, some
are missing. (Where the box of the index does, none are.)
Sources: ISO/IEC 14496-12 (MP4, MOV), RFC 8794 and RFC 9559 (Matroska, WebM), Microsoft's AVI RIFF reference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_MP4_FIRST = frozenset([b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip", b"pnot"])
_MP4_PICTURES = frozenset([b"moov", b"mdat", b"moof"])
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_GIF_END = b"\x3b"


def is_truncated(path: Path) -> bool:
    """Whether bytes are missing at the end of an MP4, MOV, Matroska, WebM, AVI or GIF file.

    False for other containers, whose sizes are not known. Raises `OSError`.
    """
    with path.open("rb") as file:
        head = file.read(12)
        size = os.fstat(file.fileno()).st_size
        if head[4:8] in _MP4_FIRST:
            return _mp4_ends_early(file, size)
        if head[:4] == _EBML.to_bytes(4):
            return _matroska_ends_early(file, size)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _avi_ends_early(file, size)
        return head[:4] == b"GIF8" and _gif_ends_early(file, size)


def _mp4_ends_early(file: BinaryIO, size: int) -> bool:
    at, name = 0, b""
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        name, length = head[4:8], int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # 0: up to the end of the file
            return False
        at += length
    return at > size and name in _MP4_PICTURES


def _matroska_ends_early(file: BinaryIO, size: int) -> bool:
    """Walks through the clusters of the segment."""
    at, identity, segment_end = 0, 0, 0
    while at < size:
        file.seek(at)
        identity, width = _ebml_number(file, marker=True)
        length, more = _ebml_number(file, marker=False)
        if not width or not more:  # not an element
            return False
        at += width + more
        is_open = length == (1 << 7 * more) - 1
        if identity == _SEGMENT:
            segment_end = 0 if is_open else at + length
        elif is_open:  # a live cluster, whose end is unknown
            return False
        else:
            at += length
    return identity == _CLUSTER and (at > size or segment_end > size)


def _ebml_number(file: BinaryIO, *, marker: bool) -> tuple[int, int]:
    """A number of variable length, and its length in bytes; 0 bytes where there is none."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, 0
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) < width - 1:
        return 0, 0
    kept = first[0] if marker else first[0] & (0x7F >> width - 1)
    return int.from_bytes(bytes([kept]) + rest), width


def _avi_ends_early(file: BinaryIO, size: int) -> bool:
    """Walks through the chunks of each RIFF list, whose own size is wrong in many complete files."""
    at, name = 0, b""
    while at + 8 <= size:
        file.seek(at)
        head = file.read(12)
        name, length = head[:4], int.from_bytes(head[4:8], "little")
        if name == b"RIFF":
            at += 12
        elif not name.isascii() or (name == b"LIST" and not length):  # a recorder that was never stopped
            return False
        else:
            at += 8 + length + length % 2
    return at > size + 1 and name == b"LIST"  # the byte that pads the last chunk may be missing


def _gif_ends_early(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 1024))
    return not file.read().rstrip(b"\0").endswith(_GIF_END)
