"""`maskwatch diagnose`: why a model scores badly."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.options import with_options
from maskwatch.errors import MissingExtraError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    from maskwatch.diagnosis import Finding

_WIDTH = 78
BROKEN = 1


@dataclass(frozen=True)
class DiagnoseArguments:
    """What `maskwatch diagnose` is given."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL", help="Folder of a run, checkpoint, model file, or embedded model."
        ),
    ]
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Annotated data sets, as they are; all their splits."),
    ]
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help="Classes of the data in order, with other spellings: 'helmet=hat|Helm,head'.",
        ),
    ] = None
    pictures: Annotated[
        int, typer.Option(min=1, metavar="N", help="Run the model on so many random pictures.")
    ] = 64
    overfit: Annotated[
        bool,
        typer.Option("--overfit", help="Also try to overfit eight pictures; a minute or two on a CPU."),
    ] = False
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write the checks to this file; '-' prints only them."
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file of --json.")] = False


@with_options(DiagnoseArguments)
def diagnose(arguments: DiagnoseArguments) -> None:
    """Say why a model scores badly.

    Checks classes, boxes, channels, losses and anchors. Exits with 1 if one is broken.

    Example: maskwatch diagnose runs/default my_photos/val
    """
    try:
        from maskwatch.diagnosis import diagnose as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"a diagnosis (module {error.name})", "train") from None
    from maskwatch.outputs import check_targets

    target, to_stdout = arguments.json_file, is_stdout(arguments.json_file)
    if target is not None and not to_stdout:
        check_targets([target], [], force=arguments.force)
    class_map = None if arguments.classes is None else ClassMap.parse(arguments.classes)
    model, data = arguments.model, arguments.data
    checks = run(model, data, class_map, pictures=arguments.pictures, overfit=arguments.overfit)
    if not to_stdout:
        typer.echo("\n".join(_lines(checks)))
    if target is not None:
        record = {"model": model, "data": [str(p) for p in data], "checks": [c.as_dict() for c in checks]}
        write_json(_plain(record), target)
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(BROKEN)


def _lines(checks: Sequence[Finding]) -> Iterator[str]:
    """One block a check: name, state, what was measured, and what to do."""
    names, states = (
        max(map(len, column)) for column in zip(*((c.name, c.state) for c in checks), strict=True)
    )
    margin = " " * (names + states + 4)
    for check in checks:
        text = [check.measured] + ([f"→ {check.advice}"] if check.advice else [])
        rows = [row for part in text for row in textwrap.wrap(part, _WIDTH)]
        yield f"{check.name:<{names}}  {check.state:<{states}}  {rows[0]}"
        yield from (margin + row for row in rows[1:])
    broken = [check.name for check in checks if check.state == "broken"]
    suspect = [check.name for check in checks if check.state == "suspect"]
    yield ""
    yield f"broken: {', '.join(broken) or 'nothing'}; suspect: {', '.join(suspect) or 'nothing'}"


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN: it becomes None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value
