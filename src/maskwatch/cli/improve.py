"""`maskwatch improve`: from corrected labels to a better model, or to reasons for keeping the current one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import counts_line
from maskwatch.cli.options import with_options
from maskwatch.cli.progress import progress_bar
from maskwatch.errors import MissingExtraError
from maskwatch.labels import ClassMap
from maskwatch.text import plural

if TYPE_CHECKING:
    from maskwatch.improve.run import ImproveOptions, Plan, RoundResult

NOT_TAKEN = 1


@dataclass(frozen=True)
class ImproveArguments:
    """As on the command line."""

    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA", help="Data sets to train on: Pascal VOC, COCO, YOLO or TFRecord; split or not."
        ),
    ]
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of all rounds; the same one each time."),
    ] = Path("runs/improve")
    start: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The current model: embedded, a model file, a .ckpt. Default: the last one taken in --out, "
            "else maskwatch-640.",
        ),
    ] = None
    corrections: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file that corrects labels: see docs/training.md.")
    ] = None
    val: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="A further data set (its val) on which the model must not be worse; may be repeated.",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A built-in recipe or a TOML file.",
            show_default="fast, at the size of the current model, at most 50 passes",
        ),
    ] = None
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key of the recipe.")
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help="Spellings of the model's classes, in its order: 'mask=ok|good,no_mask=bare,...'.",
        ),
    ] = None
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare the batches.")] = 1
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be done, and how long it takes.")
    ] = False


@with_options(ImproveArguments)
def improve(arguments: ImproveArguments) -> None:
    """Train the current model further; take what is not worse.

    Checks the data, holds out the pictures that earlier rounds held out, fine-tunes with the corrected
    labels, compares both models, and writes a model file only if the new one is not worse on the held-out
    pictures and on each --val. The same command continues a round that was cut off.

    Exit status 1 when the model is not taken.

    Example: maskwatch improve my_photos --corrections decided.csv --val door_photos
    """
    try:
        from maskwatch.improve.run import estimate_seconds, plan_round, run_round
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"improving a model (module {error.name})", "train") from None
    from maskwatch.evaluation.matching import require_pycocotools

    require_pycocotools()
    with progress_bar("checking") as advance:
        plan = plan_round(_options(arguments), advance)
    for line in _plan_lines(plan):
        typer.echo(line, err=not arguments.dry_run)
    if arguments.dry_run:
        if plan.round.decision is None:
            typer.echo(
                f"time: about {_duration(estimate_seconds(plan))}, if the machine stays as busy as now"
            )
        return
    result = run_round(plan, progress_bar)
    for line in _result_lines(plan, result):
        typer.echo(line)
    if result.model is None:
        raise typer.Exit(NOT_TAKEN)


def _options(arguments: ImproveArguments) -> ImproveOptions:
    from maskwatch.improve.run import ImproveOptions

    return ImproveOptions(
        arguments.data,
        arguments.out,
        arguments.start,
        arguments.corrections,
        arguments.val or (),
        arguments.recipe,
        arguments.settings or (),
        None if arguments.classes is None else ClassMap.parse(arguments.classes),
        arguments.workers,
    )


def _plan_lines(plan: Plan) -> Iterator[str]:
    warnings = f", {plural(plan.warnings, 'warning')}; maskwatch data check shows them" * bool(plan.warnings)
    yield f"checked: {len(plan.pictures)} pictures, no error{warnings}"
    yield f"training: {counts_line(plan.training_set)}"
    for name, a_set in plan.measured:
        yield f"{name}: {counts_line(a_set)}"
    recipe, (height, width) = plan.recipe, plan.current.size_hw
    yield f"start: {plan.current.name}, {height}x{width}, recipe {recipe.name}, {recipe.steps} steps"
    state = "finished before" if plan.round.decision else "continued" if plan.is_begun else "new"
    yield f"round: {plan.round.folder} ({state})"
    yield (
        "to be taken: on each of these sets an AP of at least that of the current model, or surely less than "
        "0.01 below it; no class surely worse"
    )


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return plural(minutes, "minute") if minutes < 120 else f"{minutes / 60:.1f} hours"


def _result_lines(plan: Plan, result: RoundResult) -> Iterator[str]:
    if plan.round.decision is not None:
        yield f"nothing has changed since {plan.round.folder}; this is its result"
    yield from result.verdicts
    folder = result.round.folder
    if result.model is None:
        yield f"keep {result.round.start}: the new model may be worse; no model file is written"
        last = folder / "train" / "last.ckpt"
        yield f"next: look at {folder / 'report' / 'report.html'}, correct labels, add pictures"
        scales = " --two-scales" * plan.current.two_scales
        yield (
            f"or: maskwatch export {last} {plan.current.name} -o mean.onnx{scales}, whose mean of the "
            "weights keeps more of the current model"
        )
        return
    yield "take the new model: it is not worse on any of these sets"
    yield f"model: {result.model}\nreport: {folder / 'report' / 'report.html'}"
    data = " ".join(map(str, plan.options.data))
    yield f"next: maskwatch evaluate {result.model} {data} --suspects suspects.csv"
