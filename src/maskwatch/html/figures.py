"""Matplotlib figures for pages: SVG in the colours of the page, and PNG for Markdown."""

from __future__ import annotations

import re
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

from maskwatch.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Text, axes and grid have this colour, which `svg` replaces with that of the page, light or dark.
INK = "#010203"
_STYLE: Any = {  # its keys are literals to Matplotlib's own types, of which older releases know none
    "svg.fonttype": "none",
    "svg.hashsalt": "maskwatch",  # the same figure gives the same file
    "font.size": 10,
    "text.parse_math": False,  # a class may be called $x
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
_PNG_DPI = 110


def new_figure(width: float = 4.6, height: float = 3.4) -> Figure:
    """An empty figure of this size in inches, in the style of the pages.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("drawing a figure", "train") from None
    return Figure(figsize=(width, height), layout="constrained")


def style() -> Any:
    """A context for adding axes and for drawing: Matplotlib reads the style at both moments."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an `<svg>` element.

    Args:
        name: letters and digits; makes the ids inside unique on a page with several figures.
        alt: what the figure shows, for screen readers.
    """
    from markupsafe import escape

    buffer = StringIO()
    with style():
        # Without date and program, so that the same figure gives the same file.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    head = f'<svg role="img" aria-label="{escape(alt)}"'
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1).replace("<svg", head, 1)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file on white."""
    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
