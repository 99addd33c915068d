"""What `maskwatch train` is to do: from a recipe, or a pipeline.config of the TF Object Detection API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap

if TYPE_CHECKING:
    from maskwatch.training.recipe import Recipe

DEFAULT_RECIPE = "default"


@dataclass(frozen=True)
class Plan:
    """A training before its data are read. `notes` are lines for the user, on what is not honoured."""

    recipe: Recipe
    start: str | None
    data: tuple[Path, ...]
    val: tuple[Path, ...] | None
    classes: ClassMap
    notes: tuple[str, ...] = ()


def plan(
    data: Sequence[Path] | None,
    val: Sequence[Path] | None,
    recipe: str | None,
    pipeline_config: Path | None,
    settings: Sequence[str],
    start: str | None,
    classes: str | None,
    resume: bool,
) -> Plan:
    """What the options of the command line come to; those of a pipeline.config go behind them.

    Raises:
        OptionError: both a recipe and a pipeline.config are given, or no data.
        RecipeError, LabelError, DataError: as the readers of recipe, classes and label map.
    """
    folders = tuple(data or ())
    held = None if val is None else tuple(val)
    if pipeline_config is None:
        from maskwatch.training.recipe import load_recipe

        if not folders:
            raise OptionError("no data set given; name a folder of pictures and Pascal VOC XML")
        return Plan(
            load_recipe(recipe or DEFAULT_RECIPE, settings), start, folders, held, ClassMap.parse(classes)
        )
    if recipe is not None:
        raise OptionError(
            f"--recipe {recipe} and --pipeline-config {pipeline_config} both say how to train; leave one out"
        )
    from maskwatch.tf_compat.pipeline import read_pipeline

    pipeline = read_pipeline(
        pipeline_config, settings, start=start, resume=resume, named_classes=classes is not None
    )
    folders = folders or pipeline.train_paths
    if not folders:
        raise OptionError(
            f"{pipeline_config} names no folder to train on; name one of pictures and Pascal VOC XML"
        )
    class_map = ClassMap.parse(classes) if pipeline.class_names is None else ClassMap(pipeline.class_names)
    return Plan(
        pipeline.recipe,
        pipeline.start,
        folders,
        held or pipeline.val_paths or None,
        class_map,
        pipeline.notes,
    )
