"""What the documentation tells people to type works."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from PIL import Image

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
    assert make_lines(read(".ci/run")) == [*promised, "make litert"]
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
    if verb in GROUPS and words[1:] and words[1].replace("-", "").isalpha():
        verb = f"{verb} {words[1]}"
    assert verb in verbs, f"{page} shows a verb that there is not"
    options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    assert options <= verbs[verb] | {"--help"}, f"{page} shows an option that there is not"


@pytest.mark.parametrize("verb", ["data check", "data show", "diagnose", "evaluate", "events list"])
def test_help_shows_words_instead_of_python_types(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from maskwatch.cli.app import main

    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert not re.findall(r"<\w.*?>|\b(?:TEXT|PATH|INTEGER|FLOAT)\b", capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["", *GROUPS])
def test_lists_of_verbs_are_not_cut_at_80_columns(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maskwatch.cli.app import main

    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    _, listed = capsys.readouterr().out.split("Commands:")
    assert len(listed.splitlines()) > 5
    assert "..." not in listed


def test_option_table_is_true(verbs: dict[str, set[str]]) -> None:
    table = re.findall(r"^\| (`--.*?) \|", read("docs/detect.md"), flags=re.MULTILINE)
    named = {option for cell in table for option in re.findall(r"--[a-z-]+", cell)}
    assert len(named) > 5
    assert named <= verbs["detect"]


@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in ("README.md", "docs/python.md") for code in blocks(page, "python")],
)
def test_python_runs(
    page: str, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, page, "exec"), {})
    assert "mask" in capsys.readouterr().out


def test_python_of_other_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their picture is door.jpg."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "astronaut.jpg", "door.jpg")
    names: dict[str, object] = {}
    for page in ("docs/privacy.md", "docs/records.md"):
        (code,) = blocks(page, "python")
        exec(compile(code, page, "exec"), names)
    assert Path("door-hidden.jpg").stat().st_size > 1000
    (record,) = names["records"]  # type: ignore[misc]
    assert record["class"] == "no_mask"


def test_readme_is_short_and_begins_with_a_moving_picture() -> None:
    lines = read("README.md").splitlines()
    assert len(lines) <= 120
    assert lines[2].startswith("<img ")
    with Image.open(ROOT / re.findall(r'src="([^"]+)"', lines[2])[0]) as picture:
        assert picture.n_frames > 10  # type: ignore[attr-defined]


SHARES = {
    "more than eight of ten": 0.85,
    "three of four": 0.75,
    "two of three": 0.67,
    "a seventh": 0.14,
    "a tenth": 0.1,
}


def test_accuracy_in_words_is_that_of_the_model_card() -> None:
    """The first row of the robustness table: what became of each class."""
    said = re.search(r"^On 237 test photographs,.*$", read("README.md"), flags=re.MULTILINE)
    assert said is not None
    shares = [SHARES[words] for words in re.findall("|".join(SHARES), said[0])]
    row = re.search(r"^\| as they are \| .*$", read("docs/accuracy.md"), flags=re.MULTILINE)
    assert row is not None
    mask, no_mask, incorrect = (
        [float(share) for share in cell.split(" / ")] for cell in row[0].strip("| ").split(" | ")[2:]
    )
    measured = [mask[0], no_mask[1], incorrect[2], incorrect[0], incorrect[3]]
    assert shares == pytest.approx(measured, abs=0.05)


def test_accuracy_table_is_that_of_the_model_card() -> None:
    card = read("MODEL_CARD.md")
    for model in ("maskwatch-640", "maskwatch-320"):
        row = re.search(rf"^\| `{model}` .*$", read("README.md"), flags=re.MULTILINE)
        assert row is not None
        *scores, time = re.findall(r"[\d.]+(?= \||$| ms)", row[0])
        test = re.search(rf"^\| {model} \| [\d.]+ \(.*?\) \| ([\d.]+)", card, flags=re.MULTILINE)
        unseen = re.search(
            rf"^\| {model} \| ([\d.]+) \([^|]*\) \| ([\d.]+) \([^|]*\) \|$", card, flags=re.MULTILINE
        )
        speed = re.search(rf"^\| `{model}` \|.* ([\d.]+) \| [\d.]+ \|$", card, flags=re.MULTILINE)
        assert test is not None
        assert unseen is not None
        assert speed is not None
        assert scores == [test[1], unseen[1], unseen[2]]
        assert float(time) == round(float(speed[1]))


def test_troubleshooting_quotes_real_messages() -> None:
    """The longest fixed part of each message in a heading of docs/faq.md stands in the source."""
    source = " ".join(
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    source = re.sub(r"\s+", " ", source)
    titles = re.findall(r"^### (`.+)$", read("docs/faq.md"), flags=re.MULTILINE)
    assert len(titles) > 8
    for title in titles:
        message = re.findall(r"`([^`]+)`", title)[-1]
        parts = re.split(r"…|\d[\d.]*|'[^']*'|\S+\[.*?\]", message)
        longest = max(parts, key=len).strip()
        assert longest in source, f"no message says {longest!r}; update docs/faq.md"
