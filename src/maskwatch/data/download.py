"""Downloads published data sets, checks and unpacks them, all or nothing."""

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
from maskwatch.net.archives import ArchiveLimits, unpack
from maskwatch.net.resume import PAUSES_S, DownloadProgress, fetch_file
from maskwatch.outputs import MARK, check_new_folder, make_folder, new_folder, output_errors

_ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".zip", ".tar")
_ANNOTATION_SUFFIXES = (".xml", ".json", ".txt", ".csv", ".tfrecord", ".record")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


_PROJECT = "https://github.com/myatmyintzuthin/face_mask_detection"
KNOWN: Mapping[str, str] = {
    "face_mask_dataset": f"{_PROJECT}/releases/download/v1.0.0/face_mask_dataset.zip",
}
"""Name → address of an archive."""


@dataclass(frozen=True)
class FetchedDataset:
    """A downloaded data set.

    folder: where it is; sha256: of the archive; pinned: it was compared with a known checksum; pictures:
    number of image files; annotations: number of files by suffix, {".xml": 853}, the commonest first.
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
    progress: DownloadProgress | None = None,
    limits: ArchiveLimits | None = None,
    pauses_s: tuple[float, ...] = PAUSES_S,
) -> FetchedDataset:
    """Downloads the archive of a data set and unpacks it into a new folder.

    A single folder at the top of the archive is left out: the new folder replaces it.

    Args:
        source: a name in `KNOWN`, or the http(s) address of a zip, tar, tar.gz, tar.bz2 or tar.xz.
        out: the new folder; None names it after the archive, in the current folder.
        sha256: of the archive, in hexadecimal; None does not check it.
        force: replace a folder that maskwatch made.
        progress: called with the bytes so far and in total, if known.
        limits: of the unpacked size.
        pauses_s: waits between tries.

    Raises:
        OptionError: unknown name, or `sha256` is not a checksum.
        SourceError: the archive cannot be fetched, has another checksum, or cannot be unpacked safely.
        OutputError: the folder exists, or cannot be written.
    """
    url = source if source.lower().startswith(("http://", "https://")) else _known(source)
    wanted = None if sha256 is None else sha256.strip()
    if wanted is not None and not _SHA256.fullmatch(wanted):
        raise OptionError(f"--sha256 {wanted!r} is not a SHA-256; give its 64 hexadecimal digits")
    folder = out if out is not None else Path(_stem(url))
    check_new_folder(folder, force=force)
    make_folder(folder.parent)
    archive = folder.with_name(f"{folder.name}.archive")
    try:
        found = fetch_file(url, archive, sha256=wanted, progress=progress, pauses_s=pauses_s)
        with new_folder(folder, force=force) as part:
            unpack(archive, part, limits)
            _lift(part)
            with output_errors(part / MARK):
                day = time.strftime("%Y-%m-%d", time.gmtime())
                origin = f"url {without_credentials(url)}\nsha256 {found}\nfetched {day}\n"
                (part / MARK).write_text(origin, "utf-8")
    finally:
        archive.unlink(missing_ok=True)  # a partial download has another name, and stays
    return FetchedDataset(folder, found, wanted is not None, *_contents(folder))


def _known(name: str) -> str:
    if name not in KNOWN:
        raise OptionError(
            f"{shown_argument(name)!r} is neither a known data set nor an http(s) address; "
            f"known: {', '.join(KNOWN)}; for a file that you have, unpack it and run maskwatch data check"
        )
    return KNOWN[name]


def _stem(url: str) -> str:
    try:
        name = PurePath(unquote(Address.parse(url).path)).name
    except ValueError as error:
        shown = without_credentials(url)
        raise OptionError(f"{shown}: this is not a valid URL ({error}); check it") from None
    suffix = next((suffix for suffix in _ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]).strip(". ") or "dataset"


def _lift(folder: Path) -> None:
    """Moves the content of the only subfolder of a folder up one level."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    with output_errors(folder):
        inner = entries[0].rename(folder / f"{MARK}.lift")  # it may hold something of the same name
        for entry in inner.iterdir():
            entry.rename(folder / entry.name)
        inner.rmdir()


def _contents(folder: Path) -> tuple[int, dict[str, int]]:
    suffixes = Counter(path.suffix.lower() for path in folder.rglob("*") if path.is_file())
    pictures = sum(suffixes[suffix] for suffix in PICTURE_SUFFIXES)
    counts = {suffix: count for suffix, count in suffixes.most_common() if suffix in _ANNOTATION_SUFFIXES}
    return pictures, counts
