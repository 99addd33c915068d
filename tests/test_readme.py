"""What the documentation tells people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)

GROUPS = ("data", "events")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE)


def make_lines(text: str) -> list[str]:
    return re.findall(r"^make \w+$", text, flags=re.MULTILINE)


def test_ci_calls_the_two_commands_of_the_readme() -> None:
    section = re.search(r"^## Two commands\n(.*?)^## ", read("README.md"), flags=re.DOTALL | re.MULTILINE)
    assert section is not None
    promised = make_lines(section[1])
    assert len(promised) == 2
    assert make_lines(read(".ci/run")) == promised
    targets = re.findall(r"^(\w+):", read("Makefile"), flags=re.MULTILINE)
    assert {line.removeprefix("make ") for line in promised} <= {*targets}


def command_lines() -> list[tuple[str, str]]:
    """Every `maskwatch VERB …` in a shell block or an inline code of the pages."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`(maskwatch [^`]+)`", read(page))
        for line in lines:
            _, name, rest = line.partition("maskwatch ")
            if name and re.match(r"(.*\| )?maskwatch [a-z-]", line):
                found.append((page, f"maskwatch {rest}"))
    return found


@pytest.fixture(scope="module")
def verbs() -> dict[str, set[str]]:
    """Options by verb; "" stands for the command itself, "data check" for a verb of a verb."""
    from maskwatch.cli.app import app

    command = typer.main.get_command(app)
    group = command.commands  # type: ignore[attr-defined]
    inner = {f"{outer} {name}": verb for outer in GROUPS for name, verb in group[outer].commands.items()}
    verbs = {**group, **inner}
    options = {name: {text for param in verb.params for text in param.opts} for name, verb in verbs.items()}
    return {"": {text for param in command.params for text in param.opts} | {"--help"}, **options}


def test_pages_show_commands() -> None:
    assert len(command_lines()) > 8


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_commands_exist(page: str, line: str, verbs: dict[str, set[str]]) -> None:
    words = shlex.split(line, comments=True)[1:]
    verb = words[0] if not words[0].startswith("-") else ""
    if verb in GROUPS and words[1:] and words[1].isalpha():
        verb = f"{verb} {words[1]}"
    assert verb in verbs, f"{page} shows a verb that there is not"
    options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    assert options <= verbs[verb] | {"--help"}, f"{page} shows an option that there is not"


def test_option_table_is_true(verbs: dict[str, set[str]]) -> None:
    table = re.findall(r"^\| (`--.*?) \|", read("README.md"), flags=re.MULTILINE)
    named = {option for cell in table for option in re.findall(r"--[a-z-]+", cell)}
    assert len(named) > 5
    assert named <= verbs["detect"]


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_python_runs(code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert "mask" in capsys.readouterr().out
