"""`maskwatch export`: from a checkpoint to a model file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import read_validation
from maskwatch.cli.options import parse_size, parse_threshold
from maskwatch.errors import LabelError, MissingExtraError, OptionError
from maskwatch.labels import ClassMap, find_classes

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.evaluation.thresholds import OperatingPoint
    from maskwatch.export import Photograph
    from maskwatch.models import ModelMetadata
    from maskwatch.training.torch_detector import TorchDetector

_SUFFIX = ".onnx"


_Checkpoints = Annotated[
    list[Path], typer.Argument(help="A .ckpt of maskwatch train; of several, the mean of their weights.")
]
_Out = Annotated[Path, typer.Option("--out", "-o", help="The model file to write, NAME.onnx.")]
_Size = Annotated[
    str | None,
    typer.Option(help="Network size: 640, or 480x640 (H x W); that of the recipe if left out."),
]
_Name = Annotated[str | None, typer.Option(help="Name of the model; NAME if left out.")]
_Threshold = Annotated[
    str | None,
    typer.Option("--threshold", "--thresholds", help="Score to exceed, as mask=0.6,no_mask=0.3; else 0.5."),
]
_Tune = Annotated[
    list[Path] | None,
    typer.Option(help="Validation folder, to choose the threshold of best F1 for each class on."),
]
_Classes = Annotated[
    str | None, typer.Option(help="Spellings of the classes in --tune, in the order of the checkpoint's.")
]
_VerifyOn = Annotated[
    Path | None,
    typer.Option(help="Photograph or folder to compare on; else those of --tune, else two portraits."),
]
_TwoScales = Annotated[
    bool, typer.Option("--two-scales", help="Look again at half the size, for faces that fill the picture.")
]
_Force = Annotated[bool, typer.Option("--force", help="Overwrite the model file.")]


def export(
    checkpoints: _Checkpoints,
    out: _Out,
    size: _Size = None,
    name: _Name = None,
    threshold: _Threshold = None,
    tune: _Tune = None,
    classes: _Classes = None,
    verify_on: _VerifyOn = None,
    two_scales: _TwoScales = False,
    force: _Force = False,
) -> None:
    """Write a checkpoint as one ONNX file that is the whole model: uint8 pictures in, detections out.

    Of several checkpoints of one run it takes the mean of their weights, which is often a little better. The
    file is compared with torch on photographs before it counts as written.

    Example: maskwatch export runs/default/best.ckpt -o model.onnx --tune masks/val
    """
    _require_extra()
    from maskwatch.export import describe_model, export_network, own_photographs, photographs_at
    from maskwatch.training.checkpoint import load_mean
    from maskwatch.training.torch_detector import TorchDetector

    _check(out, threshold, tune, force)
    loaded = load_mean(checkpoints)
    detector = TorchDetector.of(loaded, parse_size(size), class_agnostic=True, two_scales=two_scales)
    photographs = photographs_at(verify_on) if verify_on is not None else own_photographs()
    thresholds = _thresholds(threshold, loaded.class_names)
    if tune:
        validation = read_validation(tune, _class_map(classes, loaded.class_names))
        thresholds = _tuned(detector, validation)
        photographs = photographs if verify_on is not None else _photographs_of(validation)
    metadata = describe_model(loaded, name or out.stem, detector.input_size, thresholds)
    typer.echo(export_network(detector.network, metadata, out, photographs))
    _report(out, metadata)


def _require_extra() -> None:
    """Checks before the work begins: torch needs onnxscript only at the end, after minutes of --tune."""
    for module in ("torch", "torchvision", "onnx", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"exporting (module {module})", "train")


def _check(out: Path, threshold: str | None, tune: Sequence[Path] | None, force: bool) -> None:
    from maskwatch.outputs import check_targets

    if out.suffix.lower() != _SUFFIX:
        raise OptionError(f"--out {out}: a model file ends in {_SUFFIX}; write for example -o model.onnx")
    if threshold is not None and tune:
        raise OptionError(f"--threshold {threshold} and --tune both set the thresholds; give only one")
    check_targets([out], [], force=force)


def _thresholds(text: str | None, class_names: Sequence[str]) -> tuple[float, ...]:
    from maskwatch.export import DEFAULT_THRESHOLD

    value = parse_threshold(text)
    named = value if isinstance(value, dict) else dict.fromkeys(class_names, value)
    try:
        given = dict(zip(find_classes(class_names, named), named.values(), strict=True))
    except KeyError as error:
        known = ", ".join(class_names)
        raise LabelError(
            f"--threshold {text}: the checkpoint has no class {error.args[0]!r}; use {known}"
        ) from None
    chosen = (given.get(class_id) for class_id in range(len(class_names)))
    values = tuple(DEFAULT_THRESHOLD if value is None else value for value in chosen)
    if not all(0 <= value <= 1 for value in values):
        raise OptionError(f"--threshold {text}: give scores from 0 to 1")
    return values


def _class_map(classes: str | None, class_names: Sequence[str]) -> ClassMap:
    return ClassMap(class_names) if classes is None else ClassMap.parse(classes)


def _tuned(detector: TorchDetector, validation: DetectionSet) -> tuple[float, ...]:
    from maskwatch.evaluation import candidates
    from maskwatch.evaluation.thresholds import ThresholdObjective, choose
    from maskwatch.export import DEFAULT_THRESHOLD

    typer.echo(f"choosing thresholds on {len(validation)} pictures", err=True)
    found = candidates.gather(detector, validation)
    points = choose(validation, found, ThresholdObjective(), [DEFAULT_THRESHOLD] * len(detector.class_names))
    _print_points(points)
    return tuple(point.threshold for point in points)


def _print_points(points: Sequence[OperatingPoint]) -> None:
    width = max(len("class"), *(len(point.name) for point in points))
    typer.echo(f" {'class':<{width}}  threshold  precision  recall     F1")
    for point in points:
        typer.echo(
            f" {point.name:<{width}}  {point.threshold:>9.3f}  {point.precision:>9.3f}  "
            f"{point.recall:>6.3f}  {point.f1:>5.3f}"
        )


def _photographs_of(validation: DetectionSet) -> list[Photograph]:
    from maskwatch.export import read_photographs

    return read_photographs([sample.image_path for sample in validation.samples])


def _report(out: Path, metadata: ModelMetadata) -> None:
    height, width = metadata.input_size
    pairs = zip(metadata.classes, metadata.thresholds, strict=True)
    typer.echo(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {metadata.name}, {height}x{width}, thresholds "
        + ", ".join(f"{label} {threshold:.3f}" for label, threshold in pairs)
    )
    typer.echo(f"next: maskwatch detect photo.jpg --model {out}")
