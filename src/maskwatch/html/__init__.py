"""Pages and Markdown from templates: one file each, nothing fetched from anywhere.

The templates (Jinja2) lie beside this file. A page extends `base.html.j2`, which brings the style sheet for
light and dark, wide and narrow. What is put into a `.html.j2` is escaped, what is put into a `.md.j2` is not:
there, `| cell` keeps a text inside its table cell.
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
"""What stands where there is no number."""


def render(template: str, **context: Any) -> str:
    """Fills a template of this package.

    Args:
        template: file name, such as "report.html.j2".
        context: the names that the template uses; a missing one is a mistake of ours and raises.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    return _environment().get_template(template).render(version=__version__, **context)


def data_uri(image_rgb: UInt8Array) -> str:
    """A picture (H, W, 3) RGB as a JPEG inside an address, for `<img src>`."""
    buffer = BytesIO()
    Image.fromarray(image_rgb).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def link(target: Path, folder: Path) -> str:
    """Address of a file as a page in `folder` reaches it: relative where that is possible."""
    try:
        return quote(os.path.relpath(target.absolute(), folder.absolute()).replace(os.sep, "/"))
    except ValueError:  # another drive
        return target.absolute().as_uri()


def number(value: float | None, digits: int = 3) -> str:
    """`0.5` → `"0.500"`; a dash for None."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def css_color(class_id: int) -> str:
    """Colour of a class as style sheets write it."""
    return "#{:02x}{:02x}{:02x}".format(*color_rgb(class_id))


def cell(text: object) -> str:
    """A text that stays in its cell of a Markdown table, and is no mark-up there."""
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
