"""The files of a Pascal VOC data set, and which image belongs to which XML file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from maskwatch.data.formats.base import Entry, read_list
from maskwatch.data.formats.tree import ANNOTATION_FOLDERS, PICTURE_FOLDERS, Folder, split_of
from maskwatch.data.issues import Issue
from maskwatch.data.names import NameIndex, nfc, sort_key, without_suffix
from maskwatch.media.formats import PICTURE_SUFFIXES
from maskwatch.text import parse_xml, reason_of

_XML = (".xml",)
_ANNOTATION = re.compile(rb"<annotation[\s>]")


class Files(NamedTuple):
    """Files of a kind, and the folder that their names are relative to."""

    root: Path
    files: Sequence[Path]

    def named(self) -> list[tuple[str, Path]]:
        """Name and path of each; names are unique."""
        found: dict[str, Path] = {}
        for file in self.files:
            written = file.relative_to(self.root).as_posix()
            name = nfc(written)
            found[written if name in found else name] = file  # on some systems both forms can be there
        return [*found.items()]

    def stems(self) -> set[str]:
        return {without_suffix(nfc(file.name)) for file in self.files}


def pair_folder(folder: Folder, *, certain: bool = False) -> tuple[list[Entry], list[Folder]]:
    """The images of a folder with their XML files (none: []), and the subfolders that are other data sets.

    XML and images are side by side, or each kind in a subfolder, at any depth (JPEGImages with Annotations,
    images with annotations/xmls, img with ann). A subfolder that holds both is another data set.

    Args:
        certain: it is known to be Pascal VOC; the XML files are not checked.
    """
    pictures, xmls = _kinds(folder, PICTURE_SUFFIXES, _XML), _kinds(folder, _XML, PICTURE_SUFFIXES)
    images = _choose(folder, pictures, xmls, PICTURE_FOLDERS)
    annotations = _choose(folder, xmls, pictures, ANNOTATION_FOLDERS)
    related = images.stems() & annotations.stems() or any(map(is_annotation, annotations.files))
    if not images.files or not annotations.files or not (related or certain):
        return [], []
    rest = [f for f in folder.folders if f.below(*PICTURE_SUFFIXES) and f.below(*_XML)]
    return pair_files(images, annotations), rest


def _kinds(folder: Folder, suffixes: tuple[str, ...], others: tuple[str, ...]) -> list[tuple[str, Files]]:
    """Files of a kind: the folder's own (""), and those of each subfolder without files of the other kind."""
    found = [("", Files(folder.path, folder.of_kind(*suffixes)))]
    for inner in folder.folders:
        files = inner.below(*suffixes)
        if files and not inner.below(*others):
            found.append((inner.name.lower(), Files(inner.path, files)))
    return found


def _choose(
    folder: Folder, mine: list[tuple[str, Files]], others: list[tuple[str, Files]], known: tuple[str, ...]
) -> Files:
    """The files that share most names with the files of the other kind."""
    stems = set[str]().union(*(files.stems() for _, files in others))
    by_name = dict(mine)
    options = [by_name.pop(""), *(by_name.pop(name) for name in known if name in by_name)]
    rest = [files for files in by_name.values() if files.stems() & stems] or [*by_name.values()]
    # One folder a camera, for instance.
    together = Files(folder.path, [file for files in rest for file in files.files])
    options.append(rest[0] if len(rest) == 1 else together)
    return max(options, key=lambda files: (len(files.stems() & stems), bool(files.files)))


def is_annotation(xml: Path) -> bool:
    try:
        with xml.open("rb") as file:
            # LabelImg writes <annotation verified="yes"> after a review.
            return _ANNOTATION.search(file.read(1 << 12).replace(b"\0", b"")) is not None
    except OSError:
        return False


def pair_files(images: Files, annotations: Files) -> list[Entry]:
    """One entry for each image, and for each XML file without an image, sorted by name.

    The image of an XML file has the same name, else the name in its <filename>.
    """
    pictures = dict(images.named())
    names = NameIndex((name, name, ()) for name in pictures)
    taken: dict[str, Path] = {}
    entries: list[Entry] = []
    left: list[tuple[str, Path, list[str]]] = []
    for name, xml in annotations.named():
        found = names.find(without_suffix(name), loose=True)
        if len(found) == 1 and found[0] not in taken:
            taken[found[0]] = xml
        else:
            left.append((name, xml, found))
    # Equal names come first, so that a wrong <filename> cannot take an image from its own XML file.
    reported: set[str] = set()  # an issue names them, so they are not reported as unannotated too
    for name, xml, candidates in left:
        found = _by_filename(xml, names, candidates)
        if len(found) == 1 and found[0] not in taken:
            taken[found[0]] = xml
        else:
            entries.append(Entry(name, None, xml, _unpaired(name, xml, found, taken)))
            reported.update(found)
    others = [name for name in pictures if name in taken or name not in reported]
    entries += [Entry(name, pictures[name], taken.get(name)) for name in others]
    return sorted(entries, key=lambda entry: sort_key(entry.image_id))


def _by_filename(xml: Path, names: NameIndex[str], candidates: list[str]) -> list[str]:
    """Images that an annotation names, among the candidates if there are any."""
    root = read_xml(xml, [])  # `read` reports what is wrong with it
    if root is None:
        return candidates
    written = (root.findtext("filename") or "").strip()
    within = f"{(root.findtext('folder') or '').strip()}/{written}"
    several = candidates
    for text in (written, within, (root.findtext("path") or "").strip()):
        found = [name for name in names.find(text, loose=True) if not candidates or name in candidates]
        if len(found) == 1:
            return found
        several = several or found
    return several


def _unpaired(name: str, xml: Path, found: list[str], taken: dict[str, Path]) -> Issue | None:
    if len(found) > 1:
        text = f"several pictures have its name: {', '.join(found)}"
        return Issue("picture-ambiguous", xml, text, "keep one of them, or name it in <filename>")
    if found:
        text = f"{found[0]} is annotated by {taken[found[0]].name} already"
        return Issue("annotation-double", xml, text, "remove one")
    return None


def read_xml(xml: Path, issues: list[Issue]) -> ET.Element | None:
    """The root element; None, with the issue noted, if it cannot be used."""
    try:
        root = parse_xml(xml.read_bytes())
    except (OSError, ET.ParseError, ValueError) as error:
        reason = "it is empty" if xml.is_file() and xml.stat().st_size == 0 else reason_of(error)
        text, fix = f"not readable as XML: {reason}", "write it again or remove it"
        issues.append(Issue("annotation-unreadable", xml, text, fix))
        return None
    if root.tag != "annotation":
        text, fix = f"holds <{root.tag}>, not <annotation>", "it is not a Pascal VOC file, remove it"
        issues.append(Issue("annotation-unreadable", xml, text, fix))
        return None
    return root


def splits_by_list(folder: Folder, entries: Sequence[Entry], issues: list[Issue]) -> dict[str, list[Entry]]:
    """Split → the entries that its lists name, "" → the others; empty without lists of splits."""
    lists = _lists(folder) if entries else {}
    if not lists:
        return {}
    names = NameIndex((number, entry.image_id, entry.paths) for number, entry in enumerate(entries))
    listed: dict[str, set[int]] = {}
    for split, files in lists.items():
        for file in files:
            numbers, wrong = read_list(
                file,
                lambda line: names.find(line, loose=True) or names.find(_first_column(line), loose=True),
                lambda number: entries[number].image_id,
                _first_column,
            )
            unreadable = any(issue.kind == "annotation-unreadable" for issue in wrong)
            # Beside the image folder it may be a list of something else.
            if numbers or unreadable or file.parent != folder.path:
                listed.setdefault(split, set()).update(numbers)
                issues += wrong
    if listed:
        listed[""] = {*range(len(entries))}.difference(*listed.values())
    return {split: [entries[number] for number in sorted(numbers)] for split, numbers in listed.items()}


def _lists(folder: Folder) -> dict[str, list[Path]]:
    """Split → its lists of images: those in ImageSets/Main, else beside the image folder.

    Without a list of a whole split, the lists of its classes (mask_train.txt) are joined.
    """
    sets = [inner for outer in folder.named("imagesets") for inner in (*outer.named("main"), outer)]
    files = next((found for home in (*sets, folder) if (found := home.of_kind(".txt"))), [])
    whole = {file: split_of(file.stem) for file in files}
    if not any(whole.values()) and sets:
        whole = {file: split_of(file.stem.rpartition("_")[2]) for file in files}
    if "train" not in whole.values():  # VOC's own archives have one list for training and validation
        whole |= {file: "train" for file in files if file.stem.lower() == "trainval"}
    lists: dict[str, list[Path]] = {}
    for file, split in whole.items():
        if split:
            lists.setdefault(split, []).append(file)
    return lists


def _first_column(line: str) -> str:
    """A line without its second column: presence of a class, or the annotation file."""
    *first, last = line.split()
    second = first and (last in ("1", "-1", "0") or last.lower().endswith(_XML))
    return line[: -len(last)].strip() if second else line
