"""Builds the page of `maskwatch serve` on the way into a wheel or source archive.

The page is TypeScript in `web/`; Node.js makes files of it that lie in `src/maskwatch/serve/static/`. Without
Node.js the package is built without the page, and the service says so. The variable MASKWATCH_PAGE changes
that: `require` makes a missing page an error, `skip` leaves it out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WISHES = ("auto", "require", "skip")
_NEXT = "install Node.js 20.19 or later and build again, or set MASKWATCH_PAGE=skip"


class PageHook(BuildHookInterface[Any]):
    """Called by hatchling before it collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del build_data
        wish = os.environ.get("MASKWATCH_PAGE") or "auto"
        if wish not in WISHES:
            raise ValueError(f"MASKWATCH_PAGE is {wish!r}; set it to one of {', '.join(WISHES)}")
        # An editable install takes what `make page` leaves in the checkout.
        if wish == "skip" or (version == "editable" and wish == "auto"):
            return
        problem = build_page(Path(self.root), self.app.display_info)
        if problem and wish == "require":
            raise RuntimeError(f"the page cannot be built: {problem}; {_NEXT}")
        if problem:
            self.app.display_warning(f"built without the page of `maskwatch serve`: {problem}")


def build_page(root: Path, say: Callable[[str], None]) -> str | None:
    """Builds the page if it is missing or older than its sources; gives what kept it from that, or None."""
    built, web = root / "src" / "maskwatch" / "serve" / "static" / "index.html", root / "web"
    if not (web / "package.json").is_file():
        return None if built.is_file() else "neither the page nor its sources are there"
    if built.is_file() and built.stat().st_mtime >= max(path.stat().st_mtime for path in sources(web)):
        say("the page is up to date")
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "Node.js (npm) is not installed"
    for arguments in _steps(web):
        say(f"npm {' '.join(arguments)}")
        done = subprocess.run(
            [npm, *arguments],
            cwd=web,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            return f"npm {' '.join(arguments)} failed:\n{done.stdout[-2000:]}"
    return None


def sources(web: Path) -> list[Path]:
    """All files that the page is made of."""
    return [
        path
        for path in web.rglob("*")
        if path.is_file() and "node_modules" not in path.relative_to(web).parts
    ]


def _steps(web: Path) -> list[tuple[str, ...]]:
    installed = web / "node_modules" / ".package-lock.json"
    lock = web / "package-lock.json"
    complete = installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime
    return [("run", "build")] if complete else [("ci",), ("run", "build")]
