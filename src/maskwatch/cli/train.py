"""`maskwatch train`: from annotated pictures to a checkpoint."""

from __future__ import annotations

import contextlib
import pprint
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import (
    ClassesOption,
    Group,
    correct_sets,
    counts_line,
    data_path,
    read_sets,
    read_stems,
    splits_in_path,
)
from maskwatch.cli.options import with_options
from maskwatch.errors import DataError, MissingExtraError, OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.training.recipe import Recipe
    from maskwatch.training.run import TrainingResult

# Share of the pictures that is held out where no validation set is given.
HELD_OUT = 0.1


@dataclass(frozen=True)
class TrainArguments:
    """As on the command line."""

    data: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=data_path,
            metavar="[DATA]...",
            help="Folders of Pascal VOC, COCO, YOLO, TFRecord, Label Studio or CVAT; split or not.",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            help="'default', its later stage 'fast' at 320, 'seed', or a TOML file.", show_default="default"
        ),
    ] = None
    pipeline_config: Annotated[
        Path | None,
        typer.Option(help="Train as this pipeline.config of the TF Object Detection API says, not a recipe."),
    ] = None
    val: Annotated[
        list[Path] | None,
        typer.Option(
            parser=data_path,
            metavar="DATA",
            help="Validation folder. Default: the val split of DATA, else a tenth of the pictures.",
        ),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: maskwatch-640, a TF2 zoo archive, folder or URL; a Maskwatch .ckpt."
        ),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Folder for the run; runs/RECIPE if not given.")] = None
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key of the recipe.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False
    classes: ClassesOption = None
    stems: Annotated[
        Path | None, typer.Option(help="Text file of names of pictures (cam1/0001): train on these only.")
    ] = None
    corrections: Annotated[
        Path | None, typer.Option(help="CSV file that corrects labels: see docs/training.md.")
    ] = None
    devices: Annotated[
        str, typer.Option(help="Number of GPUs or CPU processes of each machine, or 'auto'.")
    ] = "auto"
    nodes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Machines that train together: see docs/training.md."),
    ] = None
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long processes wait for one another.")
    ] = 600
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare the batches.")] = 1


@dataclass(frozen=True)
class TrainPlan:
    """A training before its data are read.

    start: where the weights come from, None for random ones. val: None to hold out some of the data.
    messages: what is deprecated, or not honoured of a pipeline.config.
    """

    recipe: Recipe
    start: str | None
    data: Sequence[Path]
    val: Sequence[Path] | None
    classes: ClassMap
    messages: tuple[str, ...] = ()


@with_options(TrainArguments)
def train(arguments: TrainArguments) -> None:
    """Train SSD MobileNetV2 FPNLite on annotated pictures.

    Example: maskwatch train my_photos --start maskwatch-640
    """
    try:
        from maskwatch.training.processes import is_first_process, plan_processes
        from maskwatch.training.run import TrainOptions
        from maskwatch.training.run import train as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"training (module {error.name})", "train") from None
    plan = plan_training(arguments)
    nodes, devices = plan_processes(arguments.nodes, _parse_devices(arguments.devices))
    options = TrainOptions(
        plan.start, arguments.resume, devices, arguments.workers, nodes=nodes, timeout_s=arguments.timeout
    )
    training_set, validation_set, trained_on = read_training_data(
        plan, arguments.stems, arguments.corrections
    )
    if is_first_process():
        random_start = plan.start is None and not arguments.resume
        _announce(training_set, validation_set, plan.messages, random_start)
    folder = arguments.out or Path("runs") / plan.recipe.name
    result = run(training_set, validation_set, plan.recipe, folder, replace(options, trained_on=trained_on))
    if is_first_process():
        _report(result)


# ---- From a recipe, or a pipeline.config of the TF Object Detection API --------------------------------


def plan_training(arguments: TrainArguments) -> TrainPlan:
    """Completes the arguments, which win over what a pipeline.config says.

    Raises:
        OptionError: both a recipe and a pipeline.config are given, no data, or other than one of
            `data_weights` for each data set.
        RecipeError, LabelError, DataError: as the readers of recipe, classes and label map.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        plan = _of_recipe(arguments) if arguments.pipeline_config is None else _of_pipeline(arguments)
    weights, count = plan.recipe.data_weights, len(plan.data)
    if weights and len(weights) != count:
        raise OptionError(
            f"data_weights has {len(weights)} numbers for {count} data sets; give one for each, in their "
            "order"
        )
    return replace(plan, messages=(*(str(warning.message) for warning in caught), *plan.messages))


def _of_recipe(arguments: TrainArguments) -> TrainPlan:
    from maskwatch.training.recipe import load_recipe

    if not arguments.data:
        raise OptionError("no data set given; name a folder of pictures and Pascal VOC XML")
    recipe = load_recipe(arguments.recipe or "default", arguments.settings or ())
    classes = ClassMap.parse(arguments.classes)
    return TrainPlan(recipe, arguments.start, arguments.data, arguments.val, classes)


def _of_pipeline(arguments: TrainArguments) -> TrainPlan:
    from maskwatch.tf_compat.pipeline import read_pipeline
    from maskwatch.training.recipe import load_recipe, parse_settings, plain, recipe_of

    path = arguments.pipeline_config
    assert path is not None
    if arguments.recipe is not None:
        raise OptionError(
            f"--recipe {arguments.recipe} and --pipeline-config {path} both say how to train; leave one out"
        )
    pipeline = read_pipeline(
        path,
        plain(load_recipe("seed")),
        parse_settings(arguments.settings or ()),
        start=arguments.start,
        resume=arguments.resume,
        named_classes=arguments.classes is not None,
    )
    recipe = recipe_of(pipeline.settings)
    data, val = arguments.data or pipeline.train_paths, arguments.val or pipeline.val_paths or None
    if not data:
        raise OptionError(f"{path} names no folder to train on; name one of pictures and Pascal VOC XML")
    names = pipeline.class_names
    classes = ClassMap.parse(arguments.classes) if names is None else ClassMap(names)
    return TrainPlan(recipe, pipeline.start, data, val, classes, pipeline.messages)


def _parse_devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise OptionError(f"--devices {text!r} is not a number of devices; write 1, 2, … or auto")
    return int(text)


# ---- The data --------------------------------------------------------------------------------------------


def read_training_data(
    plan: TrainPlan, stems: Path | None, corrections: Path | None
) -> tuple[DetectionSet, DetectionSet, str]:
    """Training set, validation set, and a description of the data. Reports the errors of both at once."""
    data, val, classes = plan.data, plan.val, plan.classes
    named = ", ".join(f"{path.resolve().parent.name}/{path.name}" for path in data)
    groups = [_group(data, "train", read_stems(stems))]
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


# ---- What is printed -------------------------------------------------------------------------------------


def _announce(
    training_set: DetectionSet, validation_set: DetectionSet, messages: Sequence[str], random_start: bool
) -> None:
    for message in messages:
        typer.echo(message, err=True)
    for name, a_set in (("training", training_set), ("validation", validation_set)):
        typer.echo(f"{name}: {counts_line(a_set)}", err=True)
    if random_start:
        typer.echo("start: random weights; --start maskwatch-640 needs far fewer pictures", err=True)


def _report(result: TrainingResult) -> None:
    pprint.pprint(result.losses)
    if result.validation is not None:
        typer.echo("\n".join(result.validation.lines()))
    typer.echo(f"best: {result.best}\nlast: {result.last}")
    typer.echo(f"next: maskwatch export {result.best} -o model.onnx")
