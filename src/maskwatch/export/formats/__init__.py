"""Model files in the formats of other runtimes: their table, and writing in any, compared with the source."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwatch._version import __version__
from maskwatch.detector import Detector
from maskwatch.errors import MissingExtraError, OptionError
from maskwatch.export.formats.base import INPUT_TYPES, ConvertOptions, ExportFormat, Signature, file_stem
from maskwatch.export.formats.comparison import Comparison, compare_ap, compare_models
from maskwatch.export.formats.litert import LITERT
from maskwatch.export.formats.onnx_raw import ONNX_RAW
from maskwatch.export.formats.openvino import OPENVINO
from maskwatch.export.formats.pt2 import PT2
from maskwatch.export.formats.servers import MODEL_SERVER, TRITON
from maskwatch.export.photographs import Photograph
from maskwatch.models import ModelFile, load_model_file
from maskwatch.outputs import MARK, new_folder, output_errors
from maskwatch.runtimes.onnx_runtime import OnnxRuntime

if TYPE_CHECKING:
    from maskwatch.data import DetectionSet

FORMATS: tuple[ExportFormat, ...] = (OPENVINO, ONNX_RAW, LITERT, PT2, TRITON, MODEL_SERVER)

SCHEMA = "maskwatch.export/1"
"""Of the JSON file that lies beside every exported model."""


@dataclass(frozen=True)
class Written:
    """A model in another format.

    Attributes:
        files: relative to its folder, with their sizes in bytes.
        comparison: None where it could not be loaded here.
        status: "verified", or "converted, not verified" and where.
    """

    files: dict[str, int]
    comparison: Comparison | None
    status: str


def format_named(name: str, options: ConvertOptions) -> ExportFormat:
    """The format of a name, which is installed and has the options that are given.

    Raises:
        OptionError: there is none, or it lacks an option.
        MissingExtraError: what it needs is not installed.
    """
    found = next((format for format in FORMATS if format.name == name), None)
    if found is None:
        names = ", ".join(format.name for format in FORMATS)
        raise OptionError(f"--to {name!r} is not one of {names}; choose one")
    for field in fields(ConvertOptions):
        value = getattr(options, field.name)
        if value != field.default and field.name not in found.options:
            option = "--" + field.name.replace("_", "-")
            able = ", ".join(format.name for format in FORMATS if field.name in format.options)
            raise OptionError(f"{option} {value}: --to {name} does not have it, only {able}; leave it out")
    if options.input_type not in INPUT_TYPES:
        raise OptionError(f"--input-type {options.input_type!r} is not one of {', '.join(INPUT_TYPES)}")
    for module in found.modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"--to {name} (module {module})", found.extra)
    return found


def write_model(
    model: str | Path,
    target: Path,
    format: ExportFormat,
    photographs: Sequence[Photograph],
    options: ConvertOptions | None = None,
    *,
    data: DetectionSet | None = None,
    source: str | Path | None = None,
    force: bool = False,
) -> Written:
    """Writes a model file in another format into a folder, loads it from there and compares the two.

    The folder also gets `NAME.json`, which describes the model. It appears when all of this has succeeded.

    Args:
        model: an embedded model or a model file.
        target: a folder that does not exist, or is empty.
        photographs: to compare on, such as `own_photographs`.
        data: also compare AP on it.
        source: the model file whose AP counts; the model itself if left out.
        force: replace a folder that this function wrote before.

    Raises:
        ExportError: the two differ by more than the tolerance of the format.
        ModelFileError: the model cannot be read or converted.
        OutputError: the folder exists or cannot be written.
    """
    options = options or ConvertOptions()
    file = load_model_file(model)
    with new_folder(target, force=force) as folder, output_errors(target):
        signature = format.convert(file, folder, options)
        comparison = _compared(
            file,
            folder,
            format,
            photographs,
            options,
            signature,
            data,
            file.path if source is None else source,
        )
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != MARK
        }
        text = json.dumps(_description(file, format, signature, files, comparison), indent=2)
        (folder / f"{file_stem(file.metadata)}.json").write_text(text + "\n", encoding="utf-8")
    return Written(files, comparison, status_of(format, comparison))


def _compared(
    file: ModelFile,
    folder: Path,
    format: ExportFormat,
    photographs: Sequence[Photograph],
    options: ConvertOptions,
    signature: Signature,
    data: DetectionSet | None,
    source: str | Path,
) -> Comparison | None:
    if format.load is None:
        return None
    copy = format.load(folder, file.metadata, options)
    side = signature[0][0].shape[0]
    batch = side if isinstance(side, int) else None
    comparison = compare_models(
        OnnxRuntime(file.path), copy, file.metadata, photographs, format.tolerance, batch
    )
    if data is None:
        return comparison
    detector = Detector(source, runtime="onnxruntime", device="cpu", precision="float32")
    return replace(comparison, ap=compare_ap(detector, copy, data, batch))


def status_of(format: ExportFormat, comparison: Comparison | None) -> str:
    """Whether a written model is verified, and where it is not."""
    if format.unverified:
        return f"converted, not verified {format.unverified}"
    return "converted, not verified" if comparison is None else "verified"


def _description(
    file: ModelFile,
    format: ExportFormat,
    signature: Signature,
    files: dict[str, int],
    comparison: Comparison | None,
) -> dict[str, Any]:
    """What the JSON file says, see docs/export.md."""
    inputs, outputs = ([asdict(tensor) for tensor in tensors] for tensors in signature)
    return {
        "schema": SCHEMA,
        "format": format.name,
        "maskwatch": __version__,
        "status": status_of(format, comparison),
        "comparison": None if comparison is None else asdict(comparison),
        "tolerance": None
        if comparison is None
        else {"box": format.tolerance.box, "score": format.tolerance.score},
        "files": files,
        "inputs": inputs,
        "outputs": outputs,
        "model": asdict(file.metadata),
    }
