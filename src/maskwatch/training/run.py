"""One training from data to checkpoints."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from maskwatch.data import DetectionSet
from maskwatch.errors import CheckpointError, DataError, OutputError
from maskwatch.evaluation.coco import CocoResult
from maskwatch.training.batches import (
    StepSampler,
    TrainViews,
    ValidationViews,
    balanced_order,
    collate,
    collate_fitted,
)
from maskwatch.training.board import Board
from maskwatch.training.checkpoint import Checkpoint, describe, load_checkpoint
from maskwatch.training.module import VALIDATION_TAG, DetectionModule
from maskwatch.training.progress import progress_callback
from maskwatch.training.recipe import Recipe
from maskwatch.training.start import start_network

# Steps between saves of last.ckpt: what a kill may cost.
SAVE_EVERY = 100
# Steps between points of the curves in TensorBoard.
LOG_EVERY = 10


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves behind.

    losses: the last step's, under the API's tags; validation: the last COCO numbers, None where the training
    ended before its first validation.
    """

    best: Path
    last: Path
    losses: dict[str, float]
    validation: CocoResult | None


def train(
    training_set: DetectionSet,
    validation_set: DetectionSet,
    recipe: Recipe,
    output: str | Path,
    *,
    start: str | Path | None = None,
    resume: bool = False,
    devices: int | str = "auto",
    workers: int = 1,
    progress: bool = True,
    trained_on: str = "",
    callbacks: Iterable[Callback] = (),
) -> TrainingResult:
    """Trains and leaves `best.ckpt`, `last.ckpt` and TensorBoard curves in a folder.

    Args:
        training_set, validation_set: of the same classes.
        recipe: how.
        output: folder; must not hold another training unless `resume`.
        start: where the weights come from; see `start_network`.
        resume: go on from `last.ckpt` in `output`; the same batches and losses follow as without the break.
        devices: number of devices, or "auto"; several are used by Lightning's DDP.
        workers: processes that prepare batches.
        progress: show a bar.
        trained_on: description of the data, kept in checkpoint and model file.
        callbacks: further Lightning callbacks.

    Raises:
        DataError: a set without a box, or classes that differ.
        OutputError: `output` holds a training and `resume` is off, or nothing to resume.
        TrainingError: the loss stopped being a number.
    """
    output = Path(output)
    last = _check_output(output, resume)
    _check_sets(training_set, validation_set)
    begun = None if last is None else load_checkpoint(last)
    recipe = _phased(recipe, start, begun)
    if last is not None and begun is not None:
        _check_same(last, begun, recipe, training_set)
    L.seed_everything(recipe.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    network = start_network(None if last else start, recipe, training_set.class_names)
    module = DetectionModule(
        network.to(memory_format=torch.channels_last), recipe, validation_set, trained_on
    )
    module.train()  # Lightning keeps the mode it finds, and a loaded network is in evaluation mode
    best = _best_checkpoint(output)
    trainer = _trainer(
        recipe, output, [*_callbacks(recipe, output, progress), best, *callbacks], devices, progress
    )
    order = balanced_order(training_set, recipe.class_balance, recipe.seed)
    sampler = StepSampler(order, recipe, lambda: trainer.global_step, trainer.global_rank, trainer.world_size)
    with warnings.catch_warnings():
        _quiet()
        trainer.fit(
            module,
            _train_loader(training_set, recipe, sampler, workers, trainer.num_devices),
            _validation_loader(validation_set, recipe),
            ckpt_path=last,
            weights_only=False if last else None,
        )
    trainer.save_checkpoint(output / "last.ckpt")
    return TrainingResult(
        Path(best.best_model_path or output / "last.ckpt"),
        output / "last.ckpt",
        module.last_losses,
        module.last_result,
    )


def _check_output(output: Path, resume: bool) -> Path | None:
    last = output / "last.ckpt"
    if resume:
        if not last.is_file():
            raise OutputError(f"{last}: nothing to resume there; leave out --resume to start a new training")
        return last
    if last.exists() or (output / "best.ckpt").exists():
        raise OutputError(
            f"{output}: holds a training already; add --resume to go on, or choose another --out"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made ({error.strerror}); choose another --out") from error
    return None


def _check_sets(training_set: DetectionSet, validation_set: DetectionSet) -> None:
    if training_set.class_names != validation_set.class_names:
        names = f"{training_set.class_names} and {validation_set.class_names}"
        raise DataError(
            [f"training and validation set have other classes ({names}); read both with one --classes"]
        )
    for name, detection_set in (("training", training_set), ("validation", validation_set)):
        if not sum(detection_set.class_counts().values()):
            raise DataError([f"the {name} set of {len(detection_set)} pictures holds no box; check its path"])


def _phased(recipe: Recipe, start: str | Path | None, begun: Checkpoint | None) -> Recipe:
    """The recipe, all of it first phase where the training begins, or began, with random weights."""
    random = (
        start is None if begun is None else (begun.recipe.first_phase, begun.recipe.resting_blocks) == (1, 0)
    )
    return replace(recipe, first_phase=1.0, resting_blocks=0) if random else recipe


def _check_same(last: Path, before: Checkpoint, recipe: Recipe, training_set: DetectionSet) -> None:
    """A resumed training must be the one that was begun, but for its length."""
    now, then = (
        describe(r, n, "")
        for r, n in ((recipe, training_set.class_names), (before.recipe, before.class_names))
    )
    free = ("steps", "schedule_steps", "patience", "name")
    changed = [k for k in now["recipe"] if k not in free and now["recipe"][k] != then["recipe"][k]]
    if now["class_names"] != then["class_names"]:
        changed.append("classes")
    if changed:
        raise CheckpointError(
            f"{last}: was begun with other settings of {', '.join(changed)}; resume with the same ones, "
            "or start a new training in another --out"
        )


def _trainer(
    recipe: Recipe, output: Path, callbacks: list[Callback], devices: int | str, progress: bool
) -> L.Trainer:
    with warnings.catch_warnings():
        _quiet()
        return L.Trainer(
            max_steps=recipe.steps,
            accelerator="auto",
            devices=devices,
            precision=_precision(recipe),  # type: ignore[arg-type]
            gradient_clip_val=recipe.clip_norm or None,
            callbacks=callbacks,
            logger=TensorBoardLogger(output, name=None, version="tensorboard"),
            log_every_n_steps=min(LOG_EVERY, recipe.validate_every),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # StepSampler shares the batches out itself
            enable_progress_bar=progress,
            enable_model_summary=False,
        )


def _callbacks(recipe: Recipe, output: Path, progress: bool) -> list[Callback]:
    callbacks: list[Callback] = []
    if progress:
        callbacks.append(progress_callback())
    if recipe.average_decay:
        # Before the checkpoints, which are to hold the averaged weights.
        callbacks.append(WeightAveraging(avg_fn=partial(_average, recipe.average_decay)))
    callbacks.append(
        ModelCheckpoint(
            output, "last", every_n_train_steps=SAVE_EVERY, save_top_k=1, enable_version_counter=False
        )
    )
    callbacks.append(Board())
    if recipe.patience:
        callbacks.append(
            EarlyStopping(
                VALIDATION_TAG, mode="max", patience=recipe.patience, check_on_train_epoch_end=False
            )
        )
    return callbacks


def _best_checkpoint(output: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        output,
        "best",
        monitor=VALIDATION_TAG,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )


def _average(decay: float, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Moving average that forgets its start: the decay grows from 0.1 to its full value."""
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


def _train_loader(
    detection_set: DetectionSet, recipe: Recipe, sampler: StepSampler, workers: int, trainers: int
) -> DataLoader[Any]:
    """Batches of one of several training processes on this machine, each with its own workers."""
    options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    return DataLoader(
        TrainViews(detection_set, recipe, loaders=trainers * max(1, workers)),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        **options,
    )


def _validation_loader(detection_set: DetectionSet, recipe: Recipe) -> DataLoader[Any]:
    return DataLoader(
        ValidationViews(detection_set, recipe), batch_size=8, collate_fn=collate_fitted, num_workers=0
    )


def _quiet() -> None:
    """Leaves out what Lightning says of itself, and advice of its that does not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",  # of its own internals
        ".*module\\(s\\) in eval mode.*",  # the frozen blocks are
        ".*your dataloader is not resumable.*",  # StepSampler takes up the batches by the step
        "Checkpoint directory .* exists and is not empty.*",  # it was made by us, or is resumed
    ):
        warnings.filterwarnings("ignore", message=message)
