"""The processes that train together, on one machine or on several: how many, and what if one is missing.

Lightning (DDP) starts those of this machine, or finds what torchrun or SLURM started, and connects them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from maskwatch.errors import OptionError, TrainingError
from maskwatch.text import first_line

# What says how the machines find each other where neither torchrun nor SLURM starts the processes.
_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


class Processes(NamedTuple):
    """nodes: machines; devices: processes on each of them, one for each GPU or as many on the CPU."""

    nodes: int
    devices: int

    @property
    def total(self) -> int:
        """Of all machines."""
        return self.nodes * self.devices


def plan_processes(nodes: int | None = None, devices: int | str = "auto") -> Processes:
    """The processes of a training; those that torchrun or SLURM started, else what the options say.

    Args:
        nodes: machines; None for 1.
        devices: for each machine; "auto" for all GPUs, or one process on the CPU.

    Raises:
        OptionError: the launcher started other numbers, or several machines have no launcher and no address.
    """
    launched = _launched()
    if launched is None:
        processes = Processes(nodes or 1, _device_count() if devices == "auto" else int(devices))
        missing = [name for name in _MEETING if name not in os.environ]
        if processes.nodes > 1 and missing:
            raise OptionError(
                f"--nodes {nodes}: {', '.join(missing)} not set, so that the machines cannot meet; start the "
                "command with torchrun or srun, or set these variables on each machine (docs/training.md)"
            )
        return processes
    launcher, processes = launched
    for option, given, found in (("nodes", nodes, processes.nodes), ("devices", devices, processes.devices)):
        if given not in (None, "auto", found):
            raise OptionError(
                f"--{option} {given}: {launcher} started {processes.devices} processes on each of "
                f"{processes.nodes} nodes; leave out --{option}, or start as many"
            )
    return processes


def _launched() -> tuple[str, Processes] | None:
    """Who started the processes, and how many; None for no launcher."""
    try:
        if TorchElasticEnvironment.detect():
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            return "torchrun", Processes(TorchElasticEnvironment().world_size() // devices, devices)
        if SLURMEnvironment.detect():
            SLURMEnvironment()  # checks its variables
            counts = (os.environ.get(f"SLURM_{name}", "1") for name in ("NNODES", "NTASKS_PER_NODE"))
            return "SLURM", Processes(*map(int, counts))
    except (RuntimeError, KeyError, ValueError) as error:
        raise OptionError(f"the launcher's variables cannot be used: {first_line(error)}") from None
    return None


def _device_count() -> int:
    return torch.cuda.device_count() or 1


def is_first_process() -> bool:
    """Whether this process is the one that prints and writes files."""
    environment: ClusterEnvironment = LightningEnvironment()
    for kind in (SLURMEnvironment, TorchElasticEnvironment):
        if kind.detect():
            environment = kind()
    return environment.node_rank() == environment.local_rank() == 0


def choose_strategy(processes: Processes, timeout_s: float) -> Strategy | str:
    """Lightning's strategy: DDP for several processes, over NCCL on GPUs and over gloo on CPUs."""
    if processes.total == 1:
        return "auto"
    return DDPStrategy(
        timeout=timedelta(seconds=timeout_s),
        # `DetectionModule` averages the statistics of BatchNorms; DDP would take those of the first process.
        broadcast_buffers=False,
        start_method="fork" if hasattr(sys, "ps1") else "popen",  # a notebook cannot be started again
    )


@contextmanager
def process_errors(trainer: L.Trainer, timeout_s: float) -> Iterator[None]:
    """Turns what a missing process causes in its block into a `TrainingError`."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises plain ones that name its source file.
        if trainer.world_size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        if not dist.is_initialized():
            raise TrainingError(
                f"not all of the {trainer.world_size} processes came within {timeout_s:g} s; start the "
                "command on all nodes with the same --nodes and --devices, and check that they reach "
                f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            ) from error
        raise TrainingError(
            f"another of the {trainer.world_size} processes ended or no longer answers; its last message "
            "says why; continue from last.ckpt with --resume"
        ) from error
