"""Whether a video file has been cut off: the sizes that its container itself promises.

Numbers of frames and durations are no evidence. Recorders estimate them before the first frame, or write them
for a rate that the film does not keep. A box that reaches beyond the end of the file is missing its end.
Sources: ISO/IEC 14496-12 (MP4, MOV), RFC 8794 and RFC 9559 (Matroska, WebM), Microsoft's AVI RIFF reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

_Walk: TypeAlias = Callable[[BinaryIO, int], bool]

_MP4_FIRST = frozenset([b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip", b"pnot"])
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_GIF_END = b"\x3b"


def is_cut_off(path: Path) -> bool:
    """Whether bytes are missing at the end of an MP4, MOV, Matroska, WebM, AVI or GIF file.

    False for other containers, which promise nothing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(12)
        walk = _walk_for(head)
        return walk is not None and walk(file, os.fstat(file.fileno()).st_size)


def _walk_for(head: bytes) -> _Walk | None:
    if head[4:8] in _MP4_FIRST:
        return _mp4_ends_early
    if head[:4] == _EBML.to_bytes(4):
        return _matroska_ends_early
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_ends_early
    if head[:4] == b"GIF8":
        return _gif_ends_early
    return None


def _mp4_ends_early(file: BinaryIO, size: int) -> bool:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return True
        if not head[4:8].isascii() or not head[4:8].decode().isprintable():
            return False  # something that hangs behind the film
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # 0: up to the end of the file
            return False
        at += length
    return at > size


def _matroska_ends_early(file: BinaryIO, size: int) -> bool:
    """Descends into the segment; one whose length is open may itself be cut within a cluster."""
    at = 0
    while at < size:
        file.seek(at)
        identity, width = _ebml_number(file, marker=True)
        length, more = _ebml_number(file, marker=False)
        start = at + width + more
        if not width or not more:
            return at + 12 > size  # else it is no element
        is_open = length == (1 << 7 * more) - 1
        if is_open and identity == _SEGMENT:
            at = start
        elif is_open:  # a live cluster; where it ends is not written anywhere
            return False
        else:
            at = start + length
    return at > size


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
    """Looks at the chunks within each RIFF list, since its own size is wrong in many a file that is whole."""
    at = 0
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
    return at > size + 1  # the last byte that pads may be missing


def _gif_ends_early(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 1024))
    return not file.read().rstrip(b"\0").endswith(_GIF_END)
