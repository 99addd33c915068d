"""`maskwatch train`: from annotated pictures to a checkpoint."""

from __future__ import annotations

import contextlib
import os
import pprint
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import Group, correct_sets, counts_line, read_sets, read_stems, splits_in_path
from maskwatch.errors import DataError, MissingExtraError, OptionError

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.training.plan import TrainPlan
    from maskwatch.training.run import TrainingResult

# Share of the pictures that is held out where no validation set is given.
HELD_OUT = 0.1


_Data = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders of Pascal VOC, COCO or YOLO, a COCO .json, a data.yaml; split or not."),
]
_Recipe = Annotated[
    str | None,
    typer.Option(
        help="'default', its later stage 'fast' at 320, 'seed', or a TOML file.", show_default="default"
    ),
]
_PipelineConfig = Annotated[
    Path | None,
    typer.Option(help="Train as this pipeline.config of the TF Object Detection API says, not a recipe."),
]
_Val = Annotated[
    list[Path] | None, typer.Option(help="Validation folder; else a tenth of the pictures is held out.")
]
_Start = Annotated[
    str | None,
    typer.Option(
        help="Weights to start from: maskwatch-640, a TF2 zoo archive, folder or URL, or a .ckpt of ours."
    ),
]
_Out = Annotated[Path | None, typer.Option(help="Folder for the run; runs/RECIPE if not given.")]
_Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key of the recipe.")
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]
_Classes = Annotated[
    str | None, typer.Option(help="Classes in order, with other spellings: 'helmet=hat|Helm,head'.")
]
_Stems = Annotated[
    Path | None,
    typer.Option(help="Text file of names of pictures (cam1/0001): train on these only."),
]
_Corrections = Annotated[
    Path | None, typer.Option(help="CSV file that corrects labels: see docs/training.md.")
]
_Devices = Annotated[str, typer.Option(help="Number of GPUs or CPU processes, or 'auto'.")]
_Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare the batches.")]


def train(
    data: _Data = None,
    recipe: _Recipe = None,
    pipeline_config: _PipelineConfig = None,
    val: _Val = None,
    start: _Start = None,
    out: _Out = None,
    settings: _Settings = None,
    resume: _Resume = False,
    classes: _Classes = None,
    stems: _Stems = None,
    corrections: _Corrections = None,
    devices: _Devices = "auto",
    workers: _Workers = 1,
) -> None:
    """Train SSD MobileNetV2 FPNLite on annotated pictures, on GPUs or on the CPU.

    Example: maskwatch train my_photos --start maskwatch-640
    """
    try:
        from maskwatch.training.plan import TrainRequest, plan_training
        from maskwatch.training.run import TrainOptions
        from maskwatch.training.run import train as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"training (module {error.name})", "train") from None
    held_out = None if val is None else tuple(val)
    request = TrainRequest(
        tuple(data or ()), held_out, recipe, pipeline_config, tuple(settings or ()), start, classes, resume
    )
    plan = plan_training(request)
    options = TrainOptions(plan.start, resume, _parse_devices(devices), workers)
    training_set, validation_set, trained_on = _read(plan, stems, corrections)
    if _is_first_process():
        _announce(training_set, validation_set, plan, random_start=plan.start is None and not resume)
    folder = out or Path("runs") / plan.recipe.name
    result = run(training_set, validation_set, plan.recipe, folder, replace(options, trained_on=trained_on))
    if _is_first_process():
        _report(result)


def _is_first_process() -> bool:
    """False in the further processes that Lightning starts for further devices; they print nothing."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def _announce(
    training_set: DetectionSet, validation_set: DetectionSet, plan: TrainPlan, random_start: bool
) -> None:
    for message in plan.messages:
        typer.echo(message, err=True)
    for name, a_set in (("training", training_set), ("validation", validation_set)):
        typer.echo(f"{name}: {counts_line(a_set)}", err=True)
    if random_start:
        typer.echo("start: random weights; --start maskwatch-640 needs far fewer pictures", err=True)


def _parse_devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise OptionError(f"--devices {text!r} is not a number of devices; write 1, 2, … or auto")
    return int(text)


def _read(
    plan: TrainPlan, stems: Path | None, corrections: Path | None
) -> tuple[DetectionSet, DetectionSet, str]:
    """Training set, validation set, and a description of the data. Reports the faults of both at once."""
    data, val, classes = list(plan.data), plan.val, plan.classes
    wanted = read_stems(stems)
    named = ", ".join(f"{path.resolve().parent.name}/{path.name}" for path in data)
    groups = [_group(data, "train", wanted)]
    named += "/train" if groups[0].split else ""
    if val is not None:
        groups.append(_group(val, "val"))
    elif groups[0].split and (with_val := [path for path in data if "val" in splits_in_path(path)]):
        groups.append(Group(with_val, None, "val"))
    sets = correct_sets(read_sets(groups, classes), corrections, classes)
    if len(sets) == 2:
        training_set, validation_set = sets
    else:
        (whole,) = sets
        training_set, validation_set = _hold_out(whole, plan.recipe.seed)
    labels = "" if corrections is None else f", labels corrected by {corrections.name}"
    return training_set, validation_set, f"{named} ({len(training_set)} pictures{labels})"


def _group(paths: Sequence[Path], split: str, stems: Collection[str] | None = None) -> Group:
    """The sets at some paths; of those that are split, the one split, but a single file is taken as it is."""
    splits: set[str] = set()
    for path in paths:
        with contextlib.suppress(DataError):  # the reader reports it, together with all others
            splits |= splits_in_path(path)
    as_it_is = len(splits) < 2 and split not in splits and all(path.is_file() for path in paths)
    return Group(paths, stems, split if splits and not as_it_is else None)


def _hold_out(whole: DetectionSet, seed: int) -> tuple[DetectionSet, DetectionSet]:
    """Splits off a random tenth, the same for the same seed."""
    import numpy as np

    if len(whole) < 2:
        raise DataError([f"{len(whole)} picture is not enough to hold one out; name a folder with --val"])
    shuffled = np.random.default_rng(seed).permutation(len(whole))
    count = max(1, round(len(whole) * HELD_OUT))
    held, rest = sorted(shuffled[:count].tolist()), sorted(shuffled[count:].tolist())
    return whole.subset(rest), whole.subset(held)


def _report(result: TrainingResult) -> None:
    pprint.pprint(result.losses)
    if result.validation is not None:
        typer.echo("\n".join(result.validation.lines()))
    typer.echo(f"best: {result.best}\nlast: {result.last}")
    typer.echo(f"next: maskwatch export {result.best} -o model.onnx")
