"""`pipeline.config` of the TF Object Detection API → recipe settings, and a message for each other field.

The defaults of fields that a file leaves out are those of the API's definitions (object_detection/protos).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwatch.errors import RecipeError
from maskwatch.text import read_text, reading
from maskwatch.tf_compat import textproto
from maskwatch.tf_compat.label_map import read_label_map
from maskwatch.tf_compat.pipeline_fields import ARCHITECTURE, CROP, IGNORED, SAME, Fields

_SSD = "model.ssd."
_TRAIN = "train_config."
_MOMENTUM, _ADAM = (f"{_TRAIN}optimizer.{kind}_optimizer" for kind in ("momentum", "adam"))
_ANCHORS = _SSD + "anchor_generator.multiscale_anchor_generator"
_SIZE_MULTIPLE = 32
# What the zoo writes in place of a path.
_PLACEHOLDER = "PATH_TO_BE_CONFIGURED"


@dataclass(frozen=True)
class Pipeline:
    """The training that a pipeline.config describes.

    Attributes:
        settings: values of all recipe keys, named "pipeline": `base` with what the file sets.
        class_names: those of the label map in the order of their ids; None where none can be read.
        start: the checkpoint to begin with, None for random weights.
        train_paths, val_paths: folders that the input readers name; TFRecord files are left out.
        messages: one line for each field that is not honoured.
    """

    settings: dict[str, Any]
    class_names: tuple[str, ...] | None
    start: str | None
    train_paths: tuple[Path, ...]
    val_paths: tuple[Path, ...]
    messages: tuple[str, ...]


def read_pipeline(
    path: str | Path,
    base: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    start: str | None = None,
    resume: bool = False,
    named_classes: bool = False,
) -> Pipeline:
    """Reads a pipeline.config.

    Args:
        path: the file; paths in it are relative to the working directory, else to its folder.
        base: value of every recipe key, for what the file does not set.
        overrides: recipe keys that win over the file.
        start: a checkpoint that wins over `fine_tune_checkpoint`.
        resume: a training is resumed, which needs no checkpoint to begin with.
        named_classes: the caller has the class names, so that the label map is not needed.

    Raises:
        RecipeError: it cannot be read, asks for another network, or holds a value out of range.
        DataError: its label map exists and is wrong.
    """
    path = Path(path)
    with reading(path, RecipeError, "give a pipeline.config"):
        text = read_text(path)
    try:
        fields = Fields(path, textproto.parse(text))
    except ValueError as error:
        raise RecipeError(f"{path}: {error}; give a pipeline.config in text format") from None
    _check_architecture(fields)
    values = _network(fields) | _resizer(fields, size_given="size" in overrides) | _data(fields)
    values |= _schedule(fields, base) | _optimizer(fields) | {"name": "pipeline", **overrides}
    values.setdefault("train_sizes", [values["size"]])
    class_names = None if named_classes else _classes(fields)
    start = _start(fields, start, resume)
    train_paths, val_paths = _inputs(fields, "train_input_reader"), _inputs(fields, "eval_input_reader")
    _note_the_rest(fields)
    return Pipeline({**base, **values}, class_names, start, train_paths, val_paths, tuple(fields.messages))


def _check_architecture(fields: Fields) -> None:
    if not fields.has("model.ssd"):
        models = sorted({name.split(".")[1] for name in fields.values if name.startswith("model.")})
        raise RecipeError(
            f"{fields.path}: its model is {', '.join(models) or 'missing'}; only ssd with MobileNetV2 "
            "FPNLite trains here: take ssd_mobilenet_v2_fpnlite's pipeline.config of the zoo"
        )
    for name, ours, default in ARCHITECTURE:
        found = fields.get(_SSD + name, default)
        if found != ours:
            raise RecipeError(
                f"{fields.path}: {_SSD}{name} is {found!r}, the network here has {ours!r}; "
                "take ssd_mobilenet_v2_fpnlite's pipeline.config of the zoo"
            )
    if not fields.has(_ANCHORS):
        raise RecipeError(f"{fields.path}: {_ANCHORS} is missing; it defines the anchors here, add it")


def _network(fields: Fields) -> dict[str, Any]:
    norm = _SSD + "feature_extractor.conv_hyperparams.batch_norm."
    weight = "conv_hyperparams.regularizer.l2_regularizer.weight"
    head = f"{_SSD}box_predictor.weight_shared_convolutional_box_predictor.{weight}"
    l2 = fields.get(f"{_SSD}feature_extractor.{weight}", 0.0)
    if fields.get(head, l2) != l2:
        fields.note(head, f"the weight of the feature extractor, {l2:g}, counts everywhere")
    return {
        "aspect_ratios": fields.all(_ANCHORS + ".aspect_ratios", float) or [1.0],
        "scales_per_octave": fields.get(_ANCHORS + ".scales_per_octave", 2),
        "anchor_scale": fields.get(_ANCHORS + ".anchor_scale", 4.0),
        "l2": l2,
        "bn_momentum": round(1 - fields.get(norm + "decay", 0.999), 6),
        "bn_update_fraction": 0.0 if fields.get(_SSD + "freeze_batchnorm", False) else 1.0,
    }


def _resizer(fields: Fields, size_given: bool) -> dict[str, Any]:
    fixed = _SSD + "image_resizer.fixed_shape_resizer."
    keeping = _SSD + "image_resizer.keep_aspect_ratio_resizer."
    if fields.has(keeping[:-1]):
        least, size = fields.get(keeping + "min_dimension", 600), fields.get(keeping + "max_dimension", 1024)
        if least != size:
            fields.note(keeping + "min_dimension", f"the longer side becomes {size}, the rest is padded")
        if not fields.get(keeping + "pad_to_max_dimension", False):
            fields.note(keeping + "pad_to_max_dimension", "pictures are padded to a square")
        _note_method(fields, keeping + "resize_method")
        return {"size": size, "resize": "letterbox"}
    if not fields.has(fixed[:-1]):
        raise RecipeError(
            f"{fields.path}: {_SSD}image_resizer is neither fixed_shape_resizer nor "
            "keep_aspect_ratio_resizer; write one of them"
        )
    height, width = fields.get(fixed + "height", 300), fields.get(fixed + "width", 300)
    _note_method(fields, fixed + "resize_method")
    if height != width and not size_given:
        raise RecipeError(
            f"{fields.path}: an input of {height}x{width} is not square; use --set size="
            f"{-(-max(height, width) // _SIZE_MULTIPLE) * _SIZE_MULTIPLE}"
        )
    return {"size": height, "resize": "squash"}


def _note_method(fields: Fields, name: str) -> None:
    if fields.get(name, "BILINEAR") != "BILINEAR":
        fields.note(name, "pictures grow by bilinear interpolation and shrink by area")


def _data(fields: Fields) -> dict[str, Any]:
    options = _TRAIN + "data_augmentation_options."
    crop = options + "random_crop_image"
    flips, crops = fields.use(options + "random_horizontal_flip"), fields.use(crop)
    for name, ours, default in CROP if crops else ():
        found = fields.get(f"{crop}.{name}", default)
        if found != ours:
            fields.messages.append(f"{crop}.{name}: {found!r} is not honoured; crops here take {ours!r}")
    augment = {(True, True): "ssd", (True, False): "flip", (False, True): "crop", (False, False): "none"}
    return {"augment": augment[flips, crops], "batch_size": fields.get(_TRAIN + "batch_size", 32)}


def _schedule(fields: Fields, base: Mapping[str, Any]) -> dict[str, Any]:
    """Steps and learning rate, of whichever optimiser."""
    steps = fields.get(_TRAIN + "num_steps", 0) or base["steps"]
    values: dict[str, Any] = {"steps": steps, "validate_every": min(base["validate_every"], steps)}
    optimizer = next((kind for kind in (_MOMENTUM, _ADAM) if fields.has(kind)), None)
    if optimizer is None:
        return values
    rate = f"{optimizer}.learning_rate."
    cosine, constant = rate + "cosine_decay_learning_rate.", rate + "constant_learning_rate."
    if fields.has(cosine[:-1]):
        if fields.get(cosine + "hold_base_rate_steps", 0):
            fields.note(cosine + "hold_base_rate_steps", "the decay begins after the warm-up")
        return values | {
            "learning_rate": fields.get(cosine + "learning_rate_base", 0.002),
            "schedule_steps": fields.get(cosine + "total_steps", 4_000_000),
            "warmup_learning_rate": fields.get(cosine + "warmup_learning_rate", 0.0002),
            "warmup_steps": fields.get(cosine + "warmup_steps", 10_000),
        }
    values |= {"schedule_steps": steps, "warmup_steps": 0, "warmup_learning_rate": 0.0}
    if fields.has(constant[:-1]):
        fields.messages.append(f"{constant[:-1]} is not honoured; the rate falls to 0 by a cosine")
        return values | {"learning_rate": fields.get(constant + "learning_rate", 0.002)}
    fields.messages.append(f"{rate[:-1]} is not honoured; the rate falls to 0 by a cosine")
    initial = [name for name in fields.values if name.startswith(rate) and "initial_learning_rate" in name]
    return values | ({"learning_rate": fields.get(initial[0], 0.002)} if initial else {})


def _optimizer(fields: Fields) -> dict[str, Any]:
    values: dict[str, Any] = {"optimizer": "sgd", "weight_decay": 0.0}
    if fields.has(_ADAM) and not fields.has(_MOMENTUM):
        values["optimizer"] = "adamw"
        if fields.get(f"{_ADAM}.epsilon", 1e-8) != 1e-8:
            fields.note(f"{_ADAM}.epsilon", "it is 1e-08 here")
    else:
        values["momentum"] = fields.get(f"{_MOMENTUM}.momentum_optimizer_value", 0.9)
    averaged = fields.get(_TRAIN + "optimizer.use_moving_average", True)
    decay = fields.get(_TRAIN + "optimizer.moving_average_decay", 0.9999)
    return values | {
        "ema_decay": decay if averaged else 0.0,
        "clip_norm": fields.get(_TRAIN + "gradient_clipping_by_norm", 0.0),
        "precision": "bf16" if fields.get(_TRAIN + "use_bfloat16", False) else "32",
    }


def _classes(fields: Fields) -> tuple[str, ...] | None:
    option = "train_input_reader.label_map_path"
    paths = fields.all(option, str) + fields.all("eval_input_reader.label_map_path", str)
    found = next((path for text in paths if (path := _find(fields, text)) is not None), None)
    if found is None:
        fields.note(option, "there is no such file, so that --classes, or else the mask classes, count")
        return None
    names = tuple(read_label_map(found).values())
    if len(names) != fields.get(_SSD + "num_classes", 0):
        fields.note(_SSD + "num_classes", f"the label map has {len(names)} classes")
    return names


def _start(fields: Fields, start: str | None, resume: bool) -> str | None:
    option = _TRAIN + "fine_tune_checkpoint"
    name, kind = fields.get(option, ""), fields.get(f"{option}_type", "")
    if resume or start is not None or not name:
        if start is not None and name:
            fields.note(option, f"--start {start} goes before it")
        return start
    if kind not in ("", "detection"):
        fields.note(f"{option}_type", "all weights that fit are taken, as with 'detection'")
    found = _find(fields, name, ".index")
    if found is None:
        raise RecipeError(
            f"{fields.path}: fine_tune_checkpoint {name!r}: no checkpoint there; correct it, or use "
            "--start maskwatch-640 or --start with the path of one"
        )
    return str(found)


def _inputs(fields: Fields, reader: str) -> tuple[Path, ...]:
    """Folders that a reader names; notes each TFRecord."""
    name = f"{reader}.tf_record_input_reader.input_path"
    folders = []
    for text in fields.all(name, str):
        found = _find(fields, text)
        if found is not None and found.is_dir():
            folders.append(found)
        else:
            fields.messages.append(
                f"{name}: {text!r} is not read; the data sets of the command line count, which "
                "maskwatch data convert --to voc makes of TFRecord"
            )
    return tuple(folders)


def _find(fields: Fields, text: str, suffix: str = "") -> Path | None:
    """The path from the working directory or the file's folder, or None where nothing exists.

    `suffix` is that of a file of which the path is only a prefix.
    """
    if not text or text.startswith(_PLACEHOLDER):
        return None
    for path in (Path(text), fields.path.parent / text):
        if path.exists() or (suffix and path.with_name(path.name + suffix).exists()):
            return path
    return None


def _note_the_rest(fields: Fields) -> None:
    for name, ours, default in SAME:
        found = fields.get(name, default)
        if found != ours:
            shown = "" if name in fields.values else " (the API's default)"
            fields.messages.append(f"{name}: {found!r}{shown} is not honoured; it is {ours!r} here")
    for name in fields.unread():
        if not name.startswith(IGNORED):
            fields.note(name, "there is nothing like it here")
