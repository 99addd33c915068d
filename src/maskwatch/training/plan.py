"""What a training does: from a recipe, or a pipeline.config of the TF Object Detection API."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap
from maskwatch.tf_compat.pipeline import read_pipeline
from maskwatch.training.recipe import Recipe, load_recipe, parse_settings, plain, recipe_of

DEFAULT_RECIPE = "default"


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for; None and () where nothing is said.

    Attributes:
        data, val: data sets to train and to validate on.
        recipe: a built-in name or a TOML file.
        pipeline_config: a file that takes the place of a recipe.
        settings: `key=value` of the recipe.
        start: where the weights come from.
        classes: class names and their spellings, as `ClassMap.parse` reads them.
        resume: continue a training.
    """

    data: tuple[Path, ...] = ()
    val: tuple[Path, ...] | None = None
    recipe: str | None = None
    pipeline_config: Path | None = None
    settings: tuple[str, ...] = ()
    start: str | None = None
    classes: str | None = None
    resume: bool = False


@dataclass(frozen=True)
class TrainPlan:
    """A training before its data are read. `messages` tell the user what is deprecated or not honoured."""

    recipe: Recipe
    start: str | None
    data: tuple[Path, ...]
    val: tuple[Path, ...] | None
    classes: ClassMap
    messages: tuple[str, ...] = ()


def plan_training(request: TrainRequest) -> TrainPlan:
    """Completes a request; what it says wins over its pipeline.config.

    Raises:
        OptionError: both a recipe and a pipeline.config are given, or no data.
        RecipeError, LabelError, DataError: as the readers of recipe, classes and label map.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        plan = _of_recipe(request) if request.pipeline_config is None else _of_pipeline(request)
    return replace(plan, messages=(*(str(warning.message) for warning in caught), *plan.messages))


def _of_recipe(request: TrainRequest) -> TrainPlan:
    if not request.data:
        raise OptionError("no data set given; name a folder of pictures and Pascal VOC XML")
    recipe = load_recipe(request.recipe or DEFAULT_RECIPE, request.settings)
    return TrainPlan(recipe, request.start, request.data, request.val, ClassMap.parse(request.classes))


def _of_pipeline(request: TrainRequest) -> TrainPlan:
    path = request.pipeline_config
    assert path is not None
    if request.recipe is not None:
        raise OptionError(
            f"--recipe {request.recipe} and --pipeline-config {path} both say how to train; leave one out"
        )
    pipeline = read_pipeline(
        path,
        plain(load_recipe("seed")),
        parse_settings(request.settings),
        start=request.start,
        resume=request.resume,
        named_classes=request.classes is not None,
    )
    recipe = recipe_of(pipeline.settings)
    data, val = request.data or pipeline.train_paths, request.val or pipeline.val_paths or None
    if not data:
        raise OptionError(f"{path} names no folder to train on; name one of pictures and Pascal VOC XML")
    names = pipeline.class_names
    classes = ClassMap.parse(request.classes) if names is None else ClassMap(names)
    return TrainPlan(recipe, pipeline.start, data, val, classes, pipeline.messages)
