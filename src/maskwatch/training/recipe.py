"""Recipes: everything that decides a training, in one frozen dataclass, read from a small TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from maskwatch.errors import RecipeError
from maskwatch.text import as_float, read_text, reading


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of the `default` recipe.

    Sizes are in pixels, rates are per step, a step is one batch.
    """

    name: str = "default"

    # Network
    size: int = 640
    """Side of the input that the model is validated and exported at."""
    resize: Literal["letterbox", "squash"] = "letterbox"
    aspect_ratios: tuple[float, ...] = (1.0,)
    """Anchor shapes, width : height. Faces are all about one shape, so one will do."""
    scales_per_octave: int = 2
    anchor_scale: float = 4.0
    # Data
    augment: Literal["scale", "ssd", "flip", "crop", "none"] = "scale"
    """"scale": crops at many scales, recoloured; "ssd": the API's flip and crop, "flip" and
    "crop": one of the two."""
    mild_phase: float = 0.14
    """Share of `steps`, at their end, in which "scale" shows pictures nearly as they come."""
    train_sizes: tuple[int, ...] = (384, 640)
    """Input sides of successive batches; a larger side has fewer pictures, for about the same cost. Multiples
    of 128, the stride of the top level, agree on where its cells and anchors lie."""
    batch_size: int = 12
    """Pictures in a batch of the smallest size."""
    class_balance: float = 0.5
    """0 shows every picture alike; 1 repeats a picture as many times as its rarest class is rarer."""

    # Assignment and loss
    matcher: Literal["atss", "iou"] = "atss"
    loss: Literal["quality", "ssd"] = "quality"
    l2: float = 0.0
    """Weight of the L2 regularisation loss, as `l2_regularizer` in pipeline.config."""

    # Optimiser
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    backbone_rate: float = 0.5
    """Learning rate of the backbone as a share of `learning_rate`."""
    warmup_rate: float = 0.0
    warmup_steps: int = 200
    schedule_steps: int = 0
    """Step at which the cosine reaches zero; 0 means `steps`."""
    steps: int = 7200
    momentum: float = 0.9
    weight_decay: float = 0.02
    """Decoupled weight decay (AdamW) of convolution kernels."""
    clip_norm: float = 10.0
    """Largest gradient norm; 0 for no limit."""
    average_decay: float = 0.998
    """Decay of the moving average of the weights; 0 for none."""
    norm_momentum: float = 0.01
    """Share of a batch in the running BatchNorm statistics."""

    # First phase
    first_phase: float = 0.55
    """Share of `steps` in which BatchNorms learn statistics of the new pictures and the first blocks rest.
    After it the statistics stay as they are, so that the network trains as it will be used, and all layers
    are free. The top levels have a few dozen cells a batch, whose own statistics are far from those that the
    finished network uses. Random weights are in it for all steps."""
    resting_blocks: int = 3
    """The stem and this many inverted residuals keep the weights of the start in the first phase."""

    # Use
    box_voting: bool = True
    """A box is the mean of those that NMS found it to stand for: see `maskwatch.network.postprocess`."""

    # Run
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    validate_every: int = 600
    patience: int = 0
    """Stop after this many validations without a better AP; 0 never stops early."""
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self)

    @property
    def first_phase_end(self) -> int:
        """The step at which the first phase is over; `steps` where it never is."""
        return round(self.first_phase * self.steps)

    @property
    def mild_begin(self) -> int:
        """The step from which on pictures are shown nearly as they come."""
        return self.steps - round(self.mild_phase * self.steps)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Pictures in a batch of each of `train_sizes`."""
        smallest = min(self.train_sizes)
        return tuple(max(1, round(self.batch_size * (smallest / size) ** 2)) for size in self.train_sizes)


def built_in() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    return tuple(
        sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))
    )


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        name_or_path: a built-in name, or a TOML file; keys that it leaves out keep their defaults.
        overrides: `key=value` texts, the value as in TOML; they win over the file.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, a value of the wrong kind or out of range.
    """
    path = Path(name_or_path)
    if str(name_or_path) in built_in():
        text, name = (_folder() / f"{name_or_path}.toml").read_text("utf-8"), str(name_or_path)
    elif path.is_file():
        with reading(path, RecipeError, "give a TOML file"):
            text, name = read_text(path), path.stem
    else:
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}; "
            f"give one of {', '.join(built_in())}, or the path of a TOML file"
        )
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or numbers and nesting beyond Python
        raise RecipeError(f"{path}: not valid TOML ({error}); correct that line") from error
    return recipe_of({"name": name} | values | dict(parse_setting(text) for text in overrides))


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as a TOML file or a checkpoint holds them.

    Raises:
        RecipeError: an unknown key, a value of the wrong kind or out of range.
    """
    hints = typing.get_type_hints(Recipe)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            raise RecipeError(f"unknown key {key!r} in the recipe; did you mean {near[0]!r}? Correct it")
    return Recipe(**{key: _convert(key, value, hints[key]) for key, value in values.items()})


def _folder() -> Any:
    return resources.files("maskwatch.training") / "recipes"


def parse_setting(text: str) -> tuple[str, Any]:
    """`"steps=2000"` → key and value, the value as in TOML.

    Raises:
        RecipeError: it is not key=value.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise RecipeError(f"--set {text!r} is not key=value; write for example --set steps=2000")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value  # a bare word is a text


def _convert(key: str, value: Any, hint: Any) -> Any:
    """A TOML value as the type of its field; whole numbers pass as float, lists as tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        if str(value) in arguments:  # precision = 32
            return str(value)
        raise RecipeError(f"{key} = {value!r} is not one of {', '.join(arguments)}; choose one")
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(key, item, arguments[0]) for item in items)
    if hint is float and type(value) is int:
        value = as_float(value)
    if type(value) is not hint:
        raise RecipeError(f"{key} = {value!r} must be of type {hint.__name__}; correct it")
    return value


def _check(recipe: Recipe) -> None:
    rules: list[tuple[bool, str, str]] = [
        (recipe.size > 0 and recipe.size % 32 == 0, "size", "a multiple of 32"),
        (
            bool(recipe.train_sizes) and all(s > 0 and s % 32 == 0 for s in recipe.train_sizes),
            "train_sizes",
            "multiples of 32",
        ),
        (bool(recipe.aspect_ratios) and min(recipe.aspect_ratios) > 0, "aspect_ratios", "positive numbers"),
        (recipe.scales_per_octave >= 1, "scales_per_octave", "at least 1"),
        (recipe.anchor_scale > 0, "anchor_scale", "positive"),
        (0 <= recipe.resting_blocks <= 17, "resting_blocks", "between 0 and 17"),
        (0 <= recipe.first_phase <= 1, "first_phase", "between 0 and 1"),
        (0 <= recipe.mild_phase <= 1, "mild_phase", "between 0 and 1"),
        (recipe.batch_size >= 1, "batch_size", "at least 1"),
        (recipe.steps >= 1, "steps", "at least 1"),
        (recipe.validate_every >= 1, "validate_every", "at least 1"),
        (recipe.learning_rate > 0, "learning_rate", "positive"),
        (0 <= recipe.average_decay < 1, "average_decay", "from 0 to below 1"),
        (0 <= recipe.class_balance <= 1, "class_balance", "between 0 and 1"),
        (0 < recipe.norm_momentum <= 1, "norm_momentum", "above 0, up to 1"),
    ]
    for holds, key, wanted in rules:
        if not holds:
            raise RecipeError(f"{key} = {getattr(recipe, key)!r} must be {wanted}; correct it")
    for key in (
        "l2",
        "warmup_steps",
        "warmup_rate",
        "schedule_steps",
        "clip_norm",
        "weight_decay",
        "patience",
    ):
        if getattr(recipe, key) < 0:
            raise RecipeError(f"{key} = {getattr(recipe, key)!r} must not be negative; correct it")


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for a checkpoint; the inverse of `recipe_of`."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(recipe).items()}
