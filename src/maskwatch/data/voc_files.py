"""The files of a Pascal VOC folder: where they lie, and which picture belongs to which XML."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from maskwatch.data.faults import Fault
from maskwatch.errors import DataError
from maskwatch.text import parse_xml, read_lines, reason_of

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_PICTURE_FOLDERS = ("jpegimages", "images")
_ANNOTATION_FOLDERS = ("annotations",)


class Pair(NamedTuple):
    """An annotation and its picture."""

    xml: Path
    root: ET.Element
    picture: Path


def stems_in(path: str | os.PathLike[str]) -> set[str]:
    """Stems of the annotations and pictures that `read_voc` would look at; empty where there is no folder."""
    root = Path(path)
    return {file.stem for file in (*_annotations(root), *_pictures(root))} if root.is_dir() else set()


def split_lists(root: Path) -> dict[str, set[str]]:
    """Stems by the name of each list in `ImageSets/Main`; empty where there is none."""
    return {file.stem: split_stems(root, file.stem) for file in (root / "ImageSets" / "Main").glob("*.txt")}


def split_stems(root: Path, split: str) -> set[str]:
    """Stems that `ImageSets/Main/<split>.txt` lists.

    Raises:
        DataError: there is no such list.
    """
    folder = root / "ImageSets" / "Main"
    known = sorted(file.stem for file in folder.glob("*.txt"))
    if split not in known:
        raise DataError(
            [f"{folder}: no split {split!r}; it has {', '.join(known) or 'none'}: name one of them"]
        )
    path = folder / f"{split}.txt"
    try:
        lines = read_lines(path)
    except (OSError, UnicodeError) as error:
        raise DataError([f"{path}: cannot be read ({reason_of(error)}); write the list again"]) from None
    return {line.split()[0] for line in lines if line.strip()}  # a second column tells presence of a class


def pair_files(root: Path, wanted: set[str] | None, faults: list[Fault]) -> list[Pair]:
    """Finds the picture of every annotation, sorted by stem; what does not fit goes to `faults`.

    Args:
        root: an existing folder.
        wanted: stems to look at; None means all.
        faults: is added to.
    """
    xmls, pictures = _annotations(root), _pictures(root)
    if not pictures:
        faults.append(_no_pictures(root))
        return []
    if wanted is not None:
        here = {file.stem for file in (*xmls, *pictures)}
        faults += [
            Fault("picture-missing", root, f"no picture named {stem!r}", "check the list")
            for stem in sorted(wanted - here)
        ]
        if not wanted:
            faults.append(
                Fault("list-empty", root, "the list of stems is empty", "name at least one picture")
            )
        xmls = [xml for xml in xmls if xml.stem in wanted]
    parsed = [(xml, tree) for xml in xmls if (tree := _parse(xml, faults)) is not None]
    pairs = _match(parsed, pictures, faults)
    # A picture whose XML was just reported, for whatever reason, is not one without XML.
    settled = {pair.picture for pair in pairs}
    reported = {xml.stem for xml in xmls}
    for picture in pictures:
        if (
            picture not in settled
            and picture.stem not in reported
            and (wanted is None or picture.stem in wanted)
        ):
            mend = (
                f"annotate it, or if it shows nothing to find, write {picture.stem}.xml holding "
                "<annotation></annotation>"
            )
            faults.append(
                Fault("annotation-missing", picture, "no XML file belongs to it", mend, picture=picture)
            )
    return pairs


def _annotations(root: Path) -> list[Path]:
    return _files(root, _ANNOTATION_FOLDERS, (".xml",))


def _pictures(root: Path) -> list[Path]:
    return _files(root, _PICTURE_FOLDERS, PICTURE_SUFFIXES)


def _files(root: Path, folders: tuple[str, ...], suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a kind in the folder itself, or else in the first of its sub-folders of these names."""
    entries = _entries(root)
    named = [entry for name in folders for entry in entries if entry.name.lower() == name and entry.is_dir()]
    for folder in (root, *named):
        # Names that start with a dot are not pictures: macOS leaves "._photo.jpg" beside "photo.jpg".
        found = [
            file
            for file in (entries if folder is root else _entries(folder))
            if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
        ]
        if found:
            return found
    return []


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError([f"{folder}: cannot be listed ({error.strerror}); check its permissions"]) from None


def _no_pictures(root: Path) -> Fault:
    folders = [e.name for e in _entries(root) if e.is_dir() and not e.name.startswith(".")]
    if folders:
        mend = f"it holds the folders {', '.join(folders[:8])}: give one of these"
        return Fault("picture-missing", root, "no pictures in it", mend)
    kinds = " ".join(suffix[1:] for suffix in PICTURE_SUFFIXES)
    mend = "give the folder that holds them"
    return Fault("picture-missing", root, f"no pictures in it ({kinds})", mend)


def _parse(xml: Path, faults: list[Fault]) -> ET.Element | None:
    try:
        root = parse_xml(xml.read_bytes())
    except (OSError, ET.ParseError, ValueError) as error:
        reason = "it is empty" if xml.is_file() and xml.stat().st_size == 0 else reason_of(error)
        text, mend = f"not readable as XML: {reason}", "write it again or remove it"
        faults.append(Fault("annotation-unreadable", xml, text, mend))
        return None
    if root.tag != "annotation":
        text, mend = f"holds <{root.tag}>, not <annotation>", "it is no Pascal VOC file, remove it"
        faults.append(Fault("annotation-unreadable", xml, text, mend))
        return None
    return root


def _match(
    parsed: Iterable[tuple[Path, ET.Element]], pictures: Iterable[Path], faults: list[Fault]
) -> list[Pair]:
    """By stem first, then by <filename>."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for picture in pictures:
        by_stem[picture.stem].append(picture)
    by_name = {picture.name: picture for picture in pictures}
    pairs: dict[Path, Pair] = {}
    # Those with a picture of their own stem come first, so that a wrong <filename> cannot take it away.
    for xml, root in sorted(parsed, key=lambda item: item[0].stem not in by_stem):
        name = PureWindowsPath(
            (root.findtext("filename") or "").strip()
        ).name  # splits at both kinds of slash
        found = by_stem.get(xml.stem) or ([by_name[name]] if name in by_name else [])
        if not found:
            text = f"no picture {xml.stem}.*, nor {name or '<filename>'}"
            faults.append(Fault("picture-missing", xml, text, "add it or remove the XML"))
        elif len(found) > 1:
            names = ", ".join(picture.name for picture in found)
            text = f"several pictures have its name: {names}"
            faults.append(Fault("picture-ambiguous", xml, text, "keep one of them"))
        elif found[0] in pairs:
            text = f"{found[0].name} is annotated by {pairs[found[0]].xml.name} already"
            faults.append(Fault("annotation-double", xml, text, "remove one", picture=found[0]))
        else:
            pairs[found[0]] = Pair(xml, root, found[0])
    return sorted(pairs.values(), key=lambda pair: pair.xml.stem)
