"""Result files: where they go, that nothing is overwritten unasked, and that none is left half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from maskwatch._version import __version__
from maskwatch.errors import OutputError
from maskwatch.text import reason_of

MARK = ".maskwatch"
"""In every folder that `new_folder` made: --force replaces no other."""


def check_targets(targets: Sequence[Path], sources: Iterable[Path], *, force: bool) -> None:
    """Checks that the files can be written and may be.

    Raises:
        OutputError: one exists and `force` is not given, is a folder, is a source itself or the same as
            another target, or lies where nothing can be written.
    """
    originals = {os.path.realpath(source) for source in sources}
    existing = []
    for target in targets:
        with writing(target):  # a name too long shows here
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
        with writing(folder):
            _check_folder(folder)


def make_folder(folder: Path) -> None:
    """Creates a folder with its parents.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder}: cannot create this folder ({reason}); choose another one") from None


def keep_from_others(path: Path) -> None:
    """Takes a file's permissions from all but its owner and group, where the file system has any."""
    with contextlib.suppress(OSError):
        path.chmod(path.stat().st_mode & 0o770)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; the file gets its final name at the end, or is deleted on an error.

    Raises:
        OutputError: the file cannot get its name.
    """
    part = path.with_name(f".{path.stem[:100]}.part{path.suffix}")
    try:
        yield part
        with writing(path):
            if part.exists():
                part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As `replacing`, for a file that its block writes at once: creates its folder, and names it in errors.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(path.parent)
    with replacing(path) as part, writing(path):
        yield part


def check_new_folder(path: Path, *, force: bool, sources: Iterable[Path] = ()) -> None:
    """Checks that a folder can be written where none is, or an empty one, or with `force` one of ours.

    Args:
        path: the folder.
        force: replace a folder that `new_folder` made; never another, which may be the only copy.
        sources: files and folders that are read, and must not go with it.

    Raises:
        OutputError: it cannot, or lies where nothing can be written.
    """
    whole = Path(os.path.realpath(path))
    for source in sources:
        folder = Path(os.path.realpath(source if source.is_dir() else source.parent))
        if whole == folder or whole in folder.parents:
            raise OutputError(f"{path}: this would replace {source}, which is read; write somewhere else")
    with writing(path.parent):
        _check_folder(path.parent)
    with writing(path):
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
    """Gives a temporary folder to write to; it gets its final name at the end, or is deleted on an error.

    Args:
        path: must not exist, or be an empty folder.
        force: what an earlier call left there is replaced, once the new one is complete.

    Raises:
        OutputError: it exists, or cannot be made.
    """
    check_new_folder(path, force=force)
    make_folder(path.parent)
    with writing(path.parent):
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.part-", dir=path.parent))
    try:
        yield part
        with writing(path):
            if not (part / MARK).exists():  # the caller may have said more in it
                (part / MARK).write_text(f"made by maskwatch {__version__}\n", encoding="utf-8")
            part.chmod(0o777 & ~_umask())  # mkdtemp's own is for one user alone
            _swap(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(part: Path, path: Path) -> None:
    """Gives a folder its name; what had it before goes only when that is done."""
    if not path.is_dir():
        part.replace(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.old-", dir=path.parent))
    old = path.rename(aside / "old")
    try:
        part.replace(path)
    except BaseException:
        old.rename(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` in its block into an `OutputError` that names the file.

    A pipe whose reader has gone is left as it is.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason_of(error)}); write somewhere else") from error


def _check_folder(folder: Path) -> None:
    """The nearest existing folder above must be one in which this user may write."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: this is a file, not a folder; choose another place for the results")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write here; choose another place for the results")
