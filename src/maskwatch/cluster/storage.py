"""Files on this machine and in object stores, through pyarrow's file systems and fsspec's."""

from __future__ import annotations

import fnmatch
import re
import secrets
from functools import cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from maskwatch.errors import SourceError
from maskwatch.net.addresses import is_address, without_credentials

_RENAMING = frozenset(["local", "hdfs"])
"""File systems where a file shows while it is written; elsewhere it appears when it is complete."""


def open_storage(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or an address, and the path in it.

    Raises:
        SourceError: the scheme is unknown, its package is missing, or there are no credentials.
    """
    if not is_address(place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    scheme, _, rest = place.partition("://")
    # One connection for each bucket, not for each file.
    root, _, path = rest.partition("/")
    if scheme == "file":
        return fs.LocalFileSystem(), f"/{path}"
    filesystem, base = _open_root(f"{scheme}://{root}")
    return filesystem, f"{base.rstrip('/')}/{path}" if base.strip("/") else path


@cache
def _open_root(root: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, base = fs.FileSystem.from_uri(root)
        return filesystem, str(base)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    except OSError as error:
        raise SourceError(f"{without_credentials(root)}: {_first_line(error)}; check it") from None
    try:
        import fsspec

        found, base = fsspec.core.url_to_fs(root)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), str(base)
    except (ImportError, ValueError, OSError) as error:
        raise SourceError(f"{without_credentials(root)}: {_first_line(error)}; check the scheme") from None


def read_file(place: str) -> bytes:
    """The bytes of a file at an address; raises `SourceError`."""
    filesystem, path = open_storage(place)
    try:
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except (OSError, pa.ArrowException) as error:
        shown = without_credentials(place)
        raise SourceError(f"{shown}: cannot be read ({_first_line(error)}); check it") from None


def list_files(place: str, suffixes: frozenset[str]) -> list[str]:
    """The files with these suffixes in a remote folder and below it, sorted; one file; or those of a pattern.

    `*` and `?` in a pattern also match `/`. Hidden files are left out.

    Raises:
        SourceError: there is none.
    """
    shown = without_credentials(place)
    head, magic, _ = place.partition("*")
    folder = head.rpartition("/")[0] if magic else place
    filesystem, path = open_storage(folder)
    try:
        if filesystem.get_file_info(path).type == fs.FileType.File:
            return [place]
        infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{shown}: cannot be listed ({_first_line(error)}); check it") from None
    names = (_address(folder, path, info.path) for info in infos if info.type == fs.FileType.File)
    wanted = re.compile(fnmatch.translate(place)) if magic else None
    found = sorted(
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in suffixes
        and not PurePosixPath(name).name.startswith(".")
        and (wanted is None or wanted.match(name))
    )
    if not found:
        raise SourceError(f"{shown}: no picture or video in it; check the address")
    return found


def _address(folder: str, path: str, found: str) -> str:
    """The address of a file that was found below `folder`, which is `path` in its file system."""
    below = found.lstrip("/").removeprefix(path.strip("/"))
    return f"{folder.rstrip('/')}/{below.lstrip('/')}"


def write_whole(filesystem: fs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    """Writes a file that readers see complete or not at all, and that replaces one of the same name."""
    if filesystem.type_name not in _RENAMING:
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
    with filesystem.open_output_stream(part) as stream:
        stream.write(data)
    filesystem.move(part, path)


def _first_line(error: BaseException) -> str:
    return without_credentials(str(error).strip().partition("\n")[0]).rstrip(".") or type(error).__name__
