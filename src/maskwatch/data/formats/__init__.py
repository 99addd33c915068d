"""The formats of annotations: this is the table of all of them, in the order in which they are recognised."""

from maskwatch.data.formats.base import Format
from maskwatch.data.formats.coco import COCO
from maskwatch.data.formats.tfrecord import TFRECORD
from maskwatch.data.formats.voc import VOC
from maskwatch.data.formats.yolo import YOLO
from maskwatch.errors import OptionError

FORMATS: tuple[Format, ...] = (VOC, YOLO, COCO, TFRECORD)


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
