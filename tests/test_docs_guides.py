"""The examples and numbers of the guides that have no test file of their own."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def read(page: str) -> str:
    return (ROOT / "docs" / page).read_text("utf-8")


def block(page: str, language: str, holding: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", read(page), flags=re.DOTALL | re.MULTILINE)
    (only,) = [text for text in found if holding in text]
    return str(only)


def constants(package: str) -> set[str]:
    """Every text in the code of a package."""
    nodes = (
        node
        for path in (ROOT / "src" / "maskwatch" / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_zones_example_is_read(tmp_path: Path) -> None:
    pytest.importorskip("trackers", reason="the extra live is not installed")
    from maskwatch.cli.app import main

    (tmp_path / "zones.toml").write_text(block("people.md", "toml", "[[zone]]"))
    source, out = f"door={ROOT / 'examples' / 'astronaut.jpg'}", tmp_path / "zones.png"
    with pytest.raises(SystemExit) as ended:
        main(["zones", source, "--zones", str(tmp_path / "zones.toml"), "--out", str(out)])
    assert ended.value.code in (0, None)
    assert out.stat().st_size > 1000


def test_defaults_of_people_are_those_of_the_page() -> None:
    pytest.importorskip("trackers", reason="the extra live is not installed")
    from maskwatch.live.tracking.settings import PeopleSettings

    settings = PeopleSettings()
    values = {name: getattr(settings, name) for name in ("min_height", "found_s", "static_s")}
    for group in (settings.alerts, settings.vote, settings.tracks):
        values |= dataclasses.asdict(group)
    named = re.findall(r"`(\w+)` \((\d[\d.]*)(?:, off)?\)", read("people.md"))
    assert len(named) > 8
    assert {name: float(number) for name, number in named} == {name: values[name] for name, _ in named}


def test_issues_of_the_page_are_those_of_the_check() -> None:
    tables = re.findall(
        r"^\| issue \| what it is \|\n.*?\n\n", read("data.md"), flags=re.DOTALL | re.MULTILINE
    )
    named = {name for table in tables for name in re.findall(r"`([a-z][a-z-]+)`", table)}
    kinds = {
        text
        for text in constants("data")
        if re.fullmatch(r"(picture|annotation|size|box|shape|class|split)-[a-z]+|leak", text)
    }
    assert len(named) > 25
    assert named == kinds


def test_fields_of_the_page_are_those_of_the_check(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the extra train is not installed")
    from maskwatch.cli.app import main

    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"")
    size = "<size><width>512</width><height>512</height><depth>3</depth></size>"
    for name in "ab":
        (tmp_path / f"{name}.xml").write_text(f"<annotation>{size}</annotation>")
    with pytest.raises(SystemExit):
        main(["data", "check", str(tmp_path), "--json", str(tmp_path / "check.json")])
    written = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert f"`{written.pop('schema')}`" in read("schemas.md")
    rows = re.search(
        r"^## Check\n.*?^\| field \| what it is \|\n\| .*?\n(.*?)\n\n",
        read("data.md"),
        re.DOTALL | re.MULTILINE,
    )
    assert rows is not None
    named = {field for row in rows[1].splitlines() for field in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == written.keys()
    (issues,) = (row for row in rows[1].splitlines() if row.startswith("| `faults`"))
    assert set(re.findall(r"`(\w+)`", issues.split("|")[2])) == written["faults"][0].keys()


def test_reasons_of_a_lost_source_are_those_of_the_code() -> None:
    """Those of Maskwatch; the others come from the system and from FFmpeg."""
    row = re.search(r"^\| `waiting` \| (.*) \|$", read("camera.md"), flags=re.MULTILINE)
    assert row is not None
    foreign = {"Connection refused", "Server returned 401 Unauthorized (authorization failed)"}
    reasons = set(re.findall(r"`([^`]+)`", row[1])) - foreign
    assert len(reasons) > 4
    parts = {max(re.split(r" for 10 s$|door\.local", reason), key=len).strip() for reason in reasons}
    texts = {text.strip() for text in constants("live")}
    assert parts <= texts


def test_corrections_example_is_read(tmp_path: Path) -> None:
    from maskwatch.data import read_corrections

    path = tmp_path / "corrections.csv"
    path.write_text(block("training.md", "", "picture,fault"))
    assert len(read_corrections(path)) == 4


def test_classes_examples_are_read() -> None:
    from maskwatch.labels import ClassMap

    page = read("training.md") + read("data.md")
    texts = re.findall(r"--classes '?([^\s'`]*,[^\s'`]*|helmet=[^']+)'?", page)
    assert len(texts) == 2
    for text in texts:
        assert ClassMap.parse(text).names == ("helmet", "head")
