"""The connection to a Ray cluster: quiet, without a dashboard and without telemetry."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import ray
from ray.data import DataContext, Dataset

from maskwatch.errors import ClusterError
from maskwatch.system import usable_cores

LOCAL, AUTO = "local", "auto"

_CONNECT_TIMEOUT_S = 5.0


def map_blocks(dataset: Dataset, function: Any, **arguments: Any) -> Dataset:
    """`Dataset.map_batches` on Arrow tables, in actors if `function` is a class.

    Ray repeats the work of a process or node that died until it is done.
    """
    return dataset.map_batches(function, batch_format="pyarrow", **{"batch_size": None, **arguments})


def connect(address: str = LOCAL) -> None:
    """Connects this process to a cluster; does nothing where it is connected.

    Args:
        address: "local" starts Ray on this machine for this process, "auto" takes the cluster that
            `ray start` made here or that RAY_ADDRESS names; else host:port of the head, or ray://host:port.

    Raises:
        ClusterError: there is no cluster.
    """
    _quiet()
    if ray.is_initialized():
        return
    if address not in (LOCAL, AUTO):
        _check_server(address)
    start: dict[str, Any] = (
        {"num_cpus": usable_cores(), "include_dashboard": False} if address == LOCAL else {}
    )
    try:
        with _muted_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **start)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ClusterError(
            f"--ray {address}: {reason}; start a cluster with ray start --head, or use --ray local"
        ) from None


@contextlib.contextmanager
def connection(address: str = LOCAL) -> Iterator[None]:
    """As `connect`; at the end, disconnects what it has connected. Raises `ClusterError`, also for Ray's."""
    before = ray.is_initialized()
    connect(address)
    try:
        yield
    except ray.exceptions.RayError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise ClusterError(
            f"--ray {address}: the job ended ({reason}); run it again with --resume"
        ) from error
    finally:
        if not before:
            ray.shutdown()


def configure(*, in_order: bool = False) -> None:
    """Settings of Ray Data for the jobs of this package."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # the rest goes on; what is missing is counted at the end
    context.execution_options.preserve_order = in_order


def _quiet() -> None:
    """Ray's messages go to the files of its session only."""
    from ray._private import worker

    # It prints lost nodes to standard output, where records may be, and has no option for that.
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _muted_stderr() -> Iterator[None]:
    """Ray's core writes a line about its log level itself; an error is raised, not written."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_server(address: str) -> None:
    """Ray itself tries an address that no one answers for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(
            f"--ray {address!r} is not an address of a cluster; write local, auto, or host:port of its head"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"--ray {address}: no cluster answers ({reason}); check host and port, or use --ray local"
        ) from None
