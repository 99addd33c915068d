"""What must hold for the files of the repository as a whole."""

from __future__ import annotations

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BINARY = {".jpg", ".jpeg", ".png", ".webp", ".onnx", ".npz", ".gif"}

# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "download." + "pytorch.org", "npmjs" + ".org")
INDEX_OPTIONS = ("index" + "-url", "find" + "-links", "trusted" + "-host")
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:work|root)/\w")


def tracked() -> list[Path]:
    """Files under version control, or all of an unpacked source archive."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_files() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), path.read_text("utf-8"))
        for path in tracked()
        if path.suffix.lower() not in BINARY
    ]


def test_no_file_names_a_registry_or_this_machine() -> None:
    found = [
        f"{name}: {word}"
        for name, text in text_files()
        for word in REGISTRY_HOSTS + INDEX_OPTIONS
        if word in text
    ]
    found += [f"{name}: {match[0]}" for name, text in text_files() for match in MACHINE_PATHS.finditer(text)]
    assert not found


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert lines
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)*", line)]
    assert len({line.split("==")[0] for line in lines}) == len(lines), "a name stands twice"


def test_constraints_name_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    direct = {re.match(r"[A-Za-z0-9_.-]+", text)[0].lower().replace("_", "-") for text in wanted}  # type: ignore[index]
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    assert direct - {"maskwatch"} <= pinned


def markdown_links() -> list[tuple[Path, str]]:
    links = []
    for path in tracked():
        if path.suffix == ".md":
            prose = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
            targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'src="([^"]+)"', prose)
            links += [(path, target) for target in targets if not re.match(r"[a-z]+:", target)]
    return links


def headings(path: Path) -> set[str]:
    """The anchors that a forge makes of the headings of a page."""
    titles = re.findall(r"^#+ +(.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_relative_links_resolve() -> None:
    broken = []
    for page, target in markdown_links():
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_example_pictures_stay_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "examples").glob("*.jpg")}
    assert set(sizes) >= {"astronaut.jpg", "astronaut_masked.jpg"}
    assert max(sizes.values()) < 120_000
