"""Data sets at an address (`s3://bucket/folder`): copied to this machine once, then read as always.

A copy lies in the cache folder, in a folder for each address. Beside it is an index, a line for each file
that was copied: its name and its version, which is what the store says of it (size, checksum, time). Only
files of another version are copied again, so that an interrupted copy goes on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from maskwatch.errors import MaskwatchError, MissingExtraError, OutputError, SourceError
from maskwatch.lock import FolderLock
from maskwatch.net.addresses import is_address, without_credentials
from maskwatch.outputs import atomic_write, make_folder, output_errors, plain_name
from maskwatch.system import cache_folder, in_order
from maskwatch.text import first_line

CopyProgress: TypeAlias = Callable[[int, int | None], None]

# Files that are copied at a time: a store answers slowly, but many at once.
_THREADS = 16
# What stores call size, checksum, generation and time of change.
_VERSION_KEYS = (
    *("size", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "generation", "version_id"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class _File(NamedTuple):
    """name: relative to the folder; path: in the store; size in bytes, None where the store does not say."""

    name: str
    path: str
    size: int | None
    version: str


def local_path(source: str | os.PathLike[str], progress: CopyProgress | None = None) -> Path:
    """Where the data set of a path or an address lies on this machine.

    The folder of an address is copied into the cache folder, or an earlier copy brought up to date; one
    process of a machine copies, others wait. `file://` is no copy.

    Args:
        source: a path, or an address of a folder: `s3://`, `gs://`, `abfs://`, `https://` with an index of
            its files, or another that fsspec knows.
        progress: called with the number of files that are there and of all.

    Raises:
        MissingExtraError: fsspec is not installed.
        SourceError: the package of the store is not, or the folder cannot be read or is empty.
        OutputError: the copy cannot be written.
    """
    text = os.fspath(source)
    if not is_address(text):
        return Path(text)
    shown = without_credentials(text)
    store, root = _open_store(text, shown)
    if text.startswith("file://"):
        return Path(root)
    scheme = text.partition("://")[0]
    folder = cache_folder() / "data" / f"{scheme}-{hashlib.sha256(shown.encode()).hexdigest()[:12]}"
    copy = folder / (plain_name(PurePosixPath(unquote(root)).name, 100) or "data")
    make_folder(copy)
    with output_errors(folder), FolderLock(folder / ".lock").held():
        try:
            _bring_up_to_date(store, root, copy, folder / ".index", progress, shown)
        except MaskwatchError:
            raise
        except Exception as error:  # each store's library has other errors
            reason = f"{type(error).__name__}: {without_credentials(first_line(error))[:200]}"
            raise SourceError(
                f"{shown}: cannot be read ({reason}); check the address, the network and the credentials "
                "that the store's library finds, and run it again to go on"
            ) from None
    return copy


def _open_store(address: str, shown: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise MissingExtraError(f"{shown}: data at an address", "train") from None
    try:
        store, root = url_to_fs(address)
    except ImportError as error:
        package = getattr(error.__cause__ or error, "name", None) or first_line(error)
        raise SourceError(f"{shown}: needs the package {package}; run: pip install {package}") from None
    except Exception as error:  # an unknown scheme, or what a store's library says of the address
        reason = without_credentials(first_line(error))[:200]
        raise SourceError(
            f"{shown}: cannot be opened ({reason}); give s3://, gs://, abfs://, https:// or a folder"
        ) from None
    return store, str(root)


def _bring_up_to_date(
    store: Any, root: str, copy: Path, index_path: Path, progress: CopyProgress | None, shown: str
) -> None:
    progress = progress or (lambda done, total: None)
    store.invalidate_cache()
    files = _list(store, root, shown)
    index = _read_index(index_path)
    changed = [file for file in files if not _is_copied(file, index, copy)]
    done = len(files) - len(changed)
    progress(done, len(files))
    with index_path.open("a", encoding="utf-8") as log:
        for file, wait in in_order(lambda file: _fetch(store, file, copy, shown), changed, _THREADS):
            wait()
            log.write(json.dumps([file.name, file.version]) + "\n")
            log.flush()  # what is copied stays copied, also if this process is killed
            done += 1
            progress(done, len(files))
    _delete_others(copy, {file.name for file in files})
    with atomic_write(index_path) as part:
        part.write_text("".join(json.dumps([f.name, f.version]) + "\n" for f in files), encoding="utf-8")


def _list(store: Any, root: str, shown: str) -> list[_File]:
    """The files of a folder in the store, sorted by name."""
    web = root.startswith(("http://", "https://"))
    start = root.rstrip("/")
    try:
        found = {detail["name"]: detail for detail in _walk(store, root)}
    except FileNotFoundError:
        found = {}
    paths = [path for path in found if not path.endswith("/") and not (web and ("?" in path or "#" in path))]
    if paths == [start]:
        raise SourceError(
            f"{shown}: is one file; name its folder, or fetch an archive with maskwatch data fetch"
        )
    if not paths:
        raise SourceError(f"{shown}: holds no file, or is not there; check the address")
    details = [found[path] for path in paths]
    if web:  # an index has names only
        details = [wait() for _, wait in in_order(store.info, paths, _THREADS)]
    names = [path[len(start) :].lstrip("/") for path in paths]
    names = [_safe(unquote(name) if web else name, shown) for name in names]
    return sorted(
        _File(name, path, detail.get("size"), _version(detail))
        for name, path, detail in zip(names, paths, details, strict=True)
    )


def _walk(store: Any, folder: str) -> Iterator[Mapping[str, Any]]:
    """What the store says of each file in a folder and below.

    fsspec's own `find` leaves out folders that it cannot list; their copies would be deleted.
    """
    for detail in store.ls(folder, detail=True):
        if detail["type"] != "directory":
            yield detail
        elif detail["name"].rstrip("/") != folder.rstrip("/"):
            yield from _walk(store, detail["name"])


def _safe(name: str, shown: str) -> str:
    """A name that stays in its folder."""
    if name.startswith("/") or ".." in name.split("/") or (os.name == "nt" and set(name) & set('\\:"')):
        raise SourceError(f"{shown}: the name {name!r} leads out of the folder; rename that file")
    return name


def _version(detail: Mapping[str, Any]) -> str:
    return json.dumps({key: str(detail[key]) for key in _VERSION_KEYS if detail.get(key) is not None})


def _read_index(path: Path) -> dict[str, str]:
    """Name → version of what was copied; a line that a kill cut short counts as none."""
    index: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            name, version = json.loads(line)
        except ValueError:
            continue
        index[name] = version
    return index


def _is_copied(file: _File, index: Mapping[str, str], copy: Path) -> bool:
    path = copy / file.name
    return (
        index.get(file.name) == file.version
        and path.is_file()
        and (file.size is None or path.stat().st_size == file.size)
    )


def _fetch(store: Any, file: _File, copy: Path, shown: str) -> None:
    target = copy / file.name
    make_folder(target.parent)
    part = target.with_name(f".{hashlib.sha256(file.name.encode()).hexdigest()[:16]}.part")
    try:
        store.get_file(file.path, str(part))
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(f"{target}: cannot be written ({error.strerror}); make room") from None
        raise
    size = part.stat().st_size
    if file.size not in (None, size):
        raise SourceError(
            f"{shown}: {file.name} has {size} of {file.size} bytes, it changed while it was copied or the "
            "connection was cut; run it again to go on"
        )
    with output_errors(target):
        part.replace(target)


def _delete_others(copy: Path, names: Iterable[str]) -> None:
    """Deletes what the store no longer has, and folders that are empty then."""
    kept = {copy / name for name in names}
    for path in sorted(copy.rglob("*"), reverse=True):  # a folder after what is in it
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()
