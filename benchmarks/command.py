"""What the benchmarks share: how they run from the command line, and Markdown tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from maskwatch import MaskwatchError

# Accuracy is that of the reference, whatever else is installed; benchmarks of speed name their runtime.
os.environ.setdefault("MASKWATCH_RUNTIME", "onnxruntime")

TESTS = Path(__file__).resolve().parents[1] / "tests"
"""The folder of the test servers, for `sys.path`."""


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser described by the first line of a module's docstring."""
    return argparse.ArgumentParser(description=(doc or "").splitlines()[0])


def run(
    measure: Callable[[argparse.Namespace], Iterable[str]],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
) -> int:
    """Prints the lines of a measurement as they come; returns the exit status, 2 after an error."""
    try:
        for line in measure(parser.parse_args(arguments)):
            print(line, flush=True)
    except (MaskwatchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(names: str, left: int = 1) -> tuple[str, str]:
    """The first two lines of a Markdown table; columns after the first `left` are aligned to the right."""
    return names, row(*["---"] * left, *["---:"] * (names.count("|") - 1 - left))
