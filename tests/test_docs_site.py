"""The documentation site builds without a warning, is complete, and needs nothing from the network."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from browser import FLAGS, NAMES, NO_GPU

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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(site: dict[str, str]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


IN_A_FIELD = """() => {
    let element = document.activeElement;
    while (element?.shadowRoot) element = element.shadowRoot.activeElement;
    return element?.tagName === "INPUT";
}"""


def test_the_site_works_in_a_browser_on_its_own(address: str) -> None:
    """Narrow as a phone, in the dark: nothing from elsewhere, nothing too wide, search finds a word."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=[*FLAGS, *NO_GPU])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        for name in ("cli", "recipe", "api", "events", "index"):
            page.goto(f"{address}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        for _ in range(20):  # the page's script may not listen yet
            page.keyboard.press("Control+k")
            with contextlib.suppress(playwright.TimeoutError):
                # Before it is true, letters are shortcuts: n goes to the next page.
                page.wait_for_function(IN_A_FIELD, timeout=2000)
                break
        assert page.evaluate(IN_A_FIELD)
        page.keyboard.type("cooldown", delay=20)
        page.wait_for_selector("a[href*='people.html']:has-text('cooldown')")
        browser.close()
    assert len(requests) > 10
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
