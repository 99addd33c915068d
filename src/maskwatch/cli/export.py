"""`maskwatch export`: from a checkpoint to a model file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import read_validation
from maskwatch.cli.options import parse_size, parse_threshold, with_options
from maskwatch.errors import LabelError, MissingExtraError, OptionError
from maskwatch.labels import ClassMap, class_values

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.evaluation.calibration import CalibrationFit
    from maskwatch.models import ModelMetadata
    from maskwatch.training.torch_detector import TorchDetector

_SUFFIX = ".onnx"


@dataclass(frozen=True)
class ExportArguments:
    """As on the command line."""

    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="A .ckpt of maskwatch train; of several (model files may follow), the mean of their weights."
        ),
    ]
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write, NAME.onnx.")]
    size: Annotated[
        str | None,
        typer.Option(help="Network size: 640, or 480x640 (H x W); that of the recipe if left out."),
    ] = None
    name: Annotated[str | None, typer.Option(help="Name of the model; NAME if left out.")] = None
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold", "--thresholds", help="Score to exceed, as mask=0.6,no_mask=0.3; else 0.5."
        ),
    ] = None
    tune: Annotated[
        list[Path] | None,
        typer.Option(
            help="Validation folder: calibrates scores and chooses the threshold of best F1 for each class."
        ),
    ] = None
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate/--no-calibrate", help="--tune: whether to calibrate scores as well."),
    ] = True
    classes: Annotated[
        str | None, typer.Option(help="Spellings of the classes in --tune, in the order of the checkpoint's.")
    ] = None
    verify_on: Annotated[
        Path | None,
        typer.Option(help="Photograph or folder to compare on; else those of --tune, else two portraits."),
    ] = None
    two_scales: Annotated[
        bool,
        typer.Option(
            "--two-scales", help="Also run the network at half size, for faces that fill the picture."
        ),
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Overwrite the model file.")] = False

    def check(self) -> None:
        """Raises OptionError or OutputError before any work begins."""
        from maskwatch.outputs import check_targets

        if self.out.suffix.lower() != _SUFFIX:
            raise OptionError(
                f"--out {self.out}: a model file ends in {_SUFFIX}; write for example -o model.onnx"
            )
        if self.threshold is not None and self.tune:
            raise OptionError(
                f"--threshold {self.threshold} and --tune both set the thresholds; give only one"
            )
        check_targets([self.out], [], force=self.force)


@with_options(ExportArguments)
def export(arguments: ExportArguments) -> None:
    """Write a checkpoint as one ONNX file that is the whole model: uint8 pictures in, detections out.

    Of several checkpoints of one run it takes the mean of their weights, which is often a little better. So
    may be the mean with the start of the run, as in `export last.ckpt maskwatch-640`; a name given twice
    counts twice. The file is compared with torch on photographs before it counts as written.

    Example: maskwatch export runs/default/best.ckpt -o model.onnx --tune masks/val
    """
    _require_extra()
    from maskwatch.export import photographs
    from maskwatch.export.onnx import describe_model, export_network
    from maskwatch.training.start import load_mean
    from maskwatch.training.torch_detector import TorchDetector

    arguments.check()
    checkpoint, out, size_hw = load_mean(arguments.checkpoints), arguments.out, parse_size(arguments.size)
    detector = TorchDetector.of(checkpoint, size_hw, class_agnostic=True, two_scales=arguments.two_scales)
    folder = arguments.verify_on
    compared = photographs.own_photographs() if folder is None else photographs.photographs_at(folder)
    thresholds = _thresholds(arguments.threshold, checkpoint.class_names)
    fit = None
    if arguments.tune:
        classes = arguments.classes
        names = ClassMap(checkpoint.class_names) if classes is None else ClassMap.parse(classes)
        validation = read_validation(arguments.tune, names)
        thresholds, fit = _tuned(detector, validation, calibrate=arguments.calibrate)
        if folder is None:
            compared = photographs.read_photographs([sample.image_path for sample in validation.samples])
    metadata = describe_model(checkpoint, arguments.name or out.stem, detector.input_size, thresholds)
    if fit is not None:
        metadata = replace(metadata, calibration=fit.calibration, calibrated_on=fit.pictures)
    typer.echo(export_network(detector.network, metadata, out, compared))
    _report(out, metadata)


def _require_extra() -> None:
    """Checks before the work begins: torch needs onnxscript only at the end, after minutes of --tune."""
    for module in ("torch", "torchvision", "onnx", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"exporting (module {module})", "train")


def _thresholds(text: str | None, class_names: Sequence[str]) -> tuple[float, ...]:
    from maskwatch.export.onnx import DEFAULT_THRESHOLD

    value = parse_threshold(text)
    if not isinstance(value, dict):
        value = dict.fromkeys(class_names, DEFAULT_THRESHOLD if value is None else value)
    try:
        values = class_values(class_names, value, [DEFAULT_THRESHOLD] * len(class_names))
    except KeyError as error:
        known = ", ".join(class_names)
        raise LabelError(
            f"--threshold {text}: the checkpoint has no class {error.args[0]!r}; use {known}"
        ) from None
    if not all(0 <= value <= 1 for value in values):
        raise OptionError(f"--threshold {text}: give scores from 0 to 1")
    return values


def _tuned(
    detector: TorchDetector, validation: DetectionSet, *, calibrate: bool
) -> tuple[tuple[float, ...], CalibrationFit | None]:
    from maskwatch.evaluation import candidates
    from maskwatch.evaluation.calibration import fit_calibration
    from maskwatch.evaluation.thresholds import ThresholdObjective, choose
    from maskwatch.export.onnx import DEFAULT_THRESHOLD

    typer.echo(f"choosing thresholds on {len(validation)} pictures", err=True)
    found = candidates.gather(detector, validation)
    fit = fit_calibration(validation, found) if calibrate else None
    if fit is not None:
        typer.echo(fit.summary(detector.class_names))
        found = [one.calibrated(fit.calibration) for one in found]
    points = choose(validation, found, ThresholdObjective(), [DEFAULT_THRESHOLD] * len(detector.class_names))
    width = max(len("class"), *(len(point.name) for point in points))
    typer.echo(f" {'class':<{width}}  threshold  precision  recall     F1")
    for point in points:
        typer.echo(
            f" {point.name:<{width}}  {point.threshold:>9.3f}  {point.precision:>9.3f}  "
            f"{point.recall:>6.3f}  {point.f1:>5.3f}"
        )
    return tuple(point.threshold for point in points), fit


def _report(out: Path, metadata: ModelMetadata) -> None:
    height, width = metadata.input_size
    pairs = zip(metadata.classes, metadata.thresholds, strict=True)
    typer.echo(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {metadata.name}, {height}x{width}, thresholds "
        + ", ".join(f"{label} {threshold:.3f}" for label, threshold in pairs)
    )
    typer.echo(f"next: maskwatch detect photo.jpg --model {out}")
