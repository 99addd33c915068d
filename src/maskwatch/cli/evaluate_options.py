"""The options of `maskwatch evaluate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.cli.cluster_options import GpuShareOption, RayOption, RayWorkersOption, check_needs_ray
from maskwatch.cli.datasets import data_path
from maskwatch.cli.json_file import is_stdout
from maskwatch.cli.options import DeviceOption, PrecisionOption, RuntimeOption, ThreadsOption, pick_runtime
from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.evaluation.thresholds import ThresholdObjective
    from maskwatch.runtimes.choice import RuntimeSettings

CHECKPOINT = ".ckpt"


@dataclass(frozen=True)
class EvaluateOptions:
    """As on the command line."""

    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Embedded model (maskwatch-640), model file, or checkpoint."),
    ]
    data: Annotated[
        list[Path],
        typer.Argument(
            parser=data_path,
            metavar="DATA",
            help="Data sets, each on its own: Pascal VOC, COCO, YOLO or TFRecord.",
        ),
    ]
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="train, val or test, of data sets that are split.")
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help="Spellings of the model's classes, in its order: 'mask=ok|good,no_mask=bare,...'.",
        ),
    ] = None
    stems: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Text file of names of pictures (cam1/0001): only these."),
    ] = None
    corrections: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file that corrects labels: see docs/training.md.")
    ] = None
    size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Network size of a checkpoint: 640, or 480x640 (H x W)."),
    ] = None
    class_agnostic: Annotated[
        bool,
        typer.Option(
            "--class-agnostic-nms/--per-class-nms",
            help="NMS over the boxes of all classes, as in detect, or of each class, as for COCO's numbers.",
        ),
    ] = False
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pictures held in memory at once.")
    ] = None
    bootstrap: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Draws for 95 % intervals, seconds for a thousand; 0 for none.",
            show_default="1000 for a report, else 0",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New folder for the report: HTML, Markdown, JSON. See docs/report.md."
        ),
    ] = None
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A second model to compare with, in the report.")
    ] = None
    sources: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV or TSV file with stem and source of pictures, for the report."
        ),
    ] = None
    tune: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Choose thresholds on this data set (its val), report them on DATA."
        ),
    ] = None
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="--tune: calibrate the model's scores on it as well.")
    ] = False
    cost_missed: Annotated[
        float | None,
        typer.Option(metavar="COST", help="--tune: cost of a missed face, instead of the best F1."),
    ] = None
    cost_alarm: Annotated[
        float | None,
        typer.Option(metavar="COST", help="--tune: cost of a false alarm; 1 where only the other is given."),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="--tune: share of each class to find, with the fewest false alarms."
        ),
    ] = None
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="--tune: also write a model file with these thresholds and calibration."
        ),
    ] = None
    suspects: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV|DIR", help="List labels that look wrong: a .csv of corrections, or a VOC folder."
        ),
    ] = None
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write the numbers to this file; '-' prints only them."
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what these options name.")] = False
    runtime: RuntimeOption = None
    device: DeviceOption = None
    precision: PrecisionOption = None
    threads: ThreadsOption = None
    ray: RayOption = None
    workers: RayWorkersOption = None
    gpu_share: GpuShareOption = None

    @cached_property
    def objective(self) -> ThresholdObjective:
        """Raises OptionError for costs or a recall out of range."""
        from maskwatch.evaluation.thresholds import ThresholdObjective

        return ThresholdObjective(self.cost_missed, self.cost_alarm, self.recall)

    @property
    def runtime_settings(self) -> RuntimeSettings:
        """Raises OptionError for what is unknown; without options ONNX Runtime on the CPU in float32."""
        return pick_runtime(self, reference=True)

    @property
    def needs_report(self) -> bool:
        """Whether an option needs more than COCO's numbers."""
        return any((self.report, self.against, self.tune, self.suspects))

    @property
    def draws(self) -> int:
        """Of the bootstrap."""
        if self.bootstrap is not None:
            return self.bootstrap
        return 1000 if self.needs_report else 0

    @property
    def is_checkpoint(self) -> bool:
        """Whether the model is a checkpoint, which torch runs."""
        return Path(self.model).suffix.lower() == CHECKPOINT

    def check(self) -> None:
        """Checks all options before any work.

        Raises:
            OptionError: options that do not go together.
            OutputError: a target exists already, is an input, or cannot be written.
        """
        from maskwatch.outputs import check_new_folder, check_targets

        self._check_together()
        files = _given(None if is_stdout(self.json_file) else self.json_file, self.write)
        folders = _given(self.report)
        if self.suspects is not None:
            (files if self.suspects.suffix.lower() == ".csv" else folders).append(self.suspects)
        inputs = _given(*self.data, self.tune, self.stems, self.corrections, self.sources)
        check_targets(files, [], force=self.force)
        for folder in folders:
            check_new_folder(folder, force=self.force, sources=inputs)
        _check_apart([*files, *folders], inputs)
        if self.against is not None and not self.draws:
            raise OptionError("--against needs draws to compare; leave out --bootstrap 0")

    def _check_together(self) -> None:
        objective = self.objective
        check_needs_ray(self.ray, workers=self.workers, gpu_share=self.gpu_share)
        if self.ray is not None and self.is_checkpoint:
            raise OptionError(f"--ray takes model files; export {self.model}, or leave out --ray")
        if self.write is not None:
            self._check_write(self.write)
        if self.is_checkpoint and (self.runtime or self.device or self.precision):
            raise OptionError(
                f"--runtime, --device and --precision are for model files; {self.model} is a checkpoint"
            )
        if self.calibrate and self.tune is None:
            raise OptionError("--calibrate needs a data set to fit on; add --tune DATA")
        if objective.recall is not None and self.tune is None:
            raise OptionError("--recall needs a data set to choose thresholds on; add --tune DATA")
        if self.suspects is not None and len(self.data) != 1:
            raise OptionError(
                f"--suspects {self.suspects} takes the labels of one data set, not {len(self.data)}"
            )
        if self.sources is not None and self.report is None:
            raise OptionError(f"--sources {self.sources} is for the report; add --report FOLDER")
        if objective.has_costs and not self.needs_report:
            raise OptionError("--cost-missed and --cost-alarm are for --tune or --report; add one")

    def _check_write(self, target: Path) -> None:
        if self.tune is None:
            raise OptionError(f"--write {target} has no thresholds to write; choose them with --tune DATA")
        if self.is_checkpoint:
            raise OptionError(
                f"--write: {self.model} is a checkpoint; export it with --tune, or give a model file"
            )
        if target.suffix.lower() != ".onnx":
            raise OptionError(f"--write {target}: a model file ends in .onnx; write for example tuned.onnx")


def _given(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]


def _check_apart(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    """No target may be another one, or an input."""
    taken = {os.path.realpath(path): path for path in inputs}
    for target in targets:
        real_path = os.path.realpath(target)
        if real_path in taken:
            raise OptionError(f"{target}: is named twice, also as {taken[real_path]}; write somewhere else")
        taken[real_path] = target
