"""The JSON files of a COCO data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskwatch.data.formats.index_files import homes
from maskwatch.data.formats.tree import Folder

_ROBOFLOW = "_annotations.coco.json"
JSON = ".json"
_INSTANCES, _LABELS = "instances_", "labels_"
_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")


def coco_files(folder: Folder) -> list[Path]:
    """The COCO files of a folder, without those that hold something else than boxes."""
    beside = [file for file in folder.of_kind(JSON) if file.name == _ROBOFLOW]
    found = beside or [file for files in homes(folder, JSON) for file in files if _is_coco(file)]
    return [file for file in found if not _is_other_task(file, found)] or found


def _is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, without parsing it."""
    try:
        with path.open("rb") as file:
            # Without zeros, UTF-16 and UTF-32 read as ASCII.
            text = file.read(1 << 16).replace(b"\0", b"")
            if not _has_keys(text):  # thousands of images may come before the annotations
                text += file.read().replace(b"\0", b"")
            tasks = text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"[")  # Label Studio's list
            return not tasks and _has_keys(text)
    except OSError:
        return False


def _has_keys(text: bytes) -> bool:
    return b'"images"' in text and (b'"annotations"' in text or b'"categories"' in text)


def _is_other_task(file: Path, found: Sequence[Path]) -> bool:
    """Whether a file beside others holds captions, keypoints or labels of whole images."""
    stem = file.stem.lower()
    # makesense.ai calls its files labels too, and they hold boxes.
    beside = file.with_stem(f"{_INSTANCES}{file.stem[len(_LABELS) :]}")
    return stem.startswith(_OTHER_TASKS) or (stem.startswith(_LABELS) and beside in found)
