"""Model files: the embedded ones, and the metadata in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from maskwatch.errors import ModelFileError, OptionError
from maskwatch.media.images import ResizeRule
from maskwatch.text import reading

DEFAULT_MODEL = "maskwatch-640"

FORMAT = "1"
"""Version of the model file format; a file of another version is refused."""

IOU_THRESHOLD = 0.6
"""The default of NMS, which drops the weaker of two boxes that overlap more."""

MAX_DETECTIONS = 100
"""Of one image, after NMS."""

CANDIDATES = 2000
"""NMS compares this many best pairs of a box and a class. Greedy NMS compares a box with better ones only, so
the result is the unlimited one whenever `MAX_DETECTIONS` remain."""

CANDIDATE_TENSORS = ("candidate_boxes", "candidate_scores", "candidate_classes")
"""Input of thresholds and NMS inside a model file: (N, K, 4), (N, K) and (N, K), best first."""

Calibration: TypeAlias = tuple[tuple[float, float], ...]
"""For each class the slope and the offset of its score's logit, see `network.postprocess.calibrate`."""

UNCALIBRATED = (1.0, 0.0)
"""The slope and the offset that leave scores as they are."""

PRECISIONS = ("float32", "int8")
"""What the convolutions of a model file compute in, see `export.int8`."""

_PREFIX = "maskwatch."
_WEIGHTS = Path(__file__).parent / "weights"
_CHECKPOINT_SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of a model file; stored in the ONNX `metadata_props`, each entry as a string.

    `input_size` is (H, W) in pixels; `thresholds` holds one score for each class; with `box_voting` a box is
    the mean of itself and those that NMS dropped for it; `calibration`, fitted on `calibrated_on` pictures,
    is empty where the scores are the network's own; `precision` is one of `PRECISIONS`, `quantised_on` names
    the data that gave an int8 file its ranges of values.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    resize: ResizeRule
    thresholds: tuple[float, ...]
    trained_on: str = ""
    created: str = ""
    recipe: str = ""
    box_voting: bool = False
    calibration: Calibration = ()
    calibrated_on: int = 0
    precision: str = PRECISIONS[0]
    quantised_on: str = ""

    @property
    def title(self) -> str:
        """Name and input size for display: `maskwatch-640 (640x640)`, height first."""
        return f"{self.name} ({self.input_size[0]}x{self.input_size[1]})"

    @property
    def is_int8(self) -> bool:
        """Whether the network computes in int8."""
        return self.precision == "int8"

    def to_props(self) -> dict[str, str]:
        """The `metadata_props` of a model file; `from_props` reads them back."""
        return {
            _PREFIX + key: value if isinstance(value, str) else json.dumps(value)
            for key, value in {"format": FORMAT, **asdict(self)}.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> ModelMetadata:
        """Reads and checks `metadata_props`; ignores entries of other programs.

        Raises:
            ModelFileError: an entry is missing or invalid, or the format is another one.
        """
        ours = {key.removeprefix(_PREFIX): value for key, value in props.items() if key.startswith(_PREFIX)}
        if "format" not in ours:
            raise ModelFileError("it has no Maskwatch metadata; write it with: maskwatch export")
        if ours["format"] != FORMAT:
            raise ModelFileError(
                f"it has model format {ours['format']!r}, this version reads {FORMAT!r}; upgrade maskwatch"
            )
        # Older files lack these.
        older = {"box_voting": "false", "calibration": "[]", "calibrated_on": "0", "precision": PRECISIONS[0]}
        ours = older | ours
        names = _json_list(ours, "classes", "a list of different names", _are_names)
        count = len(names)
        wanted = f"{count} numbers, one for each class"
        scores = _json_list(ours, "thresholds", wanted, lambda items: _are_numbers(items, count))
        wanted = f"[] or {count} pairs [slope, offset] with a slope above 0"
        calibration = _json_list(ours, "calibration", wanted, lambda items: _is_calibration(items, count))
        return cls(
            name=_text(ours, "name"),
            version=_text(ours, "version"),
            classes=names,
            input_size=_json_list(ours, "input_size", "[height, width] in pixels", _is_size),
            resize=_one_of(ours, "resize", ("letterbox", "squash")),
            thresholds=tuple(map(float, scores)),
            box_voting=_one_of(ours, "box_voting", ("true", "false")) == "true",
            calibration=tuple((float(slope), float(offset)) for slope, offset in calibration),
            calibrated_on=_count(ours, "calibrated_on"),
            precision=_one_of(ours, "precision", PRECISIONS),
            **{key: ours.get(key, "") for key in ("trained_on", "created", "recipe", "quantised_on")},
        )


@dataclass(frozen=True)
class ModelFile:
    """A model file on disk and its metadata."""

    path: Path
    metadata: ModelMetadata


def embedded_models() -> tuple[str, ...]:
    """Names of the models inside the package, the default one first."""
    names = (path.stem for path in _WEIGHTS.glob("*.onnx"))
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_MODEL, name)))


def embedded_of_size(size: int) -> str:
    """Name of the embedded model with inputs of `size` × `size` pixels; raises `OptionError`."""
    sizes = {load_model_file(name).metadata.input_size: name for name in embedded_models()}
    if (size, size) not in sizes:
        known = ", ".join(str(height) for height, _ in sorted(sizes)) or "none"
        raise OptionError(f"no embedded model has size {size}; choose one of those there are: {known}")
    return sizes[size, size]


def load_model_file(name_or_path: str | Path) -> ModelFile:
    """Finds a model by the name of an embedded one or by path, and reads its metadata.

    Raises:
        ModelFileError: there is no such model, or the file is not a Maskwatch model.
    """
    path = _find(name_or_path)
    with reading(path, ModelFileError, "check its permissions"):
        data = path.read_bytes()
    try:
        props = _onnx_props(data)
    except (ValueError, IndexError):
        raise ModelFileError(
            f"{path}: this is not an ONNX file; pass one that maskwatch export wrote"
        ) from None
    try:
        return ModelFile(path, ModelMetadata.from_props(props))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: this is not a Maskwatch model: {error}") from None


def _find(name_or_path: str | Path) -> Path:
    if name_or_path in embedded_models():
        return _WEIGHTS / f"{name_or_path}.onnx"
    path = Path(name_or_path)
    if os.path.isdir(path):  # noqa: PTH112
        raise ModelFileError(f"{path}: this is a folder; pass the .onnx file in it")
    if not os.path.exists(path):  # noqa: PTH110, unlike Path.exists it takes names of any length
        known = ", ".join(embedded_models()) or "none"
        raise ModelFileError(
            f"no model {str(name_or_path)!r}: neither a file nor an embedded model (there are: {known}); "
            "pass one of these or the path of an .onnx file"
        )
    if path.suffix in _CHECKPOINT_SUFFIXES:
        raise ModelFileError(
            f"{path}: this is a training checkpoint; export it first: maskwatch export {path} -o model.onnx"
        )
    return path


def _text(props: Mapping[str, str], key: str) -> str:
    if not props.get(key):
        raise ModelFileError(f"its metadata lacks {_PREFIX}{key}; export it again with: maskwatch export")
    return props[key]


def _wrong(key: str, value: object, wanted: str) -> ModelFileError:
    return ModelFileError(
        f"its {_PREFIX}{key} is {value!r}, not {wanted}; export it again with: maskwatch export"
    )


def _one_of(props: Mapping[str, str], key: str, values: Sequence[str]) -> Any:
    value = _text(props, key)
    if value not in values:
        raise _wrong(key, value, " or ".join(map(repr, values)))
    return value


def _count(props: Mapping[str, str], key: str) -> int:
    text = _text(props, key)
    if not (text.isascii() and text.isdigit()):
        raise _wrong(key, text, "a whole number")
    return int(text)


def _json_list(props: Mapping[str, str], key: str, wanted: str, fits: Callable[[list[Any]], bool]) -> Any:
    """The items of a JSON list that `fits`; `wanted` describes such a list in messages."""
    text = _text(props, key)
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise _wrong(key, text, "a JSON list")
    if not fits(items):
        raise _wrong(key, items, wanted)
    return tuple(items)


def _are_names(items: list[Any]) -> bool:
    named = all(isinstance(item, str) and item for item in items)
    return bool(items) and named and len({*items}) == len(items)


def _is_size(items: list[Any]) -> bool:
    return len(items) == 2 and all(type(side) is int and side > 0 for side in items)


def _are_numbers(items: list[Any], count: int) -> bool:
    return len(items) == count and all(type(item) in (int, float) and abs(item) < 1e300 for item in items)


def _is_calibration(items: list[Any], count: int) -> bool:
    pairs = all(isinstance(item, list) and _are_numbers(item, 2) and item[0] > 0 for item in items)
    return pairs and len(items) in (0, count)


def _onnx_props(data: bytes) -> dict[str, str]:
    """`metadata_props` of an ONNX file, without loading its graph.

    Field numbers as in onnx.proto: ModelProto.ir_version = 1, graph = 7, metadata_props = 14;
    StringStringEntryProto.key = 1, value = 2. Raises `ValueError` or `IndexError` for other bytes.
    """
    fields = list(_protobuf_fields(memoryview(data)))
    if not {1, 7} <= {number for number, _ in fields}:
        raise ValueError("no ONNX model")
    entries = [dict(_protobuf_fields(value)) for number, value in fields if number == 14]
    return {str(entry[1], "utf-8"): str(entry.get(2, b""), "utf-8") for entry in entries if 1 in entry}


def _protobuf_fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Fields of a protobuf message as (number, content); integers have no content.

    Wire format: https://protobuf.dev/programming-guides/encoding/
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            _, at = _varint(data, at)
            end = at
        elif wire_type == 2:
            length, at = _varint(data, at)
            end = at + length
        elif wire_type in (1, 5):
            end = at + (8 if wire_type == 1 else 4)
        else:
            raise ValueError(f"wire type {wire_type} is unknown")
        if number == 0 or end > len(data):
            raise ValueError("not a protobuf message, or cut short")
        yield number, data[at:end]
        at = end


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("number too long")
