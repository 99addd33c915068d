"""Pages and Markdown from the templates (Jinja2) in this folder: one file each, which loads nothing else.

A page extends `base.html.j2`, with a style sheet for light and dark, wide and narrow. Values in a `.html.j2`
are escaped, values in a `.md.j2` are not: there, `| cell` keeps a text inside its table cell.
"""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from PIL import Image

from maskwatch._version import __version__
from maskwatch.errors import MissingExtraError
from maskwatch.labels import color_rgb
from maskwatch.media.images import UInt8Array

if TYPE_CHECKING:
    from jinja2 import Environment

_JPEG_QUALITY = 80
UNKNOWN = "–"
"""Shown in place of a missing number."""


def render(template: str, **context: Any) -> str:
    """Fills a template of this package.

    Args:
        template: file name, such as "report.html.j2".
        context: the names that the template uses; a missing one raises jinja2.UndefinedError.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    return _environment().get_template(template).render(version=__version__, **context)


def data_uri(image_rgb: UInt8Array) -> str:
    """A picture (H, W, 3) RGB as a JPEG data URI, for `<img src>`."""
    buffer = BytesIO()
    Image.fromarray(image_rgb).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def link(target: Path, folder: Path) -> str:
    """URL of a file for a page in `folder`, relative where that is possible."""
    try:
        return quote(os.path.relpath(target.absolute(), folder.absolute()).replace(os.sep, "/"))
    except ValueError:  # another drive
        return target.absolute().as_uri()


def number(value: float | None, digits: int = 3) -> str:
    """`0.5` → `"0.500"`; a dash for None."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def css_color(class_id: int) -> str:
    """Colour of a class as a CSS value."""
    return "#{:02x}{:02x}{:02x}".format(*color_rgb(class_id))


def cell(text: object) -> str:
    """A text for a cell of a Markdown table, with all mark-up escaped."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\|`*_<>[]" else letter for letter in plain)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise MissingExtraError("writing a page", "train") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("maskwatch.html", ""),
        autoescape=lambda name: name is None or name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "cell": cell}
    environment.globals |= {"css_color": css_color}
    return environment
