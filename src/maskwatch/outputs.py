"""Result files: nothing is overwritten without --force, and nothing is left half written."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from maskwatch._version import __version__
from maskwatch.errors import OutputError
from maskwatch.text import reason_of

STAMP = "%Y%m%dT%H%M%SZ"
"""The time in names of files, UTC."""

MARK = ".maskwatch"
"""A file in every folder that `new_folder` made; --force replaces no other folder."""


def check_targets(targets: Sequence[Path], sources: Iterable[Path], *, force: bool) -> None:
    """Checks that files can be written, before the work begins.

    Raises:
        OutputError: a target exists without `force`, is a folder or a source, or its folder is not writable.
    """
    originals = {os.path.realpath(source) for source in sources}
    existing = []
    for target in targets:
        with output_errors(target):  # a name too long shows here
            if target.is_dir():
                raise OutputError(f"{target}: this is a folder; name a file")
            if target.is_file():
                existing.append(target)
        if os.path.realpath(target) in originals:
            raise OutputError(f"{target}: this would overwrite a source; write somewhere else")
    if existing and not force:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{more}: exists already; write somewhere else, or overwrite with --force"
        )
    for folder in dict.fromkeys(target.parent for target in targets):
        with output_errors(folder):
            _check_folder(folder)


def make_folder(folder: Path) -> None:
    """Creates a folder with its parents; raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder}: cannot create this folder ({reason}); choose another one") from None


def plain_name(text: str, longest: int) -> str:
    """A part of a file name, without what is special to a file system or a shell; may be empty."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)[:longest].strip(".")


def keep_from_others(path: Path) -> None:
    """Leaves a file's permissions to its owner and group only, where the file system has any."""
    with contextlib.suppress(OSError):
        path.chmod(path.stat().st_mode & 0o770)


def is_still_at(path: Path, status: os.stat_result) -> bool:
    """Whether the file of this status is still the one at `path`; no one has moved or deleted it."""
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _short(name: str) -> str:
    """The start of a name: a longer one may exceed what a file system allows, mostly 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:100]).encode("utf-8", "ignore").decode()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; the file is renamed to `path` at the end, or deleted on an error.

    Raises:
        OutputError: the file cannot be renamed.
    """
    part = path.with_name(f".{_short(path.stem)}.part{path.suffix}")
    try:
        yield part
        with output_errors(path):
            if part.exists():
                part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def durable_write(path: Path, data: bytes) -> None:
    """Replaces a file, or creates it; when the call returns, the new content is on disk.

    Until then, and after an error or a power cut, the old file is there as it was.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    part = path.with_name(f".{_short(path.name)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            shutil.copymode(path, part)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def durable_append(path: Path, data: bytes) -> None:
    """Appends to a file; when the call returns, the data are on disk. Raises OSError."""
    created = not path.exists()
    with path.open("ab") as file:
        start = file.tell()
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.truncate(path, start)
            raise
    if created:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Puts the names in a folder on disk, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As `atomic_write`, but creates the folder and raises an `OutputError` for an `OSError` in the block."""
    make_folder(path.parent)
    with atomic_write(path) as part, output_errors(path):
        yield part


def check_new_folder(path: Path, *, force: bool, sources: Iterable[Path] = ()) -> None:
    """Checks that `new_folder` can write a folder.

    Args:
        path: must not exist or be empty, except with `force`.
        force: allows to replace a folder that `new_folder` made; never another, which may be the only copy.
        sources: files and folders that are read, and must not be replaced.

    Raises:
        OutputError: it cannot.
    """
    whole = Path(os.path.realpath(path))
    for source in sources:
        folder = Path(os.path.realpath(source if source.is_dir() else source.parent))
        if whole == folder or whole in folder.parents:
            raise OutputError(f"{path}: this would replace {source}, which is read; write somewhere else")
    with output_errors(path.parent):
        _check_folder(path.parent)
    with output_errors(path):
        empty = path.is_dir() and not any(path.iterdir())
    if not path.is_symlink() and (not path.exists() or empty):
        return
    if not force:
        raise OutputError(f"{path}: exists already; write somewhere else, or replace it with --force")
    if path.is_symlink() or not (path / MARK).is_file():
        raise OutputError(
            f"{path}: was not made by maskwatch, so --force does not replace it; move it away, or write "
            "somewhere else"
        )


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Gives a temporary folder to write to; it is renamed to `path` at the end, or deleted on an error.

    Args:
        path: must not exist or be empty, except with `force`.
        force: replaces the folder of an earlier call, once the new one is complete.

    Raises:
        OutputError: it exists, or cannot be created.
    """
    check_new_folder(path, force=force)
    make_folder(path.parent)
    part = _hidden_sibling(path, "part")
    with output_errors(path.parent):
        part.mkdir()
    try:
        yield part
        with output_errors(path):
            if not (part / MARK).exists():  # the caller may have written more into it
                (part / MARK).write_text(f"made by maskwatch {__version__}\n", encoding="utf-8")
            _swap(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(part: Path, path: Path) -> None:
    """Renames a folder; one that had the name before is deleted last."""
    if not path.is_dir():
        part.replace(path)
        return
    old = path.rename(_hidden_sibling(path, "old"))
    try:
        part.replace(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _hidden_sibling(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name[:100]}.{kind}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` in its block, except a broken pipe, into an `OutputError` that names the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}); write somewhere else") from error


def _check_folder(folder: Path) -> None:
    """Checks that this user may write to a folder, or to the nearest existing one above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: this is a file, not a folder; choose another place for the results")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write here; choose another place for the results")
