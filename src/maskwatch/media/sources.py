"""Finds pictures and videos: file, folder, glob, URL, standard input → a list of sources."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePath
from typing import Literal
from urllib.parse import unquote

from maskwatch.errors import SourceError
from maskwatch.media.formats import (
    PICTURE_SUFFIXES,
    UNSUPPORTED_SUFFIXES,
    VIDEO_SUFFIXES,
    WRITABLE_SUFFIXES,
    is_animation,
    is_picture,
)
from maskwatch.media.images import UInt8Array, read_image
from maskwatch.net.addresses import Address, is_address, shown_argument, without_credentials


@dataclass(frozen=True)
class Source:
    """One picture or video to read.

    Attributes:
        name: for messages and records, without user and password.
        kind: "picture", "video", or "unreadable" for a folder that cannot be listed.
        relative: path of its result below an output folder.
        path: the file; None for a URL and for standard input.
        url: with user and password; None if it is not a URL.
    """

    name: str
    kind: Literal["picture", "video", "unreadable"]
    relative: PurePath
    path: Path | None = None
    url: str | None = field(default=None, repr=False)

    def load_picture(self) -> UInt8Array:
        """Reads a picture: uint8 (H, W, 3) RGB. Raises `ImageError` and `SourceError`."""
        return read_image(self.read(), name=self.name)

    def is_regular(self) -> bool:
        """Whether it is a file on disk, which can be read at any time."""
        return self.path is not None and self.path.is_file()

    def read(self) -> Path | bytes:
        """The path of a file; the bytes of an address or of standard input. Raises `SourceError`."""
        if self.kind == "unreadable":
            raise SourceError(f"{self.name}: the folder cannot be listed; check its permissions")
        if self.path is not None:
            return self.path
        if self.url is None:
            return read_stdin()
        from maskwatch.net.fetch import fetch

        return fetch(self.url)


def find_sources(specs: Sequence[str], *, leave_out: Path | None = None) -> list[Source]:
    """Lists the pictures and videos that `specs` stand for, each file once, in the order given.

    A folder gives the pictures and videos in it and its subfolders, by suffix, without hidden files. A file
    that is named, or matched by a glob, may have any suffix. Nothing is decoded yet.

    Args:
        specs: paths, folders, globs (`**` for any depth), http(s) URLs, or `-` for standard input.
        leave_out: a folder that is skipped inside other folders: that of the results.

    Raises:
        SourceError: a spec gives no picture or video.
    """
    found: dict[object, Source] = {}
    for spec in specs:
        for source in _find(spec, leave_out, prefix_folder=len(specs) > 1):
            found.setdefault(os.path.realpath(source.path) if source.path else source.url, source)
    if not found:
        named = ", ".join(map(shown_argument, specs))
        raise SourceError(f"nothing to do: no picture or video in {named}; name one")
    return list(found.values())


def plan_targets(sources: Iterable[Source], folder: Path) -> dict[Source, Path]:
    """The result file of each source, at its relative path below `folder`, with a suffix that can be written.

    Sources with the same path, ignoring case, get `name-2.jpg` and so on.
    """
    taken: set[str] = set()
    targets = {}
    for source in sources:
        names = (_with_suffix(source, f"-{number}" if number > 1 else "") for number in count(1))
        relative = next(name for name in names if str(name).casefold() not in taken)
        taken.add(str(relative).casefold())
        targets[source] = folder / relative
    return targets


def read_stdin() -> bytes:
    """Everything on standard input; raises `SourceError` for a terminal, or more than `fetch.MAX_BYTES`."""
    from maskwatch.net.fetch import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("-: nothing is piped to standard input; use: maskwatch detect - < photo.jpg")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SourceError(f"-: more than {MAX_BYTES >> 20} MiB; pass the file by its name")
    return data


def shown_name(path: str | Path) -> str:
    """A path as text for messages and records; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _find(spec: str, leave_out: Path | None, *, prefix_folder: bool) -> list[Source]:
    if spec == "-":
        return [Source("-", "picture", PurePath("stdin"))]
    if is_address(spec):
        return [_of_url(spec)]
    path = Path(spec)
    if spec and os.path.isdir(path):  # noqa: PTH112, unlike Path it takes names of any length
        sources = _in_folder(path, PurePath(Path(os.path.realpath(path)).name if prefix_folder else ""))
        return _without(sources, leave_out, path)
    if spec and os.path.exists(path):  # noqa: PTH110
        return [_file(path, PurePath(path.name))]
    if glob.has_magic(spec):
        return _in_glob(spec, leave_out)
    raise SourceError(f"{shown_argument(shown_name(spec))!r}: no such file or folder; check the path")


def _with_suffix(source: Source, addition: str) -> PurePath:
    relative = source.relative
    suffix = relative.suffix
    if source.kind == "video":
        suffix = ".mp4"
    elif suffix.lower() not in WRITABLE_SUFFIXES:
        suffix = ".png"
    return relative.with_name(f"{relative.stem}{addition}{suffix}")


def _in_folder(folder: Path, prefix: PurePath) -> list[Source]:
    unreadable: list[Path] = []
    sources: list[Source] = []
    wanted = {*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, *UNSUPPORTED_SUFFIXES}
    for root, folders, names in os.walk(folder, onerror=lambda e: unreadable.append(Path(e.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        found = [path for path in paths if path.suffix.lower() in wanted]
        sources += [_file(path, prefix / path.relative_to(folder)) for path in found]
    sources += [Source(shown_name(path), "unreadable", PurePath(path.name), path) for path in unreadable]
    if not sources:
        raise SourceError(f"{shown_name(folder)}: no picture or video in this folder; check the path")
    return sources


def _in_glob(pattern: str, leave_out: Path | None) -> list[Source]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207, takes any
    files = [path for path in matches if not path.is_dir()]
    if not files:
        shown = shown_argument(pattern)
        raise SourceError(f"{shown!r}: the pattern matches no file; check it, and quote ** for the shell")
    fixed = Path(re.split(r"[*?\[]", pattern, maxsplit=1)[0])
    root = fixed if fixed.is_dir() else fixed.parent
    sources = [_file(path, PurePath(os.path.relpath(path, root))) for path in files]
    return _without(sources, leave_out, root)


def _without(sources: list[Source], folder: Path | None, root: Path) -> list[Source]:
    """The sources outside `folder`; all of them where `root` is inside, to report them as overwritten."""
    if folder is None or _is_in(root, folder):
        return sources
    return [source for source in sources if source.path is None or not _is_in(source.path, folder)]


def _file(path: Path, relative: PurePath) -> Source:
    suffix = path.suffix.lower()
    picture = suffix in PICTURE_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES
    picture |= suffix not in VIDEO_SUFFIXES and (not path.is_file() or is_picture(path))
    picture &= not (path.is_file() and is_animation(path))
    return Source(shown_name(path), "picture" if picture else "video", relative, path)


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _of_url(url: str) -> Source:
    shown = without_credentials(url)
    try:
        address = Address.parse(url)
    except ValueError as error:
        raise SourceError(f"{shown}: this is not a URL ({error}); check it") from None
    if address.scheme not in ("http", "https"):
        raise SourceError(f"{shown}: only http and https URLs can be read; download the file first")
    name = re.sub(r"[^\w. -]+", "_", PurePath(unquote(address.path)).name).strip(". ")[:100]
    return Source(shown, "picture", PurePath(name or "picture"), url=url)
