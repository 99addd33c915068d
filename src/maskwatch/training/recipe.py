"""Recipes: all settings of a training in one frozen dataclass, read from a small TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from maskwatch.errors import RecipeError
from maskwatch.text import as_float, read_text, reading

# Keys and values of earlier versions → their present names. Recipes, --set and checkpoints may have either.
RENAMED_KEYS = {
    "average_decay": "ema_decay",
    "backbone_rate": "backbone_lr_mult",
    "first_phase": "bn_update_fraction",
    "mild_phase": "no_aug_fraction",
    "norm_momentum": "bn_momentum",
    "resting_blocks": "frozen_blocks",
    "warmup_rate": "warmup_learning_rate",
}
RENAMED_VALUES = {("loss", "quality"): "gfl"}
# Between two of `data_weights`: a pass over the data grows with it.
MAX_WEIGHT_RATIO = 1000


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. The defaults are those of the `default` recipe.

    Sizes are in pixels. A step is one batch.
    """

    name: str = "default"

    # Network
    size: int = 640
    """Side of the network's input at validation and export."""
    resize: Literal["letterbox", "squash"] = "letterbox"
    aspect_ratios: tuple[float, ...] = (1.0,)
    """Anchor shapes, width : height. Faces are all about square, so one is enough."""
    scales_per_octave: int = 2
    anchor_scale: float = 4.0
    # Data
    augment: Literal["scale", "ssd", "flip", "crop", "none"] = "scale"
    """"scale": crops at many scales with colour jitter, copy-paste and occlusion; "ssd": flip and crop as in
    the TF Object Detection API; "flip", "crop": one of these two."""
    no_aug_fraction: float = 0.14
    """Fraction of `steps`, at the end, without strong augmentation: "scale" then changes images little."""
    train_sizes: tuple[int, ...] = (384, 640)
    """Input sides of successive batches; a larger side has fewer images, for about the same cost. Multiples
    of 128, the stride of the top level, place its cells and anchors alike."""
    batch_size: int = 12
    """Images in a batch of the smallest size, on each device."""
    class_balance: float = 0.5
    """Exponent of repeat-factor sampling: 0 shows every image equally often; 1 repeats an image as many times
    as its rarest class is rarer than the most frequent one."""
    data_weights: tuple[float, ...] = ()
    """Where several data sets are named: how often to show an image of each, relative to one another, in the
    order of the data sets; [3, 1] shows each image of the first three times as often as one of the second.
    `class_balance` repeats images on top of that. Empty shows the images of all data sets equally often."""

    # Assignment and loss
    matcher: Literal["atss", "iou"] = "atss"
    loss: Literal["gfl", "ssd"] = "gfl"
    """"gfl": quality focal and GIoU; "ssd": focal and smooth L1, as in the TF Object Detection API."""
    l2: float = 0.0
    """Weight of the L2 regularisation loss, as `l2_regularizer` in pipeline.config."""

    # Optimiser
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    backbone_lr_mult: float = 0.5
    """Learning rate of the backbone as a multiple of `learning_rate`."""
    warmup_learning_rate: float = 0.0
    """Learning rate at step 0, from which it rises over `warmup_steps`."""
    warmup_steps: int = 200
    schedule_steps: int = 0
    """Step at which the cosine reaches zero; 0 means `steps`."""
    steps: int = 7200
    momentum: float = 0.9
    weight_decay: float = 0.02
    """Decoupled weight decay (AdamW) of convolution kernels."""
    clip_norm: float = 10.0
    """Largest gradient norm; 0 for no limit."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights; 0 for none."""

    # BatchNorm and frozen layers
    bn_momentum: float = 0.01
    """Weight of a batch in the running statistics of BatchNorms."""
    bn_update_fraction: float = 0.55
    """Fraction of `steps`, from the beginning, in which BatchNorms normalise by the batch and update their
    running statistics. Then the statistics are frozen, so that the network trains as it will be used: the top
    levels have a few dozen cells in a batch, whose statistics are far from the running ones. A training from
    random weights takes 1."""
    frozen_blocks: int = 3
    """The stem and this many inverted residual blocks keep their weights during `bn_update_fraction`; 0
    freezes nothing. A training from random weights takes 0."""

    # Inference
    box_voting: bool = True
    """A box is the weighted mean of those that NMS suppressed for it: see `maskwatch.network.postprocess`."""

    # Run
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    validate_every: int = 600
    patience: int = 0
    """Stop after this many validations without a better AP; 0 never stops early."""
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self)

    @property
    def bn_update_end(self) -> int:
        """The first step with frozen statistics; `steps` where BatchNorms update to the end."""
        return round(self.bn_update_fraction * self.steps)

    @property
    def no_aug_start(self) -> int:
        """The first step without strong augmentation."""
        return self.steps - round(self.no_aug_fraction * self.steps)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Images in a batch of each of `train_sizes`."""
        smallest = min(self.train_sizes)
        return tuple(max(1, round(self.batch_size * (smallest / size) ** 2)) for size in self.train_sizes)


def built_in() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    names = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


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
        names = ", ".join(built_in())
        raise RecipeError(f"no recipe {str(name_or_path)!r}; give one of {names}, or the path of a TOML file")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or numbers and nesting beyond Python
        raise RecipeError(f"{path}: not valid TOML ({error}); correct that line") from error
    return recipe_of({"name": name} | _warn_of_old_names(values) | parse_settings(overrides))


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as a checkpoint holds them; keys and values may have their earlier names.

    Raises:
        RecipeError: an unknown key, one under both of its names, a value of the wrong type or out of range.
    """
    values, _ = _with_present_names(values)
    hints = typing.get_type_hints(Recipe)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            raise RecipeError(f"unknown key {key!r} in the recipe; did you mean {near[0]!r}? Correct it")
    return Recipe(**{key: _convert(key, value, hints[key]) for key, value in values.items()})


def _folder() -> Any:
    return resources.files("maskwatch.training") / "recipes"


def _with_present_names(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values under the present names of their keys, and a message for each earlier name."""
    renamed: dict[str, Any] = {}
    messages = []
    for key, value in values.items():
        new_key = RENAMED_KEYS.get(key, key)
        if new_key in renamed:
            raise RecipeError(f"{new_key} is given twice, once under its earlier name; leave one out")
        if new_key != key:
            messages.append(f"the recipe key {key} is deprecated; use {new_key}")
        renamed[new_key] = value
        if isinstance(value, str) and (new_value := RENAMED_VALUES.get((new_key, value))):
            messages.append(f"{new_key} = {value!r} is deprecated; use {new_value!r}")
            renamed[new_key] = new_value
    return renamed, messages


def _warn_of_old_names(values: Mapping[str, Any]) -> dict[str, Any]:
    renamed, messages = _with_present_names(values)
    for message in messages:
        warnings.warn(message, DeprecationWarning, stacklevel=4)
    return renamed


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`["steps=2000"]` → values by key, read as TOML; the last of a key counts. Warns of earlier names.

    Raises:
        RecipeError: one is not key=value.
    """
    return _warn_of_old_names(dict(map(_parse_setting, settings)))


def _parse_setting(text: str) -> tuple[str, Any]:
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
    for keys, holds, must in _RULES:
        for key in keys.split():
            value = getattr(recipe, key)
            if not holds(value):
                raise RecipeError(f"{key} = {value!r} must {must}; correct it")


def _weights(weights: Sequence[float]) -> bool:
    positive = all(0 < weight < math.inf for weight in weights)
    return positive and max(weights, default=0) <= MAX_WEIGHT_RATIO * min(weights, default=0)


def _whole_cells(size: int) -> bool:
    return size > 0 and size % 32 == 0


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("size", _whole_cells, "be a multiple of 32"),
    ("train_sizes", lambda sizes: bool(sizes) and all(map(_whole_cells, sizes)), "be multiples of 32"),
    ("aspect_ratios", lambda ratios: bool(ratios) and min(ratios) > 0, "be positive numbers"),
    ("data_weights", _weights, f"be positive numbers, none more than {MAX_WEIGHT_RATIO} times another"),
    ("anchor_scale learning_rate", lambda value: value > 0, "be positive"),
    ("scales_per_octave batch_size steps validate_every", lambda value: value >= 1, "be at least 1"),
    ("frozen_blocks", lambda value: 0 <= value <= 17, "be between 0 and 17"),
    ("bn_update_fraction no_aug_fraction class_balance", lambda value: 0 <= value <= 1, "be between 0 and 1"),
    ("ema_decay", lambda value: 0 <= value < 1, "be from 0 to below 1"),
    ("bn_momentum", lambda value: 0 < value <= 1, "be above 0, up to 1"),
    (
        "l2 warmup_steps warmup_learning_rate schedule_steps clip_norm weight_decay patience",
        lambda value: value >= 0,
        "not be negative",
    ),
)


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for a checkpoint; the inverse of `recipe_of`."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(recipe).items()}
