"""The arguments and options of `maskwatch detect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maskwatch.cli.cluster_options import RAY_PANEL, GpuShareOption, RayOption, RayWorkersOption
from maskwatch.cli.options import (
    DeviceOption,
    ModelOption,
    PrecisionOption,
    RuntimeOption,
    SizeOption,
    ThreadsOption,
    ThresholdOption,
)


@dataclass(frozen=True)
class DetectOptions:
    """What the command line asks for."""

    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Picture, video, folder, glob, http(s) URL, or - for stdin."),
    ]
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write annotated copies here.")
    ] = None
    blur: Annotated[
        bool,
        typer.Option("--blur", help="Make every face in what --out writes unrecognisable, weak ones too."),
    ] = False
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write records as JSON; - for stdout.")
    ] = None
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write records as CSV; - for stdout.")
    ] = None
    threshold: ThresholdOption = None
    model: ModelOption = None
    size: SizeOption = None
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these classes, e.g. no_mask,mask_incorrect.")
    ] = None
    per_class_nms: Annotated[
        bool, typer.Option("--per-class-nms", help="Let boxes of different classes overlap.")
    ] = False
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing results.")] = False
    runtime: RuntimeOption = None
    device: DeviceOption = None
    precision: PrecisionOption = None
    threads: ThreadsOption = None
    ray: RayOption = None
    workers: RayWorkersOption = None
    gpu_share: GpuShareOption = None
    parquet: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="--ray: write records as Parquet files to this folder or address.",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None
    jsonl: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="--ray: write records as JSON Lines files.", rich_help_panel=RAY_PANEL
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="--ray: leave out what --parquet or --jsonl holds.", rich_help_panel=RAY_PANEL
        ),
    ] = False
    rows_per_file: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="--ray: rows that wait for one file.", rich_help_panel=RAY_PANEL
        ),
    ] = 1000
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="--ray: SOURCE is a table; its column of pictures, as bytes or paths.",
            rich_help_panel=RAY_PANEL,
        ),
    ] = None
    name_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--ray: the column of their names.", rich_help_panel=RAY_PANEL),
    ] = None
