"""The formats of annotations: their table, in the order in which they are recognised, and writing in any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from maskwatch.data.dataset import CROWD, DetectionSet
from maskwatch.data.formats.base import Format
from maskwatch.data.formats.coco import COCO
from maskwatch.data.formats.cvat import CVAT
from maskwatch.data.formats.label_studio import LABEL_STUDIO
from maskwatch.data.formats.tfrecord import TFRECORD
from maskwatch.data.formats.voc import VOC
from maskwatch.data.formats.yolo import YOLO
from maskwatch.errors import OptionError
from maskwatch.outputs import new_folder, output_errors

FORMATS: tuple[Format, ...] = (VOC, YOLO, LABEL_STUDIO, COCO, CVAT, TFRECORD)


def format_named(name: str, option: str = "format") -> Format:
    """The format of a name; `option` is what gave it, for the message.

    Raises:
        OptionError: there is none.
    """
    found = next((format for format in FORMATS if format.name == name), None)
    if found is None:
        names = ", ".join(format.name for format in FORMATS)
        raise OptionError(f"{option} {name!r} is not one of {names}; choose one")
    return found


def write_data(
    sets: Mapping[str, DetectionSet], target: Path, format: str, *, force: bool = False
) -> list[str]:
    """Writes the splits of a data set into one folder, from where `find_splits` finds them again.

    Images keep their names, folders included (`cam1/0001.jpg`), below these folders:

    - voc: `SPLIT/`, images and XML side by side, as in the TensorFlow tutorials.
    - coco: `annotations/instances_SPLIT.json`, images in `SPLIT/`.
    - yolo: `data.yaml`, `images/SPLIT/`, `labels/SPLIT/`.
    - label-studio: `SPLIT.json`, images in `SPLIT/`, and `label_config.xml`, the labelling interface.
    - cvat: a task a split, `SPLIT/annotations.xml` and `SPLIT/images/`, and `labels.json`, its labels.
    - tfrecord: `SPLIT.tfrecord`, and `label_map.pbtxt` with ids from 1; needs the extra tf.

    A set that is not split lies one folder higher. The folder appears when all of it is written.

    Args:
        sets: split → samples, all of the same classes; "" is the split of a set that has none.
        target: a folder that does not exist, or is empty.
        format: the name of one of `formats.FORMATS`.
        force: replace what is there.

    Returns:
        What the format cannot hold and is lost, one line each.

    Raises:
        OutputError: the folder exists or cannot be written.
        MissingExtraError: TensorFlow is not installed.
        OptionError: there is no such format.
    """
    chosen = format_named(format)
    with new_folder(target, force=force) as folder, output_errors(target):
        chosen.write(sets, folder)
    return _lost(sets.values(), chosen)


def _lost(sets: Iterable[DetectionSet], format: Format) -> list[str]:
    samples = [sample for a_set in sets for sample in a_set.samples]
    difficult = sum(int(sample.difficult.sum()) for sample in samples)
    crowds = sum(int(sample.crowds.sum()) for sample in samples)
    noted = sum(bool(note.keys() - {CROWD}) for sample in samples for note in sample.notes)
    lost = []
    if (difficult or crowds) and not format.writes_ignored:
        lost.append(
            f"{difficult + crowds} boxes are to be ignored, which {format.name} cannot mark: {difficult} "
            f"difficult ones become boxes like all others, {crowds} crowds are left out"
        )
    if noted and not format.writes_notes:
        lost.append(f"{noted} boxes have notes (truncated, pose, …), which {format.name} cannot hold")
    return lost
