"""The documentation site builds without a warning, is complete, and needs nothing from the network."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

pytest.importorskip("zensical", reason="the extra docs is not installed")
pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    """The pages of the site by name."""
    command = [sys.executable, ROOT / "docs" / "build.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "Warning" not in output
    assert "griffe" not in output
    return {path.stem: path.read_text("utf-8") for path in SITE.glob("*.html")}


def test_every_page_is_there(site: dict[str, str]) -> None:
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {*site} == written | {"index", "changelog", "contributing", "model-card", "404"}
    menu = (ROOT / "zensical.toml").read_text("utf-8")
    assert [name for name in site if name != "404" and f'"{name}.md"' not in menu] == []


def test_nothing_comes_from_elsewhere(site: dict[str, str]) -> None:
    loads = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]*)"')
    assert [(name, url) for name, text in site.items() for url in loads.findall(text)] == []


def commands(command: object, words: str) -> Iterator[tuple[str, list[str]]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{words} {name}")
    if not hasattr(command, "commands"):
        params = command.params  # type: ignore[attr-defined]
        yield (
            words,
            [option for param in params if not param.hidden for option in param.opts if "--" in option],
        )


def test_command_line_is_complete(site: dict[str, str]) -> None:
    from maskwatch.cli.app import app

    verbs = dict(commands(typer.main.get_command(app), "maskwatch"))
    assert len(verbs) > 15
    for words, options in verbs.items():
        section = (
            site["cli"].partition(f'id="{words.replace(" ", "-")}"')[2].partition('class="headerlink"')[2]
        )
        section = section.partition("<h2")[0].partition("<h3")[0]
        shown = re.findall(r"--[a-z0-9-]+", section)
        assert {*options} <= {*shown}, words


def test_recipe_keys_are_complete(site: dict[str, str]) -> None:
    from maskwatch.training.recipe import Recipe

    for field in dataclasses.fields(Recipe):
        assert f"<code>{field.name}</code>" in site["recipe"], field.name


def test_public_names_are_documented(site: dict[str, str]) -> None:
    import maskwatch

    for name in {*maskwatch.__all__} - {"__version__"}:
        assert re.search(rf'id="[\w.]*\b{name}"', site["api"]), name
