"""Builds the documentation site into build/site: `make docs`, or `python docs/build.py`.

GitHub shows docs/*.md as they are. For the site this script

- copies them, the root's Markdown files and the icon to build/docs, with links that fit there,
- copies the files of the repository that they link to (a unit, a proxy's configuration, a script),
- fills each marker `<!-- generated: NAME -->` from the code,

and runs Zensical with warnings as errors. Zensical runs no hooks, so this is a separate script.
"""

from __future__ import annotations

import ast
import html
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "docs"
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "MODEL_CARD.md": "model-card.md",
}
LINK = re.compile(r'(?P<text>!?\[[^\]\n]*\])\((?P<link>[^)\s:]+)\)|src="(?P<src>[^":]+)"')
MARKER = re.compile(r"<!-- generated: (\w+) -->")
FENCE = re.compile(
    r"^(```\w+) \w+$", re.MULTILINE
)  # a second word is for the tests, which tell blocks apart by it


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(DOCS, PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(ROOT / "web" / "public" / "icon.svg", PAGES / "images")
    sources = {path: path.name for path in sorted(DOCS.glob("*.md"))}
    sources |= {ROOT / name: page for name, page in ROOT_PAGES.items()}
    for source, page in sources.items():
        text = LINK.sub(partial(site_link, source), source.read_text("utf-8"))
        text = MARKER.sub(lambda marker: GENERATED[marker[1]](), FENCE.sub(r"\1", text))
        (PAGES / page).write_text(text, "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def site_link(source: Path, link: re.Match[str]) -> str:
    """A relative link of a page of the repository as a link of the site; links to folders become text."""
    name, hash_, anchor = (link["link"] or link["src"]).partition("#")
    if not name:
        return link[0]
    target = Path(os.path.normpath(source.parent / name))
    if target.is_dir():
        return link["text"].strip("[]")
    inside = target.relative_to(ROOT)
    if inside.name == "README.md" and inside.parent.name:  # of examples/: a file like any other
        page = f"files/{inside}.txt"
    elif target.is_relative_to(DOCS):
        page = str(target.relative_to(DOCS))
    else:
        page = ROOT_PAGES.get(str(inside), f"files/{inside}")
    if page.startswith("files/"):
        (PAGES / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, PAGES / page)
    if link["src"]:
        return f'src="{page}"'
    return f"{link['text']}({page}{hash_}{anchor})"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """In a cell of a table, where Markdown's own code keeps the backslash before a bar."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def command_line() -> str:
    """Every command with its options, from the command line itself."""
    import typer

    from maskwatch.cli.app import app

    return "\n\n".join(commands(typer.main.get_command(app), "maskwatch", None))


def commands(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    help_ = inspect.cleandoc(command.help or "")
    if subcommands := getattr(command, "commands", {}):
        if parent:
            yield f"## {context.command_path}\n\n{help_}"
        for key, subcommand in subcommands.items():
            yield from commands(subcommand, key, context)
        return
    path = context.command_path
    help_ = re.sub(r"^Example: (.*)$", r"Example:\n\n```sh\n\1\n```", help_, flags=re.MULTILINE)
    yield f"{'###' if parent.parent else '##'} {path}\n\n{help_}"
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```"
    for panel, records in command.help_panels(context).items():
        rows = [f"| {code(option)} | {cell(text)} |" for option, text in records]
        yield "\n".join([f"| {panel} | |", "| --- | --- |", *rows])


def recipe_keys() -> str:
    """The fields of `Recipe`: section, key, type, default, meaning."""
    from maskwatch.training import recipe

    source = inspect.getsource(recipe.Recipe)
    (cls,) = ast.parse(source).body
    assert isinstance(cls, ast.ClassDef)
    comments = {
        n: line.strip("# \n") for n, line in enumerate(source.splitlines(), 1) if line.startswith("    # ")
    }
    rows: list[str] = []
    for statement, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or statement.value is None:
            continue
        if heading := comments.get(statement.lineno - 1):
            rows += [
                "",
                f"### {heading}",
                "",
                "| key | type | default | meaning |",
                "| --- | --- | --- | --- |",
            ]
        elif not rows:
            rows += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        meaning = str(following.value.value) if is_text else ""  # type: ignore[union-attr,attr-defined]
        name, kind, default = map(ast.unparse, (statement.target, statement.annotation, statement.value))
        default = default.strip("'")
        rows.append(f"| `{name}` | {kind_of(kind)} | {code(default)} | {cell(meaning)} |")
    return "\n".join(rows)


def kind_of(annotation: str) -> str:
    """`Literal['a', 'b']` → a or b; `tuple[int, ...]` → list of int."""
    if choices := re.fullmatch(r"Literal\[(.*)\]", annotation):
        return " or ".join(f"`{word.strip(chr(39))}`" for word in choices[1].split(", "))
    return re.sub(r"tuple\[(\w+), \.\.\.\]", r"list of \1", annotation)


def built_in_recipes() -> str:
    """Where the recipes of the package differ from `default`."""
    from dataclasses import asdict

    from maskwatch.training.recipe import Recipe, built_in, load_recipe

    recipes = {name: asdict(load_recipe(name)) for name in built_in()}
    usual = asdict(Recipe())
    names = ["default", *(name for name in recipes if name != "default")]
    rows = [
        f"| `{key}` | {' | '.join(f'`{recipes[name][key]}`' for name in names)} |"
        for key in usual
        if key != "name" and len({str(recipes[name][key]) for name in names}) > 1
    ]
    head = f"| key | {' | '.join(f'`{name}`' for name in names)} |"
    return "\n".join([head, "| --- " * (len(names) + 1) + "|", *rows])


GENERATED = {"command_line": command_line, "recipe_keys": recipe_keys, "built_in_recipes": built_in_recipes}

if __name__ == "__main__":
    sys.exit(main())
