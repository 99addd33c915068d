"""Prose is plain English: short sentences, present tense, active voice, the terms of the field."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What is not written, as a pattern, and what is written in its place.
BETTER = {
    # English
    r"somebody|anybody": "a person; anyone",
    r"nobody": "no one; say what does not happen",
    r"whoever|whomever": "the person who",
    r"for ever": "without limit; indefinitely; automatically",
    r"of its own accord": "automatically",
    r"by itself": "automatically",
    r"by heart": "memorise; overfit",
    r"(?:is|are|was|were|be) told": "who tells whom, in the active voice",
    r"unless (?:it is )?told otherwise": "by default",
    r"(?:says?|said) so": "state it: reports; prints",
    r"is said\b": "is reported; appears on standard error",
    r"as (?:it|they) (?:is|are|was|were) said": "as stated",
    r"goes? on with": "continues with",
    r"in the place of": "instead of",
    r"anew": "again; new",
    r"all the same": "anyway; still",
    r"look(?:s|ed|ing)? twice": "two scales",
    r"second look": "second scale",
    r"pictures? nearly as (?:it|they) comes?": "nearly unchanged pictures",
    r"things? that (?:is|are) no ": "what is not a",
    r"drawn (?:picture|video)s?": "annotated picture",
    # "is no evidence", "there is no file" and "is no longer" are English; a thing of a kind is "not a …".
    r"(?<!there )(?:is|are) no (?:(?:regular|valid|known|https?|SQLite|COCO|JSON|event|Pascal VOC) )*"
    r"(?:URLs?|address|base64|broker|command|number|numbers|pairs|file|database|date|text)": (
        "is not a valid …; is not a …"
    ),
    r"defect of ours": "bug",
    r"utili[sz]e[sd]?": "use",
    r"in order to": "to",
    r"please note": "(leave it out)",
    # Terms
    r"invented (?:faces?|boxes|detections?)": "false positive",
    r"mend(?:s|ed|ing)?": "repair",
    r"judges?": "validator",
    r"faults?": "issue; error",
    r"courier": "dispatcher",
    r"letter (?:for|to) a (?:webhook|receiver)": "queued event",
    r"parked (?:event|letter)s?": "dead letter",
    r"resting (?:block|layer)s?|(?:blocks?|layers?) (?:at )?rests?": "frozen stages",
    r"averaged? decay": "EMA decay",
    r"time stamps?": "timestamp",
    r"ledger": "FrameTracker",
    r"shelf": "model registry",
    r"whereabouts": "zone state",
}


# What others rely on stays: Home Assistant makes an entity's id of this name.
KEPT = re.compile("Somebody without mask")


def unwanted(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, what stands there, and a better word, for each word that is in the list."""
    text = KEPT.sub("", text)
    for pattern, better in BETTER.items():
        for match in re.finditer(rf"\b(?:{pattern})(?![\w-])", text, flags=re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), better


def blanked(text: str, pattern: str) -> str:
    """The text with every match of the pattern turned into blanks; lines keep their numbers."""
    return re.sub(
        pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL | re.MULTILINE
    )


def markdown_prose(text: str) -> str:
    """The text of a Markdown page without code and without the targets of links."""
    for pattern in (r"^```.*?^```", r"`[^`\n]+`", r"\]\([^)\n]*\)", r'(?:src|width)="[^"]*"'):
        text = blanked(text, pattern)
    return text


def python_prose(source: str) -> str:
    """Comments, docstrings and other texts with a blank in them, each on its line."""
    lines = [""] * (source.count("\n") + 2)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, line in enumerate(node.value.splitlines()):
                row = min(node.lineno - 1 + offset, len(lines) - 1)
                lines[row] += " " + line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] += " " + token.string
    return blanked("\n".join(lines), r"`[^`\n]+`")


def prose_of(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return python_prose(text)
    if path.name == "CHANGELOG.md":  # released versions stay as they are
        text = text.partition("\n## [0.")[0]
    return markdown_prose(text)


def checked() -> list[Path]:
    """Pages, the scripts beside them, and the package."""
    patterns = ("*.md", "docs/*.md", "docs/*.py", "examples/*.md", "examples/*.py", "src/**/*.py")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("path", checked(), ids=lambda path: str(path.relative_to(ROOT)))
def test_words(path: Path) -> None:
    found = [f"{path.name}:{line}: {word!r}: {better}" for line, word, better in unwanted(prose_of(path))]
    assert not found, "\n".join(["write instead:", *found])


def test_the_list_finds_words_in_prose_only() -> None:
    page = "One `somebody` in code.\n```\nfor ever\n```\nIt is tried\nfor ever, and [mend](mend.md).\n"
    assert [(line, word) for line, word, _ in unwanted(markdown_prose(page))] == [
        (6, "for ever"),
        (6, "mend"),
    ]


def test_the_list_finds_words_in_python() -> None:
    source = 'x = "mend"\n\n\ndef f():\n    """One.\n\n    For ever two.\n    """\n    # nobody\n'
    source += '    raise E("is told so")\n'
    found = sorted((line, word) for line, word, _ in unwanted(python_prose(source)))
    assert found == [(7, "For ever"), (9, "nobody"), (10, "is told")]


def test_the_list_leaves_good_english_alone() -> None:
    page = "It is no URL.\nThere is no file, it is no longer a number,\nand that is no evidence.\n"
    assert [(line, word) for line, word, _ in unwanted(markdown_prose(page))] == [(1, "is no URL")]
