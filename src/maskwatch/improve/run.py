"""The steps of a round: check, split, fine-tune, compare, decide."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from maskwatch.data import DetectionSet, correct_all, read_corrections
from maskwatch.data.formats.base import Split
from maskwatch.data.formats.search import find_splits
from maskwatch.data.quality.check import check_splits
from maskwatch.data.quality.duplicates import find_duplicates, groups
from maskwatch.data.quality.image_issues import CheckedImage
from maskwatch.data.read import choose_splits, find_all_splits
from maskwatch.errors import DataError
from maskwatch.evaluation.page import write_report
from maskwatch.evaluation.predictor import check_classes, predict
from maskwatch.evaluation.report import Report, ReportOptions, StageProgress, build_report
from maskwatch.export.onnx import describe_model, export_network
from maskwatch.export.photographs import read_photographs
from maskwatch.improve.current import CurrentModel, fine_tuning_recipe, open_current
from maskwatch.improve.decision import decide
from maskwatch.improve.held_out import TRAIN, VAL, keep_split, read_list, write_list
from maskwatch.improve.rounds import LIST, MODEL, Round, choose_round, read_rounds, start_of
from maskwatch.labels import ClassMap
from maskwatch.models import DEFAULT_MODEL, Calibration
from maskwatch.outputs import make_folder, new_file
from maskwatch.training.checkpoint import Checkpoint, load_checkpoint
from maskwatch.training.recipe import Recipe, plain
from maskwatch.training.run import TrainOptions, train
from maskwatch.training.start import start_network
from maskwatch.training.torch_detector import TorchDetector

HELD_OUT = "held out"
"""Name of the held-out pictures in the report."""
DRAWS = 1000
"""Of the bootstrap, as in a report."""

_TIMED_STEPS = 4
_TIMED_PICTURES = 8


@dataclass(frozen=True)
class ImproveOptions:
    """What to improve.

    data: data sets to train on; out: folder of the rounds; start: the current model, None for the latest that
    was taken, else the default one; corrections: of labels, for all pictures; val: further data sets to
    compare on; recipe, settings: see `fine_tuning_recipe`; classes: spellings, None for those of the model;
    workers: processes that prepare batches.
    """

    data: Sequence[Path]
    out: Path
    start: str | None = None
    corrections: Path | None = None
    val: Sequence[Path] = ()
    recipe: str | None = None
    settings: Sequence[str] = ()
    classes: ClassMap | None = None
    workers: int = 1


@dataclass(frozen=True)
class Plan:
    """A round before it begins.

    round: new, to be continued or finished; pictures: all of `options.data` with corrected labels; held_out:
    indices of those to measure on; named: name and samples of each of `options.val`; warnings: number found
    in the check.
    """

    options: ImproveOptions
    current: CurrentModel
    round: Round
    recipe: Recipe
    pictures: DetectionSet
    held_out: tuple[int, ...]
    named: tuple[tuple[str, DetectionSet], ...]
    warnings: int

    @property
    def is_begun(self) -> bool:
        """Whether an earlier call began the round."""
        return self.round.folder.exists()

    @property
    def training_set(self) -> DetectionSet:
        held = set(self.held_out)
        return self.pictures.subset([i for i in range(len(self.pictures)) if i not in held])

    @property
    def held_out_set(self) -> DetectionSet:
        return self.pictures.subset(list(self.held_out))

    @property
    def measured(self) -> list[tuple[str, DetectionSet]]:
        """The data sets that decide."""
        return [(HELD_OUT, self.held_out_set), *self.named]


@dataclass(frozen=True)
class RoundResult:
    """The end of a round. verdicts: a line for each data set; model: the file, None if it was not taken."""

    round: Round
    verdicts: tuple[str, ...]
    model: Path | None


# ---- Plan ------------------------------------------------------------------------------------------------


def plan_round(options: ImproveOptions, progress: Callable[[int, int], None] | None = None) -> Plan:
    """Reads and checks the data, corrects the labels, and decides what is held out. Writes nothing.

    Args:
        progress: called with the number of pictures checked and of all.

    Raises:
        DataError: every error in the data sets, or nothing to train or to measure on.
        LabelError: other classes than the current model's.
        OutputError: the latest round is unfinished, and was asked something else.
        ModelFileError, CheckpointError: the current model cannot be trained further.
        RecipeError: as `load_recipe`.
    """
    rounds = read_rounds(options.out)
    current = open_current(options.start or start_of(rounds, DEFAULT_MODEL))
    classes = options.classes or ClassMap(current.class_names)
    check_classes(current.class_names, classes.names)
    _check_start(current, options)
    found = _read(options, classes, max(current.size_hw), progress)
    held_out = keep_split(found.pictures, found.groups, found.known)
    training = len(found.pictures) - len(held_out)
    recipe = fine_tuning_recipe(current, options.recipe, options.settings, training)
    request = _request(options, recipe, found, held_out)
    chosen = choose_round(options.out, rounds, request, current.name)
    plan = Plan(
        options, current, chosen, recipe, found.pictures, tuple(held_out), found.named, found.warnings
    )
    _check_boxes(plan)
    return plan


def _check_start(current: CurrentModel, options: ImproveOptions) -> None:
    """Finds out now, and not after the check, whether recipe and start fit."""
    recipe = fine_tuning_recipe(current, options.recipe, options.settings, pictures=1)
    start_network(current.name, recipe, current.class_names)


@dataclass(frozen=True)
class _Found:
    """pictures: of the data to train on; groups: near-duplicates among them; known: sides they have."""

    pictures: DetectionSet
    named: tuple[tuple[str, DetectionSet], ...]
    groups: list[list[int]]
    known: dict[int, str]
    warnings: int


def _read(
    options: ImproveOptions, classes: ClassMap, size: int, progress: Callable[[int, int], None] | None
) -> _Found:
    splits = find_all_splits(options.data)
    own = {split.name for split in splits}
    named = [replace(split, name=f"--val {path}") for path in options.val for split in _validation(path)]
    checked = check_splits([*splits, *named], classes, size, progress=progress)
    # A near-duplicate in another split is no reason to stop: it is held out below.
    if errors := [str(i) for i in checked.issues if i.severity == "error" and i.kind != "leak"]:
        raise DataError(errors)
    images = checked.images
    mine = [n for n, image in enumerate(images) if image.split in own - {"test"} and image.sample is not None]
    whole = _corrected(
        [_set_of(classes, [images[n] for n in mine])]
        + [_set_of(classes, [i for i in images if i.split == f"--val {path}"]) for path in options.val],
        options,
        classes,
    )
    pairs = find_duplicates([image.probe.fingerprint for image in images])
    alike = groups(len(images), [(pair.first, pair.second) for pair in pairs])
    sides = _own_sides([images[n].split for n in mine])
    known = sides | read_list(options.out / LIST, whole[0]) | _only_val(sides) | _twins(alike, mine)
    place = {number: n for n, number in enumerate(mine)}
    inside = [[place[number] for number in group if number in place] for group in alike]
    return _Found(
        whole[0],
        tuple(zip(map(str, options.val), whole[1:], strict=True)),
        [group for group in inside if group],
        known,
        checked.warnings,
    )


def _validation(path: Path) -> list[Split]:
    """The `val` of a data set, or all of one that is not split."""
    return choose_splits(path, find_splits(path), "val")


def _set_of(classes: ClassMap, images: Sequence[CheckedImage]) -> DetectionSet:
    return DetectionSet(classes.names, tuple(i.sample for i in images if i.sample is not None))


def _corrected(sets: list[DetectionSet], options: ImproveOptions, classes: ClassMap) -> list[DetectionSet]:
    file = options.corrections
    return sets if file is None else correct_all(sets, read_corrections(file, classes), file)


def _own_sides(splits: Sequence[str]) -> dict[int, str]:
    """The sides that the data has, by the split of each picture; none where it has no `val`."""
    return {n: side for n, side in enumerate(splits) if side in (TRAIN, VAL)} if VAL in splits else {}


def _only_val(sides: Mapping[int, str]) -> dict[int, str]:
    """What the data holds out now is not trained on, whatever it was before."""
    return {n: side for n, side in sides.items() if side == VAL}


def _twins(alike: Sequence[Sequence[int]], mine: Sequence[int]) -> dict[int, str]:
    """Held out: near-duplicates of pictures that are measured on elsewhere, in `--val` or a `test` split."""
    place = {number: n for n, number in enumerate(mine)}
    return {
        place[number]: VAL
        for group in alike
        if any(number not in place for number in group)
        for number in group
        if number in place
    }


def _request(
    options: ImproveOptions, recipe: Recipe, found: _Found, held_out: Sequence[int]
) -> dict[str, Any]:
    """What identifies a round, as plain values; names of data sets are for the reader."""
    digest = hashlib.sha256(repr(held_out).encode())
    for a_set in (found.pictures, *(a_set for _, a_set in found.named)):
        for sample in a_set.samples:
            digest.update(f"{sample.image_path.absolute()} {sample.size_hw}".encode())
            for array in (sample.boxes_xyxy, sample.class_ids, sample.ignore):
                digest.update(array.tobytes())
    return {
        "data": [str(path.absolute()) for path in options.data],
        "val": [str(path.absolute()) for path in options.val],
        "start": options.start,
        "recipe": plain(recipe),
        "labels": digest.hexdigest(),
    }


def _check_boxes(plan: Plan) -> None:
    """Raises DataError for a set without a box: nothing could be learnt or measured."""
    problems = [
        f"{name}: {len(a_set)} pictures without a box of {', '.join(a_set.class_names)}; {fix}"
        for name, a_set, fix in (
            ("to train on", plan.training_set, "label more pictures"),
            *((name, a_set, "label more pictures of it") for name, a_set in plan.measured),
        )
        if not any(a_set.class_counts().values())
    ]
    if problems:
        raise DataError(problems)


# ---- How long --------------------------------------------------------------------------------------------


@dataclass
class _StepClock(Callback):
    """When each step ended, in seconds of a monotonic clock."""

    ends: list[float] = field(default_factory=list)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.ends.append(time.monotonic())


def estimate_seconds(plan: Plan) -> float:
    """How long the round takes on this machine as it is now: measured on a few steps and pictures."""
    clock = _StepClock()
    few = [n for n, s in enumerate(plan.held_out_set.samples) if len(s.counted())][:_TIMED_PICTURES]
    pictures = plan.held_out_set.subset(few)
    recipe = replace(plan.recipe, steps=_TIMED_STEPS, validate_every=_TIMED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        options = replace(_train_options(plan), progress=False, callbacks=(clock,))
        train(plan.training_set, pictures, recipe, folder, options)
    step_s = (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
    began = time.monotonic()
    predict(plan.current.detector, pictures)
    picture_s = (time.monotonic() - began) / len(pictures)
    # The new model sees the held-out pictures at validation and for its thresholds, and all of them with all
    # its scores and with those thresholds; the current model sees all once.
    held_out, measured = len(plan.held_out), sum(len(a_set) for _, a_set in plan.measured)
    return plan.recipe.steps * step_s + (2 * held_out + 3 * measured) * picture_s


# ---- Run -------------------------------------------------------------------------------------------------


def run_round(plan: Plan, progress: StageProgress) -> RoundResult:
    """Trains, compares and decides; continues a round that was cut off, and repeats what a finished one said.

    Raises:
        TrainingError, CheckpointError: as `train`.
        ExportError: the model file gives other results than the network.
        OutputError: a file cannot be written.
        KeyboardInterrupt: interrupted or terminated while training; the same call continues.
    """
    one = plan.round
    if one.decision is None:
        make_folder(one.folder)
        write_list(plan.options.out / LIST, plan.pictures, plan.held_out)
        one.write()
        checkpoint = _trained(plan)
        candidate = TorchDetector.of(
            checkpoint,
            plan.current.size_hw,
            class_agnostic=False,
            two_scales=plan.current.two_scales,
        )
        report = _compare(plan, candidate, progress)
        write_report(report, one.folder / "report", force=True)
        decisions = decide(report)
        taken = all(decision.not_worse for decision in decisions)
        if taken:
            _export(plan, candidate, checkpoint, report)
        one = replace(one, decision={"taken": taken, "sets": [d.as_dict() for d in decisions]})
        one.write()
    assert one.decision is not None
    verdicts = tuple(str(part["verdict"]) for part in one.decision["sets"])
    return RoundResult(one, verdicts, plan.options.out / MODEL if one.taken else None)


def _trained(plan: Plan) -> Checkpoint:
    """The last weights: those of the best validation would be chosen on the pictures that decide."""
    last = plan.round.folder / "train" / "last.ckpt"
    if not (last.is_file() and load_checkpoint(last).step >= plan.recipe.steps):
        options = replace(_train_options(plan), resume=last.is_file(), trained_on=_trained_on(plan))
        train(plan.training_set, plan.held_out_set, plan.recipe, last.parent, options)
    return load_checkpoint(last)


def _train_options(plan: Plan) -> TrainOptions:
    # One device: with several, Lightning would start this whole command once for each.
    return TrainOptions(plan.current.name, devices=1, workers=plan.options.workers)


def _trained_on(plan: Plan) -> str:
    named = ", ".join(f"{path.resolve().parent.name}/{path.name}" for path in plan.options.data)
    file = plan.options.corrections
    labels = "" if file is None else f", labels corrected by {file.name}"
    before = f"{plan.current.trained_on}; " if plan.current.trained_on else ""
    return f"{before}{named} ({len(plan.training_set)} pictures{labels})"


def _compare(plan: Plan, candidate: TorchDetector, progress: StageProgress) -> Report:
    def calibrated(calibration: Calibration) -> TorchDetector:
        return candidate.calibrated(calibration)

    return build_report(
        candidate,
        plan.measured,
        ReportOptions(plan.round.folder.name, plan.current.name, HELD_OUT, draws=DRAWS),
        second=plan.current.detector,
        validation=plan.held_out_set,
        calibrate=calibrated,
        progress=progress,
    )


def _export(plan: Plan, candidate: TorchDetector, checkpoint: Checkpoint, report: Report) -> None:
    """Writes the model file of the round, and its copy beside the rounds."""
    name = plan.options.out.absolute().name
    metadata = describe_model(checkpoint, name, candidate.input_size, report.thresholds)
    assert report.fit is not None
    metadata = replace(metadata, calibration=report.fit.calibration, calibrated_on=report.fit.pictures)
    target = plan.round.folder / MODEL
    photographs = read_photographs([sample.image_path for sample in plan.held_out_set.samples])
    export_network(candidate.network, metadata, target, photographs)
    with new_file(plan.options.out / MODEL) as part:
        shutil.copyfile(target, part)
