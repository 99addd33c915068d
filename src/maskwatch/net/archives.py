"""Unpacks an untrusted archive: regular files only, below the folder only, within limits.

Names, kinds and sizes are checked while unpacking. The bytes that come out are counted, since the sizes in an
archive cannot be trusted.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeAlias

from maskwatch.errors import OutputError, SourceError
from maskwatch.outputs import output_errors
from maskwatch.text import reading, reason_of

_CHUNK = 1 << 20
# A tar member's long names and extended headers are read at once.
_MAX_HEADER_BYTES = 4 << 20
# Metadata of macOS.
_MAC_FOLDER, _MAC_FILES = "__MACOSX", ("._", ".DS_Store")
_TAR_MAGIC = (257, b"ustar")
_COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeError,
    ValueError,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """How much may come out of an archive.

    `ratio` is unpacked by packed bytes. It applies from `ratio_from` unpacked bytes on, since a small archive
    of text may have a high one.
    """

    total_bytes: int = 100 << 30
    files: int = 1_000_000
    ratio: float = 100.0
    ratio_from: int = 256 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", "link" or "device"
    content: _Readable | None  # of a file


UnpackProgress: TypeAlias = Callable[[int], None]


def unpack(
    archive: Path, folder: Path, limits: ArchiveLimits | None = None, progress: UnpackProgress | None = None
) -> int:
    """Unpacks a zip, tar, tar.gz, tar.bz2 or tar.xz into an empty folder, and returns the number of files.

    The format is recognised by content. Attributes of files and metadata of macOS are dropped.

    Args:
        archive: the file.
        folder: exists and is empty; after an error it holds what came before.
        limits: how much may come out; None for the defaults.
        progress: called with the number of files so far.

    Raises:
        SourceError: the archive is missing, broken, encrypted or over the limits; or it holds a name that
            leads out of the folder, a link, a device, or a name twice.
        OutputError: a file cannot be written.
    """
    budget = _Budget(archive, limits or ArchiveLimits())
    count = 0
    try:
        with ExitStack() as stack:
            for member in _members(archive, stack, budget):
                budget.add_member()
                relative = _safe_name(archive, member)
                if relative is None:
                    continue
                _write(archive, member, folder / relative)
                count += member.kind == "file"
                if progress:
                    progress(count)
    except _BROKEN as error:
        raise SourceError(f"{archive}: broken archive ({reason_of(error)}); fetch it again") from error
    except OSError as error:  # of gzip and bz2 for broken data; those of writing are OutputErrors already
        raise SourceError(f"{archive}: cannot be read ({reason_of(error)}); fetch it again") from error
    return count


class _Budget:
    """Counts what comes out of an archive, and raises `SourceError` when it is too much."""

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self._archive, self._limits = archive, limits
        self._packed = max(1, archive.stat().st_size) if archive.is_file() else 1
        self._bytes = self._members = 0

    def add_member(self) -> None:
        self._members += 1
        if self._members > self._limits.files:
            raise self._error(f"more than {self._limits.files} files in it")

    def add_bytes(self, count: int) -> None:
        self._bytes += count
        limits = self._limits
        if self._bytes > limits.total_bytes:
            raise self._error(f"unpacks to more than {limits.total_bytes / (1 << 30):g} GiB")
        if self._bytes > max(limits.ratio_from, limits.ratio * self._packed):
            raise self._error(f"unpacks to more than {limits.ratio:g} times its size, as no pictures do")

    def _error(self, reason: str) -> SourceError:
        return SourceError(f"{self._archive}: {reason}; if you trust it, unpack it yourself")


def _members(archive: Path, stack: ExitStack, budget: _Budget) -> Iterator[_Member]:
    with reading(archive, SourceError, "check the path"):
        file = stack.enter_context(archive.open("rb"))
    head = file.read(512)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_members(archive, stack.enter_context(zipfile.ZipFile(file)), budget)
    for magic, opener in _COMPRESSED:
        if head.startswith(magic):
            return _tar_members(_Counted(archive, stack.enter_context(closing(opener(file))), budget))
    if head[_TAR_MAGIC[0] :].startswith(_TAR_MAGIC[1]):
        return _tar_members(_Counted(archive, file, budget))
    raise SourceError(f"{archive}: neither zip nor tar, tar.gz, tar.bz2 or tar.xz; check what was fetched")


def _zip_members(archive: Path, packed: zipfile.ZipFile, budget: _Budget) -> Iterator[_Member]:
    for info in packed.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else "file"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "link" if stat.S_ISLNK(mode) else "device"
        if info.flag_bits & 1:
            raise SourceError(
                f"{archive}: {info.filename!r} is encrypted; unpack it yourself, it has a password"
            )
        content = _Counted(archive, packed.open(info), budget) if kind == "file" else None
        yield _Member(info.filename, kind, content)


def _tar_members(packed: _Counted) -> Iterator[_Member]:
    with tarfile.open(fileobj=packed, mode="r:") as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            tar.members.clear()  # tarfile would keep a million of them
            kind = "folder" if info.isdir() else "file" if info.isreg() and not info.sparse else "device"
            if info.issym() or info.islnk():
                kind = "link"
            yield _Member(info.name, kind, tar.extractfile(info) if kind == "file" else None)
    while packed.read(_CHUNK):  # a tar ends before its gzip does, and the checksum comes last
        pass


def _safe_name(archive: Path, member: _Member) -> PurePosixPath | None:
    """A member's path below the folder; None to skip it."""
    name = member.name.replace("\\", "/")  # some Windows programs write these
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or drive or ".." in path.parts or "\0" in name:
        raise SourceError(
            f"{archive}: the name {member.name!r} leads out of the folder; do not trust this archive"
        )
    if member.kind not in ("file", "folder"):
        raise SourceError(
            f"{archive}: {member.name!r} is a {member.kind}, and only files and folders are unpacked; "
            "do not trust this archive, or unpack it yourself"
        )
    if not path.parts or path.parts[0] == _MAC_FOLDER or path.name.startswith(_MAC_FILES):
        return None
    return path


def _write(archive: Path, member: _Member, target: Path) -> None:
    try:
        with output_errors(target):
            (target.parent if member.content else target).mkdir(parents=True, exist_ok=True)
            if member.content is None:
                return
            file = target.open("xb")
    except OutputError as error:
        if isinstance(error.__cause__, FileExistsError | NotADirectoryError):
            raise SourceError(f"{archive}: {member.name!r} is in it twice; unpack it yourself") from None
        raise
    with file:
        while chunk := member.content.read(_CHUNK):
            with output_errors(target):
                file.write(chunk)


class _Counted:
    """Counts the bytes out of an archive, headers of a tar included, since zeros pack to nothing."""

    def __init__(self, archive: Path, file: _Readable, budget: _Budget) -> None:
        self._archive, self._file, self._budget = archive, file, budget
        self._position = 0

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER_BYTES:
            raise SourceError(f"{self._archive}: a header of {size} bytes; do not trust this archive")
        data = self._file.read(size)
        self._position += len(data)
        self._budget.add_bytes(len(data))
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Forward only: tarfile reads member by member."""
        if position < self._position:
            raise tarfile.ReadError("it goes backwards")
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        return self._position
