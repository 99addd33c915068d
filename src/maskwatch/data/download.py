"""Published data sets: fetched, checked, unpacked, all or nothing."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

from maskwatch.errors import OptionError
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.net.addresses import Address, shown_argument, without_credentials
from maskwatch.net.archives import Limits, unpack
from maskwatch.net.resume import PAUSES_S, Progress, fetch_file
from maskwatch.outputs import MARK, check_new_folder, make_folder, new_folder, output_errors

_ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".zip", ".tar")
_ANNOTATION_SUFFIXES = (".xml", ".json", ".txt", ".csv", ".tfrecord", ".record")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Published:
    """An archive that has a name here. `sha256` is None where its publisher names none."""

    url: str
    sha256: str | None = None


KNOWN: Mapping[str, Published] = {
    "face_mask_dataset": Published(
        "https://github.com/myatmyintzuthin/face_mask_detection/releases/download/v1.0.0/face_mask_dataset.zip"
    ),
}


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        folder: where it is.
        sha256: of the archive.
        pinned: whether it was compared with a checksum that was known before.
        pictures: number of picture files.
        annotations: number of files by suffix, such as {".xml": 853}; the commonest first.
    """

    folder: Path
    sha256: str
    pinned: bool
    pictures: int
    annotations: dict[str, int]


def fetch_data(
    source: str,
    out: Path | None = None,
    *,
    sha256: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    limits: Limits | None = None,
    pauses_s: tuple[float, ...] = PAUSES_S,
) -> Fetched:
    """Downloads the archive of a data set and unpacks it into a new folder.

    A folder that holds all the rest of an archive is left out: its content is what the new folder holds.

    Args:
        source: a name out of `KNOWN`, or the http(s) address of a zip, tar, tar.gz, tar.bz2 or tar.xz.
        out: the new folder; None names it after the archive, in the current folder.
        sha256: of the archive, in hexadecimal; None takes what is known, if anything.
        force: replace a folder that maskwatch made.
        progress: called with the bytes so far and the bytes of all, if known.
        limits: how much may come out of the archive.
        pauses_s: waits between tries.

    Raises:
        OptionError: the name is not known, or `sha256` is no checksum.
        SourceError: the archive cannot be fetched, is another one, or cannot be unpacked safely.
        OutputError: the folder exists, or cannot be written.
    """
    published = _find(source)
    wanted = sha256.strip() if sha256 is not None else published.sha256
    if wanted is not None and not _SHA256.fullmatch(wanted):
        raise OptionError(f"--sha256 {wanted!r} is no SHA-256; give its 64 hexadecimal digits")
    folder = out if out is not None else Path(_stem(published.url))
    check_new_folder(folder, force=force)
    make_folder(folder.parent)
    archive = folder.with_name(f"{folder.name}.archive")
    try:
        found = fetch_file(published.url, archive, sha256=wanted, progress=progress, pauses_s=pauses_s)
        with new_folder(folder, force=force) as part:
            unpack(archive, part, limits)
            _lift(part)
            _mark(part, without_credentials(published.url), found)
    finally:
        archive.unlink(missing_ok=True)  # what came in part stays under another name
    return Fetched(folder, found, wanted is not None, *_contents(folder))


def _find(source: str) -> Published:
    if source.lower().startswith(("http://", "https://")):
        return Published(source)
    if source not in KNOWN:
        raise OptionError(
            f"{shown_argument(source)!r} is neither a known data set nor an http(s) address; "
            f"known: {', '.join(KNOWN)}; of a file that you have, unpack it and run maskwatch data check"
        )
    return KNOWN[source]


def _stem(url: str) -> str:
    try:
        name = PurePath(unquote(Address.parse(url).path)).name
    except ValueError as error:
        raise OptionError(f"{without_credentials(url)}: this is no URL ({error}); check it") from None
    suffix = next((suffix for suffix in _ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]).strip(". ") or "dataset"


def _lift(folder: Path) -> None:
    """What lies in the only folder of a folder comes up one level."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    with output_errors(folder):
        inner = entries[0].rename(folder / f"{MARK}.lift")  # it may hold something of its own name
        for entry in inner.iterdir():
            entry.rename(folder / entry.name)
        inner.rmdir()


def _mark(folder: Path, url: str, sha256: str) -> None:
    """Says in the mark of the folder where it came from."""
    with output_errors(folder / MARK):
        day = time.strftime("%Y-%m-%d", time.gmtime())
        (folder / MARK).write_text(f"url {url}\nsha256 {sha256}\nfetched {day}\n", "utf-8")


def _contents(folder: Path) -> tuple[int, dict[str, int]]:
    suffixes = Counter(path.suffix.lower() for path in folder.rglob("*") if path.is_file())
    pictures = sum(suffixes[suffix] for suffix in PICTURE_SUFFIXES)
    counts = {suffix: count for suffix, count in suffixes.most_common() if suffix in _ANNOTATION_SUFFIXES}
    return pictures, counts
