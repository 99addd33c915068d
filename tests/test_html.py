"""Templates, addresses and figures of pages."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwatch.html import cell, data_uri, link, number, render
from maskwatch.html.figures import INK, new_figure, png, style, svg


def test_a_page_stands_alone() -> None:
    page = render("base.html.j2")
    assert page.startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert "http" not in page


def test_the_templates_are_part_of_the_package() -> None:
    folder = Path(__file__).parents[1] / "src" / "maskwatch" / "html"
    assert {"base.html.j2", "style.css"} <= {path.name for path in folder.iterdir()}


def test_a_picture_inside_an_address_can_be_read_again() -> None:
    image = np.full((6, 4, 3), (200, 30, 60), np.uint8)
    head, _, packed = data_uri(image).partition(",")
    assert head == "data:image/jpeg;base64"
    again = np.array(Image.open(io.BytesIO(base64.b64decode(packed))))
    assert again.shape == (6, 4, 3)
    assert abs(again.astype(int) - image).max() < 6


def test_links_are_relative_and_quoted(tmp_path: Path) -> None:
    assert link(tmp_path / "data" / "a b#1.jpg", tmp_path / "report") == "../data/a%20b%231.jpg"
    assert link(tmp_path / "report" / "x.png", tmp_path / "report") == "x.png"


def test_numbers_and_cells() -> None:
    assert [number(0.12345), number(1, 1), number(None)] == ["0.123", "1.0", "–"]
    assert cell("a|b\n c_d <i>") == "a\\|b c\\_d \\<i\\>"


@pytest.fixture
def figure():  # type: ignore[no-untyped-def]
    drawn = new_figure(2, 2)
    with style():
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], label="line")
        axes.set_title("a < b")
        axes.legend()
    return drawn


def test_a_figure_takes_the_colours_of_its_page(figure) -> None:  # type: ignore[no-untyped-def]
    text = svg(figure, "first", 'a "line" & more')
    root = ET.fromstring(text)
    assert root.attrib["aria-label"] == 'a "line" & more'
    assert root.attrib["role"] == "img"
    assert "width" not in root.attrib
    assert INK not in text
    assert "currentColor" in text
    ids = {node.attrib["id"] for node in root.iter() if "id" in node.attrib}
    assert ids
    assert all(name.startswith("first-") for name in ids)
    assert "a &lt; b" in text


def test_a_figure_as_png(figure) -> None:  # type: ignore[no-untyped-def]
    image = Image.open(io.BytesIO(png(figure)))
    assert image.format == "PNG"
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
