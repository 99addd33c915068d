"""Lightning's Trainer for a recipe: callbacks, precision, progress."""

from __future__ import annotations

import logging
import platform
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from maskwatch.tf_compat.tensorflow import keep_out_of_tensorboard
from maskwatch.training.module import VALIDATION_TAG
from maskwatch.training.processes import Processes, choose_strategy
from maskwatch.training.recipe import Recipe
from maskwatch.training.tensorboard import TensorBoardPanels

# Steps between saves of last.ckpt (the most that a kill costs), between points of the curves in TensorBoard,
# and between progress lines where standard error is not a terminal.
SAVE_EVERY = 100
LOG_EVERY = 10
PROGRESS_EVERY = 50


def make_trainer(
    recipe: Recipe,
    output: Path,
    callbacks: Iterable[Callback],
    processes: Processes,
    *,
    timeout_s: float,
    progress: bool,
) -> L.Trainer:
    """The trainer of a run in the folder `output`, with further callbacks."""
    keep_out_of_tensorboard()
    bar = progress and sys.stderr.isatty()
    if progress:
        callbacks = [ProgressBar(refresh_rate=5) if bar else ProgressLines(), *callbacks]
    with quiet_lightning():
        return L.Trainer(
            max_steps=recipe.steps,
            accelerator="auto",
            devices=processes.devices,
            num_nodes=processes.nodes,
            strategy=choose_strategy(processes, timeout_s),
            precision=_precision(recipe),  # type: ignore[arg-type]
            gradient_clip_val=recipe.clip_norm or None,
            callbacks=[*_callbacks(recipe, output), *callbacks],
            logger=TensorBoardLogger(output, name=None, version="tensorboard"),
            log_every_n_steps=min(LOG_EVERY, recipe.validate_every),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # StepSampler divides the batches among the processes
            enable_progress_bar=bar,  # True would add Lightning's own where ours is missing
            enable_model_summary=False,
        )


def best_checkpoint(output: Path) -> ModelCheckpoint:
    """Saves best.ckpt, the one of the highest AP."""
    return ModelCheckpoint(
        output,
        "best",
        monitor=VALIDATION_TAG,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )


def _callbacks(recipe: Recipe, output: Path) -> Iterator[Callback]:
    if recipe.ema_decay:
        # Before the checkpoints, which hold the averaged weights.
        yield WeightAveraging(avg_fn=partial(_ema, recipe.ema_decay))
    yield ModelCheckpoint(
        output, "last", every_n_train_steps=SAVE_EVERY, save_top_k=1, enable_version_counter=False
    )
    yield TensorBoardPanels()
    if recipe.patience:
        yield EarlyStopping(
            VALIDATION_TAG, mode="max", patience=recipe.patience, check_on_train_epoch_end=False
        )


def _ema(decay: float, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average with a warm-up: the decay grows from 0.1 to its full value."""
    if not averaged.is_floating_point():
        return current
    warm = min(decay, (1 + int(count)) / (10 + int(count)))
    return torch.lerp(averaged, current, 1 - warm)


def _precision(recipe: Recipe) -> str:
    if recipe.precision != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[recipe.precision]
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if _cpu_has_bf16() else "32-true"


def _cpu_has_bf16() -> bool:
    """Whether bf16 pays on this CPU: without instructions for it, it is emulated and slower than float32."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return bool(
        torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's messages about itself, and its advice that does not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*LeafSpec.*",  # about Lightning's own internals
            ".*module\\(s\\) in eval mode.*",  # the frozen blocks are
            ".*your dataloader is not resumable.*",  # StepSampler continues at the right step
            "Checkpoint directory .* exists and is not empty.*",  # this run made it, or resumes it
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


class ProgressBar(TQDMProgressBar):
    """Lightning's bar without the number of the logger's folder."""

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, module)
        items.pop("v_num", None)
        return dict(items)


class ProgressLines(Callback):
    """One line on standard error for every `PROGRESS_EVERY` steps and every validation."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if self._since is None:
            self._since = time.monotonic(), step
        elif step % PROGRESS_EVERY == 0 or step == trainer.max_steps:
            since, first = self._since
            seconds = (time.monotonic() - since) / max(step - first, 1)
            self._since = time.monotonic(), step
            losses = ", ".join(
                f"{name.removeprefix('Loss/').removesuffix('_loss')} {float(value):.3f}"
                for name, value in trainer.callback_metrics.items()
                if name.startswith("Loss/")
            )
            self._print(trainer, f"step {step}/{trainer.max_steps}: {losses} ({seconds:.2f} s a step)")

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if (result := getattr(module, "last_result", None)) is not None:
            ap, ap50 = result.stats["AP"], result.stats["AP50"]
            self._print(trainer, f"step {trainer.global_step}: AP {ap:.3f}, AP50 {ap50:.3f}")
        self._since = None

    def _print(self, trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            print(line, file=sys.stderr, flush=True)
