"""Unpacks an archive from somewhere: only plain files, only below the folder, only so much.

Names, kinds and sizes are checked while unpacking, and what is counted are the bytes that really come out:
what an archive states about itself cannot be trusted.
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
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeAlias

from maskwatch.errors import SourceError
from maskwatch.outputs import writing
from maskwatch.text import reading, reason_of

_CHUNK = 1 << 20
# What comes before the data of a tar member (long names, extended headers) is read in one go.
_MOST_AT_ONCE = 4 << 20
# What macOS puts into archives for itself.
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
class Limits:
    """How much may come out of an archive.

    `ratio` is unpacked bytes by packed ones, and holds from `ratio_from` bytes on: photographs hardly shrink,
    and a small archive of text may well.
    """

    total_bytes: int = 100 << 30
    files: int = 1_000_000
    ratio: float = 100.0
    ratio_from: int = 256 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or what it is instead
    open: Callable[[], _Readable]


Progress: TypeAlias = Callable[[int], None]


def unpack(
    archive: Path, folder: Path, limits: Limits | None = None, progress: Progress | None = None
) -> int:
    """Unpacks a zip, tar, tar.gz, tar.bz2 or tar.xz into an empty folder, and gives the number of files.

    Of the files' attributes nothing is kept. What macOS adds for itself is left out.

    Args:
        archive: the file; its content decides what it is, not its name.
        folder: exists and is empty; after an error it holds what came before.
        limits: how much may come out; None means the defaults.
        progress: called with the number of files so far.

    Raises:
        SourceError: no such archive, a broken or encrypted one, or one with a name that leads out of the
            folder, with a link or device, with a name twice, or with more than `limits` allow.
        OutputError: a file cannot be written.
    """
    budget = _Budget(archive, limits or Limits())
    count = 0
    try:
        with ExitStack() as stack:
            for member in _members(archive, stack, budget):
                budget.member()
                relative = _safe_name(archive, member)
                if relative is None:
                    continue
                _write(archive, member, folder / relative)
                count += member.kind == "file"
                if progress:
                    progress(count)
    except _BROKEN as error:
        raise SourceError(f"{archive}: broken archive ({reason_of(error)}); fetch it again") from error
    except OSError as error:  # gzip and bz2 raise it for broken data; what writing raises is turned before
        raise SourceError(f"{archive}: cannot be read ({reason_of(error)}); fetch it again") from error
    return count


class _Budget:
    """Counts what came out of an archive, and stops it where that is too much."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._archive, self._limits = archive, limits
        self._packed = max(1, archive.stat().st_size) if archive.is_file() else 1
        self._bytes = self._members = 0

    def member(self) -> None:
        self._members += 1
        if self._members > self._limits.files:
            most = f"{self._limits.files} files"
            raise SourceError(f"{self._archive}: more than {most} in it; if you trust it, unpack it yourself")

    def take(self, count: int) -> None:
        self._bytes += count
        limits = self._limits
        if self._bytes > limits.total_bytes:
            size = f"{limits.total_bytes / (1 << 30):g} GiB"
            raise SourceError(
                f"{self._archive}: unpacks to more than {size}; if you trust it, unpack it yourself"
            )
        if self._bytes > max(limits.ratio_from, limits.ratio * self._packed):
            raise SourceError(
                f"{self._archive}: unpacks to more than {limits.ratio:g} times its size, as no pictures do; "
                "if you trust it, unpack it yourself"
            )


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
    def opened(info: zipfile.ZipInfo) -> _Readable:
        return _Counted(archive, packed.open(info), budget)

    for info in packed.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else "file"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "link" if stat.S_ISLNK(mode) else "device"
        if info.flag_bits & 1:
            raise SourceError(
                f"{archive}: {info.filename!r} is encrypted; unpack it yourself, it has a password"
            )
        yield _Member(info.filename, kind, partial(opened, info))


def _tar_members(packed: _Counted) -> Iterator[_Member]:
    def opened(info: tarfile.TarInfo) -> _Readable:
        file: _Readable | None = tar.extractfile(info)
        assert file is not None, "asked for files only"
        return file

    with tarfile.open(fileobj=packed, mode="r:") as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            tar.members.clear()  # tarfile keeps what it has seen, be it a million
            kind = "folder" if info.isdir() else "file" if info.isreg() and not info.sparse else "device"
            if info.issym() or info.islnk():
                kind = "link"
            yield _Member(info.name, kind, partial(opened, info))
    while packed.read(_CHUNK):  # a tar ends before its gzip does, and the checksum comes last
        pass


def _safe_name(archive: Path, member: _Member) -> PurePosixPath | None:
    """Where a member belongs below the folder; None for one to leave out."""
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
        with writing(target):
            (target if member.kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
            if member.kind == "folder":
                return
            file = target.open("xb")
    except Exception as error:
        if isinstance(error.__cause__, FileExistsError | NotADirectoryError):
            raise SourceError(f"{archive}: {member.name!r} is in it twice; unpack it yourself") from None
        raise
    source = member.open()
    with file:
        while chunk := source.read(_CHUNK):
            with writing(target):
                file.write(chunk)


class _Counted:
    """Bytes as they come out of an archive; the headers of a tar too, since zeros pack into nothing."""

    def __init__(self, archive: Path, file: _Readable, budget: _Budget) -> None:
        self._archive, self._file, self._budget = archive, file, budget
        self._position = 0

    def read(self, size: int) -> bytes:
        if size > _MOST_AT_ONCE:
            raise SourceError(f"{self._archive}: a header of {size} bytes; do not trust this archive")
        data = self._file.read(size)
        self._position += len(data)
        self._budget.take(len(data))
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Forward only: tarfile, which goes from member to member, does nothing else."""
        if position < self._position:
            raise tarfile.ReadError("it goes backwards")
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        return self._position
