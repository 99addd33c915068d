"""One training from data to checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from maskwatch.data import DetectionSet
from maskwatch.errors import CheckpointError, DataError, OutputError
from maskwatch.evaluation.coco import CocoResult
from maskwatch.outputs import make_folder
from maskwatch.system import keep_freed_memory
from maskwatch.training.batches import (
    StepSampler,
    TrainingDataset,
    ValidationDataset,
    balanced_order,
    collate,
    collate_validation,
    validation_batches,
)
from maskwatch.training.checkpoint import Checkpoint, load_checkpoint
from maskwatch.training.module import DetectionModule
from maskwatch.training.processes import Processes, is_first_process, plan_processes, process_errors
from maskwatch.training.recipe import Recipe, plain
from maskwatch.training.start import start_network
from maskwatch.training.trainer import best_checkpoint, make_trainer, quiet_lightning


@dataclass(frozen=True)
class TrainOptions:
    """Everything about a run that is not in its recipe.

    Attributes:
        start: where the weights come from; see `start_network`.
        resume: continue from `last.ckpt`, with the batches and losses of an unbroken training.
        devices: number of devices of each machine, or "auto"; several train together by Lightning's DDP.
        workers: processes that prepare batches.
        progress: show it on standard error.
        trained_on: description of the data, stored in checkpoint and model file.
        callbacks: further Lightning callbacks.
        nodes: number of machines; None for 1, or as many as torchrun or SLURM started.
        timeout_s: how long processes wait for one another before the training ends.
    """

    start: str | Path | None = None
    resume: bool = False
    devices: int | str = "auto"
    workers: int = 1
    progress: bool = True
    trained_on: str = ""
    callbacks: tuple[Callback, ...] = ()
    nodes: int | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True)
class TrainingResult:
    """Checkpoints and the last numbers of a training.

    losses: of the last step, under the API's tags; validation: the latest COCO numbers, None where the
    training ended before its first validation.
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
    options: TrainOptions | None = None,
) -> TrainingResult:
    """Trains and writes `best.ckpt`, `last.ckpt` and TensorBoard curves to a folder.

    Args:
        training_set, validation_set: of the same classes.
        recipe: the settings.
        output: folder; must not hold another training unless `options.resume`.
        options: those of the run.

    Raises:
        DataError: a set without a box, or classes that differ.
        RecipeError: a data set has none of `recipe.data_weights`.
        OutputError: `output` holds a training and `resume` is off, or nothing to resume.
        CheckpointError: the start or the training to resume does not fit.
        TrainingError: the loss is not a number any more, or another process is missing.
        OptionError: as `plan_processes`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; `options.resume` continues from last.ckpt.
    """
    output, options = Path(output), options or TrainOptions()
    processes = plan_processes(options.nodes, options.devices)
    last = _check_output(output, options.resume)
    _check_sets(training_set, validation_set)
    resumed = None if last is None else load_checkpoint(last)
    recipe = _for_random_weights(recipe, options.start, resumed)
    if last is not None and resumed is not None:
        _check_same(last, resumed, recipe, training_set, processes)
    L.seed_everything(recipe.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()
    network = start_network(None if last else options.start, recipe, training_set.class_names)
    module = DetectionModule(
        network.to(memory_format=torch.channels_last), recipe, validation_set, options.trained_on
    )
    module.train()  # Lightning keeps the mode it finds, and a loaded network is in evaluation mode
    best = best_checkpoint(output)
    callbacks = [best, *options.callbacks]
    timeout_s = options.timeout_s
    trainer = make_trainer(
        recipe, output, callbacks, processes, timeout_s=timeout_s, progress=options.progress
    )
    loaders = (
        _training_loader(training_set, recipe, trainer, options.workers),
        _validation_loader(validation_set, recipe, trainer),
    )
    with quiet_lightning(), process_errors(trainer, timeout_s):
        try:
            trainer.fit(module, *loaders, ckpt_path=last, weights_only=False if last else None)
        except SystemExit as end:  # Lightning ends an interrupted process with 1, a terminated one with 0
            raise KeyboardInterrupt from end
        last = output / "last.ckpt"
        trainer.save_checkpoint(last)
    return TrainingResult(Path(best.best_model_path or last), last, module.last_losses, module.last_result)


_NOTHING_TO_RESUME = {
    True: "no training to resume; leave out --resume to start a new one",
    False: "not on this machine; to resume, --out must be a folder that all machines share",
}


def _check_output(output: Path, resume: bool) -> Path | None:
    last = output / "last.ckpt"
    if resume:
        if not last.is_file():
            raise OutputError(f"{last}: {_NOTHING_TO_RESUME[is_first_process()]}")
        return last
    if last.exists() or (output / "best.ckpt").exists():
        raise OutputError(
            f"{output}: holds a training already; add --resume to continue it, or choose another --out"
        )
    if is_first_process():
        make_folder(output)
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


def _for_random_weights(recipe: Recipe, start: str | Path | None, resumed: Checkpoint | None) -> Recipe:
    """The recipe; random weights take BatchNorm updates to the end and no frozen block."""
    if resumed is not None:
        random = (resumed.recipe.bn_update_fraction, resumed.recipe.frozen_blocks) == (1, 0)
    else:
        random = start is None
    return replace(recipe, bn_update_fraction=1.0, frozen_blocks=0) if random else recipe


def _check_same(
    last: Path, before: Checkpoint, recipe: Recipe, training_set: DetectionSet, processes: Processes
) -> None:
    """A resumed training must have the settings it began with, but for its length.

    With another number of processes, each takes a larger or smaller part of the same batches.
    """
    now = plain(recipe) | {"classes": tuple(training_set.class_names)}
    then = plain(before.recipe) | {"classes": before.class_names}
    free = ("steps", "schedule_steps", "patience", "name")
    changed = [key for key in now if key not in free and now[key] != then[key]]
    began_with = before.processes or processes.total
    if began_with != processes.total:
        sizes = [size * began_with for size in before.recipe.batch_sizes]
        if sizes != [size * processes.total for size in recipe.batch_sizes]:
            raise CheckpointError(
                f"{last}: began with {began_with} processes and batch_size {then['batch_size']}, now there "
                f"are {processes.total} and {now['batch_size']}; resume with as many, or with batch_size "
                f"{then['batch_size'] * began_with / processes.total:g}, for the same batches"
            )
        changed = [key for key in changed if key != "batch_size"]
    if changed:
        raise CheckpointError(
            f"{last}: began with other settings of {', '.join(changed)}; resume with the same ones, "
            "or start a new training in another --out"
        )


def _training_loader(
    detection_set: DetectionSet, recipe: Recipe, trainer: L.Trainer, workers: int
) -> DataLoader[Any]:
    """Batches of this process, with its own workers."""
    order = balanced_order(detection_set, recipe.class_balance, recipe.seed, recipe.data_weights)
    options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    return DataLoader(
        TrainingDataset(detection_set, recipe, loaders=trainer.num_devices * max(1, workers)),
        batch_sampler=StepSampler(
            order, recipe, lambda: trainer.global_step, trainer.global_rank, trainer.world_size
        ),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        **options,
    )


def _validation_loader(detection_set: DetectionSet, recipe: Recipe, trainer: L.Trainer) -> DataLoader[Any]:
    return DataLoader(
        ValidationDataset(detection_set, recipe),
        batch_sampler=validation_batches(len(detection_set), trainer.global_rank, trainer.world_size),
        collate_fn=collate_validation,
        num_workers=0,
    )
