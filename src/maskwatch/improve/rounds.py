"""The folder of `maskwatch improve`: its rounds, and what each was asked and decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwatch.errors import OutputError
from maskwatch.outputs import new_file
from maskwatch.text import read_text, reading

SCHEMA = "maskwatch.improve/1"
LIST = "split.csv"
"""The file with the side of each picture, beside the rounds."""
MODEL = "model.onnx"
"""The model of a round that was taken; beside the rounds, that of the latest one."""

_PREFIX = "round-"
_STATE = "improve.json"


@dataclass(frozen=True)
class Round:
    """One training and its comparison.

    request: what was asked, and a digest of the labels; start: the model that it starts from; decision: None
    while it is unfinished, else whether the model was taken, and the comparison on each data set.
    """

    folder: Path
    request: Mapping[str, Any]
    start: str
    decision: Mapping[str, Any] | None = None

    @property
    def taken(self) -> bool:
        return self.decision is not None and bool(self.decision["taken"])

    def write(self) -> None:
        """Raises OutputError."""
        state = {
            "schema": SCHEMA,
            "request": self.request,
            "start": self.start,
            "decision": self.decision,
        }
        with new_file(self.folder / _STATE) as part:
            part.write_text(json.dumps(state, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_rounds(out: Path) -> list[Round]:
    """The rounds in a folder, the latest one last.

    Raises:
        OutputError: the file of a round cannot be read.
    """
    found = []
    for path in out.glob(f"{_PREFIX}*/{_STATE}"):
        number = path.parent.name.removeprefix(_PREFIX)
        if number.isdecimal():
            found.append((int(number), path))
    return [_read(path) for _, path in sorted(found)]


def _read(path: Path) -> Round:
    with reading(path, OutputError, "delete the folder of this round"):
        state = json.loads(read_text(path))
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise ValueError(f"not of the schema {SCHEMA}")
        return Round(path.parent, state["request"], state["start"], state["decision"])


def choose_round(out: Path, rounds: list[Round], request: Mapping[str, Any], start: str) -> Round:
    """The latest round if it was asked the same, finished or not; else a new one, which is not written yet.

    Raises:
        OutputError: the latest round is unfinished, and was asked something else.
    """
    if rounds:
        latest = rounds[-1]
        if latest.request == request:
            return latest
        if latest.decision is None:
            changed = [key for key in request if request[key] != latest.request.get(key)]
            raise OutputError(
                f"{latest.folder}: is unfinished, and was begun with other {', '.join(changed)}; repeat its "
                "command to continue it, or delete the folder to begin again"
            )
        number = int(latest.folder.name.removeprefix(_PREFIX)) + 1
    else:
        number = 1
    return Round(out / f"{_PREFIX}{number}", request, start)


def start_of(rounds: list[Round], default: str) -> str:
    """What a new round starts from: the start of an unfinished one, else the latest model that was taken."""
    if rounds and rounds[-1].decision is None:
        return rounds[-1].start
    return next((str(one.folder / MODEL) for one in reversed(rounds) if one.taken), default)
