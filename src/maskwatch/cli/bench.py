"""`maskwatch bench`: which runtime is fastest on this machine."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwatch._version import __version__
from maskwatch.cli.json_file import is_stdout, write_json
from maskwatch.cli.options import with_options
from maskwatch.errors import MissingExtraError, OptionError, SourceError

if TYPE_CHECKING:
    from maskwatch.bench import Measurement
    from maskwatch.media.images import UInt8Array
    from maskwatch.runtimes.base import Backend

SCHEMA = "maskwatch.bench/1"

_FRAMES = 8  # of a video


@dataclass(frozen=True)
class BenchOptions:
    """As on the command line."""

    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Names or files of models. Default: those of the package."),
    ] = None
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Picture or video to measure with. Default: a portrait."),
    ] = None
    data: Annotated[
        list[Path] | None, typer.Option(metavar="DATA", help="Annotated pictures: also measure AP on them.")
    ] = None
    seconds: Annotated[float, typer.Option(metavar="S", help="How long to measure in all; --data adds.")] = 20
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for stdout.")
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what --json names.")] = False
    write: Annotated[
        bool, typer.Option("--write", help="Let auto take the recommended backend on this machine.")
    ] = False
    forget: Annotated[bool, typer.Option("--forget", help="Remove what --write stored, and stop.")] = False

    def __post_init__(self) -> None:
        if not 0 < self.seconds < 3600:
            raise OptionError(f"--seconds {self.seconds:g} is not between 0 and 3600; write 20")
        if self.write and self.forget:
            raise OptionError("--write and --forget contradict each other; give only one")


@with_options(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure the runtimes of this machine, and recommend the fastest.

    Only one that finds the same as ONNX Runtime in float32 is recommended.

    Example: maskwatch bench --image door.jpg --write
    """
    from maskwatch.runtimes.stored_choice import forget_backend

    if options.forget:
        print("auto follows its fixed order again" if forget_backend() else "nothing was stored")
        return
    from maskwatch.bench import recommend, run_bench, table
    from maskwatch.models import embedded_models
    from maskwatch.outputs import check_targets
    from maskwatch.runtimes.choice import installed_backends

    if options.json_file is not None and not is_stdout(options.json_file):
        check_targets([options.json_file], [options.image] if options.image else [], force=options.force)
    if options.data:
        _require_evaluation()
    images_rgb = _pictures(options.image)
    measurements = run_bench(
        options.models or embedded_models(), list(installed_backends()), images_rgb, options.seconds
    )
    for one in measurements:
        if options.data and not one.error:
            one.ap = _average_precision(one, options.data)
    best = recommend(measurements)
    if options.json_file is not None:
        write_json(_record(options, images_rgb, measurements, best), options.json_file)
    lines = [*table(measurements), "", *_advice(best)]
    lines += _stored(best) if options.write else []
    typer.echo("\n".join(lines), err=is_stdout(options.json_file))


def _pictures(path: Path | None) -> list[UInt8Array]:
    from maskwatch.media.images import read_image
    from maskwatch.media.sources import find_sources

    if path is None:
        from maskwatch.export.photographs import own_photographs

        return [own_photographs()[0].image_rgb]
    sources = find_sources([str(path)])
    if path.is_dir() or sources[0].path is None:
        raise OptionError(f"--image {path}: name one picture or video")
    if sources[0].kind != "video":
        return [read_image(path)]
    from maskwatch.media.videos import Video

    with Video(path) as video:
        images_rgb = [frame.image_rgb for frame in itertools.islice(video.frames(), _FRAMES)]
    if not images_rgb:
        raise SourceError(f"--image {path}: the video has no frame; name another one")
    return images_rgb


def _require_evaluation() -> None:
    try:
        from maskwatch.evaluation.matching import require_pycocotools

        require_pycocotools()
    except ModuleNotFoundError:
        raise MissingExtraError("--data", "train") from None


def _average_precision(one: Measurement, paths: Sequence[Path]) -> float:
    from maskwatch.cli.datasets import Group, read_sets
    from maskwatch.detector import Detector
    from maskwatch.evaluation.coco import coco_evaluate
    from maskwatch.evaluation.predictor import predict
    from maskwatch.labels import ClassMap

    detector = Detector(one.model, threshold=0.0, **asdict(one.backend))
    (detection_set,) = read_sets([Group(paths)], ClassMap(detector.class_names))
    return coco_evaluate(detection_set, predict(detector, detection_set)).stats["AP"]


def _advice(best: Backend | None) -> list[str]:
    from maskwatch.runtimes.choice import RuntimeSettings, first_installed

    if best is None:
        return ["no backend agrees with the reference for every model; use: --runtime onnxruntime"]
    if best == first_installed(RuntimeSettings()):
        return [f"fastest with the same detections: {best}; auto takes it already"]
    options = f"--runtime {best.runtime} --device {best.device} --precision {best.precision}"
    return [f"fastest with the same detections: {best}", f"use: {options}"]


def _stored(best: Backend | None) -> list[str]:
    from maskwatch.runtimes.choice import runtime_versions
    from maskwatch.runtimes.stored_choice import store_backend

    if best is None:
        return ["nothing is stored"]
    return [f"auto takes it from now on: {store_backend(best, runtime_versions())}"]


def _record(
    options: BenchOptions,
    images_rgb: Sequence[UInt8Array],
    measurements: Sequence[Measurement],
    best: Backend | None,
) -> dict[str, Any]:
    from maskwatch.runtimes.choice import runtime_versions
    from maskwatch.system import cpu_name, usable_cores

    height, width = images_rgb[0].shape[:2]
    return {
        "schema": SCHEMA,
        "maskwatch": __version__,
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "runtimes": runtime_versions(),
        "image": None if options.image is None else options.image.name,
        "pictures": len(images_rgb),
        "width": width,
        "height": height,
        "seconds": options.seconds,
        "results": list(map(_result, measurements)),
        "recommended": None if best is None else asdict(best),
    }


def _result(one: Measurement) -> dict[str, Any]:
    measured = not one.error
    return {
        "model": one.model,
        **asdict(one.backend),
        "int8": one.int8,
        "error": one.error or None,
        "agrees": one.agrees,
        "rounds": len(one.times_ms),
        "median_ms": round(one.median_ms, 3) if measured else None,
        "p95_ms": round(one.p95_ms, 3) if measured else None,
        "pictures_per_s": {str(count): round(rate, 3) for count, rate in one.pictures_per_s.items()},
        "memory_mb": None if one.memory_mb is None else round(one.memory_mb, 1),
        "ap": None if one.ap is None else round(one.ap, 4),
    }
