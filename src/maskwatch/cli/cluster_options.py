"""Options of the commands that can run on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from maskwatch.errors import OptionError

if TYPE_CHECKING:
    from maskwatch.cluster import ClusterOptions

RAY_PANEL = "Many machines"

RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Compute on a Ray cluster: host:port of its head, auto for the one here, local to start one.",
        rich_help_panel=RAY_PANEL,
    ),
]
RayWorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="--ray: detectors at most, of --threads cores each. Default: all cores.",
        rich_help_panel=RAY_PANEL,
    ),
]
GpuShareOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        metavar="SHARE",
        help="--ray: of a GPU for each detector, such as 0.25.",
        rich_help_panel=RAY_PANEL,
    ),
]


def cluster_options(
    ray: str,
    *,
    workers: int | None = None,
    threads: int | None = None,
    gpu_share: float | None = None,
    column: str | None = None,
    name_column: str | None = None,
) -> ClusterOptions:
    """What the options say; raises `OptionError`, and `MissingExtraError` without Ray."""
    from maskwatch.cluster import ClusterOptions
    from maskwatch.cluster.work import Columns

    if gpu_share is not None and gpu_share > 1 and gpu_share != int(gpu_share):
        raise OptionError(f"--gpu-share {gpu_share}: give a share up to 1, or whole GPUs")
    return ClusterOptions(ray, workers, threads or 1, gpu_share or 0, Columns(column, name_column))


def check_needs_ray(ray: str | None, **given: object) -> None:
    """Raises `OptionError` for an option that only `--ray` uses."""
    for name, value in given.items():
        if ray is None and value:
            raise OptionError(
                f"--{name.replace('_', '-')} is for a cluster; add --ray local, or leave it out"
            )
