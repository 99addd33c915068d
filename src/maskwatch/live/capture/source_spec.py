"""Sources as the user names them: a webcam number, the address of a stream, a file, a pipe."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import unquote

from maskwatch.errors import OptionError, SourceError
from maskwatch.media.formats import VIDEO_SUFFIXES
from maskwatch.media.sources import shown_name
from maskwatch.net.addresses import Address, exists, is_address, shown_argument, without_credentials

SourceKind: TypeAlias = Literal["webcam", "rtsp", "http", "video_url", "file", "pipe"]

_SCHEMES: dict[str, SourceKind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_NAME = r"[A-Za-z0-9][\w.-]{0,39}"
_NAMED = re.compile(rf"({_NAME})=(.+)", re.DOTALL)
_LIKE_A_URL = re.compile(rf"({'|'.join(_SCHEMES)}):", re.IGNORECASE)
_STREAM_SUFFIXES = frozenset([".ts", ".mts"])  # a video by its name, in practice a stream without an end


@dataclass(frozen=True)
class SourceSpec:
    """One source, not opened yet.

    Attributes:
        kind: "http" is a stream (MJPEG, HLS …), "video_url" a video file on a server.
        address: what is opened: the number of a webcam, a URL with its credentials percent-encoded, a path,
            or "-".
        name: short, of letters, digits and `._-`; used in events and names of files.
        shown: the address as it may be printed, without user and password.
        host: the server of a URL.
    """

    kind: SourceKind
    address: str = field(repr=False)
    name: str
    shown: str
    host: str | None = None


def parse_source(text: str, *, name: str | None = None) -> SourceSpec:
    """Parses a SOURCE: `0`, `/dev/video0`, `rtsp://…`, `http://…`, a path, `-`, each also as `name=SOURCE`.

    Args:
        name: takes precedence over a name in `text`.

    Raises:
        SourceError: there is no such source.
        OptionError: the name cannot be used.
    """
    given, text = _split_name(text)
    if given is not None:
        name = name or given
    if name is not None and not re.fullmatch(_NAME, name):
        raise OptionError(
            f"{name!r} is not a valid name for a source; use up to 40 letters, digits and ._-, beginning "
            "with a letter or digit"
        )
    spec = _parse_address(text)
    return replace(spec, name=name) if name else spec


def parse_sources(texts: Sequence[str]) -> list[SourceSpec]:
    """Parses several SOURCEs and makes their names unique: `door`, `door-2`.

    Raises:
        SourceError: there is no such source.
        OptionError: there is no source, two were given the same name, or two read standard input.
    """
    if not texts:
        raise OptionError("no source; name one, for example 0 for the first webcam")
    specs = [parse_source(text) for text in texts]
    if sum(spec.kind == "pipe" for spec in specs) > 1:
        raise OptionError("-: standard input can be read once only; name it once")
    given = [_split_name(text)[0] for text in texts]
    taken: set[str] = set()
    for name in filter(None, given):
        if name in taken:
            raise OptionError(f"{name!r} names two sources; give each its own name")
        taken.add(name)
    return [
        spec if name else replace(spec, name=_free_name(spec.name, taken))
        for spec, name in zip(specs, given, strict=True)
    ]


def _parse_address(text: str) -> SourceSpec:
    if text == "-":
        return SourceSpec("pipe", "-", "stdin", "-")
    device = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", text, re.ASCII)
    if device:
        number = str(int(device[1]))
        return SourceSpec("webcam", number, f"cam-{number}", number)
    return _parse_url(text) if is_address(text) else _parse_path(text)


def _parse_url(text: str) -> SourceSpec:
    shown = without_credentials(text)
    try:
        address = Address.parse(text)
    except ValueError:
        raise SourceError(f"{shown}: not a valid URL; check host and port") from None
    kind = _SCHEMES.get(address.scheme)
    if kind is None:
        raise SourceError(
            f"{shown}: {address.scheme}:// cannot be watched; "
            "use rtsp://, rtsps://, http:// or https://, or pipe the video to -"
        )
    suffix = PurePosixPath(address.path).suffix.lower()
    if kind == "http" and suffix in {*VIDEO_SUFFIXES} - _STREAM_SUFFIXES:
        kind = "video_url"
    return SourceSpec(kind, address.url, _url_name(shown), shown, address.host)


def _parse_path(text: str) -> SourceSpec:
    path = Path(text)
    try:
        mode = os.stat(text).st_mode  # noqa: PTH116, Path("") is the current folder
    except (OSError, ValueError):
        like = _LIKE_A_URL.match(text)
        what = f"file, and an address begins with {like[1]}://" if like else "file, webcam or stream"
        raise SourceError(f"{shown_argument(shown_name(text))!r}: no such {what}; check it") from None
    if stat.S_ISDIR(mode):
        raise SourceError(f"{shown_name(text)}: this is a folder; name a video in it")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{shown_name(text)}: no regular file; pipe it in: maskwatch watch - < PATH")
    return SourceSpec("file", text, _clean(path.stem) or "video", shown_name(text))


def _url_name(shown: str) -> str:
    """`door-stream1` for `rtsp://***@door.local/stream1`; a numeric address stays whole.

    Takes the address without credentials, since names are printed.
    """
    try:
        address = Address.parse(shown)
    except ValueError:
        return "stream"
    host = address.host.lower()
    first = host if re.fullmatch(r"[\d.]+|.*:.*", host) else host.removeprefix("www.").split(".")[0]
    segments = [unquote(part) for part in address.path.split("/") if part]
    last = PurePosixPath(segments[-1]).stem if segments else ""
    words = [first] if not last or re.search("[=&;]", last) else [first, last]
    return _clean("-".join(words)) or "stream"


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", shown_name(text)).strip("._-")[:40].rstrip("._-")


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _split_name(text: str) -> tuple[str | None, str]:
    """`name=SOURCE` → name and SOURCE; None without a name, as for a file that exists."""
    named = _NAMED.fullmatch(text)
    return (None, text) if named is None or exists(text) else (named[1], named[2])
