"""What TensorBoard shows beside the scalars: images, precision-recall curves, the recipe with its score.

Everything but the first batch is written at validations, so that no step waits for it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import numpy.typing as npt
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from maskwatch.data import DetectionSet
from maskwatch.data.contact_sheet import draw_sample
from maskwatch.drawing.annotate import draw
from maskwatch.evaluation.matching import ranked
from maskwatch.media.images import UInt8Array, letterbox, read_image
from maskwatch.training.batches import Batch
from maskwatch.training.module import DetectionModule
from maskwatch.training.recipe import plain

if TYPE_CHECKING:
    import supervision as sv
    from torch.utils.tensorboard import SummaryWriter

# Tags of the TF Object Detection API (model_lib_v2.py, coco_evaluation.py), where it has them.
EXAMPLE_TAG = "eval_side_by_side_{}"
INPUT_TAG = "train_input_images"
CLASS_TAG = "DetectionBoxes_PerformanceByCategory/mAP/{}"
CURVE_TAG = "precision_recall/{}"
HPARAMS_FOLDER = "hparams"
HPARAM_TAGS = {"AP": "hparam/AP", "AP50": "hparam/AP50"}

EXAMPLES, INPUT_IMAGES = 8, 16
# Longer side in pixels, so that an event file stays small.
EXAMPLE_SIDE, INPUT_SIDE = 480, 320
# Predictions with scores above this are drawn; the API's 0.5 hides those of a young network.
MIN_SCORE = 0.3
# The most that TensorBoard's plugin accepts.
CURVE_POINTS = 127
_SEAM = 6  # pixels of white between ground truth and prediction


class TensorBoardPanels(Callback):
    """Writes what `docs/training.md` lists into the event files of the run, in the first process only."""

    def __init__(self) -> None:
        self._batch: Batch | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_index: int
    ) -> None:
        first, self._batch = self._batch is None, batch
        if first and trainer.is_global_zero:
            self._write_inputs(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(module, DetectionModule):
            return
        writer, step = _writer(trainer), trainer.global_step
        detection_set, predictions = module.validation_set, module.last_predictions
        self._write_inputs(trainer, module)
        for number, index in enumerate(example_indices(detection_set, module.recipe.seed)):
            image = side_by_side(detection_set, index, predictions[index])
            writer.add_image(EXAMPLE_TAG.format(number), image, step, dataformats="HWC")
        for class_id, name in enumerate(detection_set.class_names):
            write_curve(writer, detection_set, predictions, class_id, name, step)
        for score in module.last_result.per_class if module.last_result else ():
            if score.ap is not None:
                writer.add_scalar(CLASS_TAG.format(score.name), score.ap, step)
        writer.flush()

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._batch = None
        if trainer.is_global_zero and isinstance(module, DetectionModule) and module.last_result is not None:
            write_hparams(Path(_writer(trainer).log_dir) / HPARAMS_FOLDER, module, trainer.global_step)

    def _write_inputs(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._batch is not None and isinstance(module, DetectionModule):
            images = draw_batch(self._batch, module.validation_set.class_names)
            _writer(trainer).add_images(INPUT_TAG, images, trainer.global_step, dataformats="NHWC")


def example_indices(detection_set: DetectionSet, seed: int) -> list[int]:
    """The images to show, the same for the same set and seed; those with boxes come before others."""
    shuffled = np.random.default_rng(seed).permutation(len(detection_set)).tolist()
    shuffled.sort(key=lambda index: not len(detection_set.samples[index].counted()))  # a stable sort
    return sorted(shuffled[:EXAMPLES])


def side_by_side(detection_set: DetectionSet, index: int, found: sv.Detections) -> UInt8Array:
    """Ground truth left, predictions right: (H, 2 W + 6, 3) RGB, H and W up to `EXAMPLE_SIDE`."""
    sample = detection_set.samples[index]
    image = read_image(sample.image_path)
    scale = min(1.0, EXAMPLE_SIDE / max(image.shape[:2]))
    size_hw = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    image, placement = letterbox(image, size_hw)
    scale_xy = (placement.scale_x, placement.scale_y)
    truth = draw_sample(image, sample, detection_set.class_names, scale_xy)
    assert found.confidence is not None
    confident = found[found.confidence > MIN_SCORE]
    assert isinstance(confident, type(found))  # not a column, as indexing by a name returns
    shown = dataclasses.replace(confident, xyxy=placement.to_network(confident.xyxy))
    seam = np.full((size_hw[0], _SEAM, 3), 255, np.uint8)
    return np.concatenate([truth, seam, draw(image, shown)], axis=1)


def draw_batch(batch: Batch, class_names: tuple[str, ...]) -> UInt8Array:
    """The first images of a batch as the network got them, with their boxes: (N, S, S, 3) RGB."""
    images = []
    for image, boxes, class_ids in zip(batch.images[:INPUT_IMAGES], *batch[1:], strict=False):
        canvas, placement = letterbox(image.cpu().numpy(), (INPUT_SIDE, INPUT_SIDE))
        truth = _labelled(placement.to_network(boxes.cpu().numpy()), class_ids.cpu().numpy(), class_names)
        images.append(draw(canvas, truth))
    return np.stack(images)


def write_curve(
    writer: SummaryWriter,
    detection_set: DetectionSet,
    predictions: list[sv.Detections],
    class_id: int,
    name: str,
    step: int,
) -> None:
    """Precision and recall of a class at thresholds from 0 to 1, matched at IoU 0.5; none without a box."""
    scores, hits, truths = ranked(detection_set, predictions, class_id)
    if not truths:
        return
    thresholds = np.linspace(0, 1, CURVE_POINTS)
    counts = scores[None] >= thresholds[:, None]  # (T, D)
    true_positives, false_positives = (counts & hits).sum(1), (counts & ~hits).sum(1)
    writer.add_pr_curve_raw(
        CURVE_TAG.format(name),
        true_positive_counts=true_positives,
        false_positive_counts=false_positives,
        true_negative_counts=np.zeros_like(true_positives),  # a detector has none
        false_negative_counts=truths - true_positives,
        precision=true_positives / np.maximum(true_positives + false_positives, 1),
        recall=true_positives / truths,
        global_step=step,
        num_thresholds=CURVE_POINTS,
    )


def write_hparams(folder: Path, module: DetectionModule, step: int) -> None:
    """Writes the recipe's keys and the final score to a separate folder.

    Replaces what a training wrote there before it was resumed: TensorBoard would show the older recipe.
    """
    from torch.utils.tensorboard import SummaryWriter, summary

    assert module.last_result is not None
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    keys = {k: str(v) if isinstance(v, list) else v for k, v in plain(module.recipe).items()}
    scores = {tag: module.last_result.stats[name] for name, tag in HPARAM_TAGS.items()}
    with SummaryWriter(str(folder)) as writer:
        assert writer.file_writer is not None
        for part in summary.hparams(keys, scores):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(part, step)
        for tag, value in scores.items():
            writer.add_scalar(tag, value, step)


def _labelled(
    boxes_xyxy: npt.NDArray[np.float32], class_ids: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> sv.Detections:
    import supervision as sv

    names = np.array([*class_names, "ignored"])[class_ids]  # IGNORE_CLASS is the last
    return sv.Detections(xyxy=boxes_xyxy.reshape(-1, 4), class_id=class_ids, data={"class_name": names})


def _writer(trainer: L.Trainer) -> SummaryWriter:
    assert isinstance(trainer.logger, TensorBoardLogger)
    writer: SummaryWriter = trainer.logger.experiment
    return writer
