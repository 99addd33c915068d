"""`maskwatch export`: from a checkpoint to a model file, and from there to other formats."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.datasets import Group, read_sets, read_validation
from maskwatch.cli.options import parse_size, parse_threshold, with_options
from maskwatch.errors import LabelError, MissingExtraError, OptionError
from maskwatch.labels import ClassMap, class_values

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet
    from maskwatch.evaluation.calibration import CalibrationFit
    from maskwatch.export.formats.base import ConvertOptions, ExportFormat
    from maskwatch.export.photographs import Photograph
    from maskwatch.models import ModelMetadata
    from maskwatch.training.torch_detector import TorchDetector

_SUFFIX = ".onnx"


@dataclass(frozen=True)
class ExportArguments:
    """As on the command line."""

    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            help="A .ckpt of maskwatch train, or a model file; of several (a .ckpt first), the mean of their "
            "weights."
        ),
    ]
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The model file to write, NAME.onnx; with --to, a folder.")
    ]
    to: Annotated[
        str | None,
        typer.Option(
            help="Another format: openvino, onnx-raw, litert, pt2, triton or openvino-model-server."
        ),
    ] = None
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
        str | None,
        typer.Option(help="Spellings of the classes in --tune, --data, --int8, in the order of the model's."),
    ] = None
    verify_on: Annotated[
        Path | None,
        typer.Option(help="Photograph or folder to compare on; else those of --tune, else two portraits."),
    ] = None
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="--to: also compare AP on this data set, which may differ by 0.005. --int8: AP on it counts."
        ),
    ] = None
    int8: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="Compute in int8, with the ranges of values on these annotated pictures (of validation, not "
            "of the test); refused where AP falls by more than 0.005.",
        ),
    ] = None
    batch: Annotated[
        int | None, typer.Option(min=1, help="--to onnx-raw, pt2: a fixed number of pictures.")
    ] = None
    input_type: Annotated[
        str,
        typer.Option(help="--to onnx-raw: uint8 (N, H, W, 3), or float32 (N, 3, H, W) of 0 to 255."),
    ] = "uint8"
    two_scales: Annotated[
        bool,
        typer.Option(
            "--two-scales", help="Also run the network at half size, for faces that fill the picture."
        ),
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Overwrite the model file or folder.")] = False

    @property
    def model(self) -> str | None:
        """The model file or embedded model to convert; None where checkpoints are given."""
        from maskwatch.models import embedded_models

        first = self.checkpoints[0]
        is_model = first.suffix == _SUFFIX or str(first) in embedded_models()
        return str(first) if is_model and len(self.checkpoints) == 1 else None

    def check(self) -> None:
        """Raises OptionError or OutputError before any work begins."""
        from maskwatch.outputs import check_new_folder, check_targets

        if self.threshold is not None and self.tune:
            raise OptionError(
                f"--threshold {self.threshold} and --tune both set the thresholds; give only one"
            )
        if self.model is not None and (self.to is not None or self.int8):
            self._check_model()
        if self.to is not None:
            check_new_folder(self.out, force=self.force, sources=self.checkpoints)
            return
        for option, value in (("data", self.data), ("batch", self.batch)):
            if value and not (option == "data" and self.int8):
                raise OptionError(f"--{option} is for other formats; name one with --to")
        if self.out.suffix.lower() != _SUFFIX:
            raise OptionError(
                f"--out {self.out}: a model file ends in {_SUFFIX}; write for example -o model.onnx"
            )
        check_targets([self.out], self.checkpoints if self.int8 else [], force=self.force)

    def _check_model(self) -> None:
        """Raises OptionError for what only a checkpoint can be exported with."""
        given = {
            "--size": self.size,
            "--name": self.name,
            "--threshold": self.threshold,
            "--tune": self.tune,
            "--two-scales": self.two_scales,
        }
        for option, value in given.items():
            if value:
                raise OptionError(
                    f"{option} is for checkpoints, not for {self.model}; leave it out, or change the "
                    "thresholds first, with maskwatch evaluate MODEL DATA --tune VAL --write FILE"
                )


@with_options(ExportArguments)
def export(arguments: ExportArguments) -> None:
    """Write a model as one ONNX file, or in another format.

    The ONNX file is the whole model: uint8 pictures in, detections out.

    Of several checkpoints of one run it takes the mean of their weights, which is often a little better. So
    may be the mean with the start of the run, as in `export last.ckpt maskwatch-640`; a name given twice
    counts twice. The file is compared with torch on photographs before it counts as written.

    A model file is written again at another --size: larger finds smaller faces, and takes longer.

    --to writes a checkpoint or a model file in the format of another runtime, compared in that runtime.

    --int8 writes either as a model file whose network computes in int8, with --to in that format.

    Examples: maskwatch export runs/default/best.ckpt -o model.onnx --tune masks/val

    maskwatch export maskwatch-640 --size 960 --two-scales -o maskwatch-960.onnx

    maskwatch export maskwatch-640 --to openvino -o maskwatch-640-openvino

    maskwatch export maskwatch-640 --int8 masks/val -o maskwatch-640-int8.onnx
    """
    if arguments.model is None or (arguments.to is None and not arguments.int8):
        _require_extra()
    if arguments.to is not None or arguments.int8:
        _convert(arguments)
        return
    arguments.check()
    metadata, _ = _write(arguments, arguments.out)
    _report(arguments.out, metadata)


def _write(arguments: ExportArguments, out: Path) -> tuple[ModelMetadata, list[Photograph]]:
    """Writes the model file of the checkpoints; returns its metadata and what it was compared on."""
    from maskwatch.export import photographs
    from maskwatch.export.onnx import describe_model, export_network
    from maskwatch.models import load_model_file
    from maskwatch.training.start import load_mean
    from maskwatch.training.torch_detector import TorchDetector

    model = None if arguments.model is None else load_model_file(arguments.model).metadata
    checkpoint, size_hw = load_mean(arguments.checkpoints), parse_size(arguments.size)
    if model is not None and size_hw is None:
        size_hw = model.input_size
    detector = TorchDetector.of(checkpoint, size_hw, class_agnostic=True, two_scales=arguments.two_scales)
    compared = _photographs(arguments)
    thresholds = _thresholds(arguments.threshold, checkpoint.class_names, model)
    fit = None
    if arguments.tune:
        validation = read_validation(arguments.tune, _class_map(arguments, checkpoint.class_names))
        thresholds, fit = _tuned(detector, validation, calibrate=arguments.calibrate)
        if arguments.verify_on is None:
            compared = photographs.read_photographs([sample.image_path for sample in validation.samples])
    name = arguments.name or arguments.out.stem
    if model is None:
        metadata = describe_model(checkpoint, name, detector.input_size, thresholds)
    else:
        metadata = replace(model, name=name, input_size=detector.input_size, thresholds=thresholds)
    if arguments.tune:
        calibration, pictures = (fit.calibration, fit.pictures) if fit is not None else ((), 0)
        metadata = replace(metadata, calibration=calibration, calibrated_on=pictures)
    typer.echo(export_network(detector.network, metadata, out, compared))
    return metadata, compared


def _convert(arguments: ExportArguments) -> None:
    """Writes the model in another format, in int8, or both."""
    from maskwatch.export.formats import format_named
    from maskwatch.export.formats.base import ConvertOptions
    from maskwatch.models import load_model_file

    options = ConvertOptions(arguments.batch, arguments.input_type)
    format = None if arguments.to is None else format_named(arguments.to, options)
    if arguments.int8:
        _require_int8(format)
    arguments.check()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.model is None:
            path = folder / f"model{_SUFFIX}"
            metadata, compared = _write(arguments, path)
        else:
            file = load_model_file(arguments.model)
            path, metadata, compared = file.path, file.metadata, _photographs(arguments)
        source = path
        if arguments.int8:
            path = arguments.out if format is None else folder / f"int8{_SUFFIX}"
            _write_int8(arguments, source, path, metadata)
        if format is not None:
            _write_format(arguments, format, options, path, source, metadata, compared)


def _write_int8(arguments: ExportArguments, source: Path, target: Path, metadata: ModelMetadata) -> None:
    from maskwatch.export.int8 import write_int8

    assert arguments.int8
    classes = _class_map(arguments, metadata.classes)
    groups = [Group(paths) for paths in (arguments.int8, arguments.data) if paths]
    sets = read_sets(groups, classes)
    names = ", ".join("/".join(path.resolve().parts[1:][-2:]) for path in arguments.int8)
    written = write_int8(source, target, sets[0], sets[-1], names, lambda line: typer.echo(line, err=True))
    if arguments.to is None:
        size = target.stat().st_size / 1e6
        typer.echo(f"wrote {target} ({size:.1f} MB): {metadata.name} in int8, {written}")
        typer.echo(f"next: maskwatch bench {target}")


def _write_format(
    arguments: ExportArguments,
    format: ExportFormat,
    options: ConvertOptions,
    path: Path,
    source: Path,
    metadata: ModelMetadata,
    photographs: Sequence[Photograph],
) -> None:
    """Converts the model file at `path`, whose AP is compared with that of `source`."""
    from maskwatch.export.formats import write_model

    data = None
    if paths := arguments.data or arguments.int8:
        (data,) = read_sets([Group(paths)], _class_map(arguments, metadata.classes))
    written = write_model(
        path, arguments.out, format, photographs, options, data=data, source=source, force=arguments.force
    )
    for name, size in written.files.items():
        typer.echo(f"{arguments.out / name} ({size / 1e6:.1f} MB)")
    if written.comparison is not None:
        typer.echo(str(written.comparison))
    typer.echo(f"wrote {metadata.name} for {format.name} to {arguments.out} ({written.status})")


def _photographs(arguments: ExportArguments) -> list[Photograph]:
    from maskwatch.export import photographs

    folder = arguments.verify_on
    return photographs.own_photographs() if folder is None else photographs.photographs_at(folder)


def _class_map(arguments: ExportArguments, class_names: Sequence[str]) -> ClassMap:
    return ClassMap(class_names) if arguments.classes is None else ClassMap.parse(arguments.classes)


def _require_extra() -> None:
    """Checks before the work begins: torch needs onnxscript only at the end, after minutes of --tune."""
    for module in ("torch", "torchvision", "onnx", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"exporting (module {module})", "train")


def _require_int8(format: ExportFormat | None) -> None:
    from maskwatch.export.formats import FORMATS

    if format is not None and not format.int8:
        able = ", ".join(other.name for other in FORMATS if other.int8)
        raise OptionError(f"--int8: --to {format.name} has no int8, only {able}; leave it out")
    for module, extra in (("onnx", "train"), ("pycocotools", "train"), ("nncf", "int8")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"--int8 (module {module})", extra)


def _thresholds(
    text: str | None, class_names: Sequence[str], model: ModelMetadata | None
) -> tuple[float, ...]:
    """One for each class; by default those of the model file."""
    from maskwatch.export.onnx import DEFAULT_THRESHOLD

    value = parse_threshold(text)
    defaults = [DEFAULT_THRESHOLD] * len(class_names) if model is None else list(model.thresholds)
    if not isinstance(value, dict):
        value = {} if value is None else dict.fromkeys(class_names, value)
    try:
        values = class_values(class_names, value, defaults)
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
