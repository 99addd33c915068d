"""The Lightning module: training step, validation with COCO's numbers, optimiser, learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from maskwatch.data import DetectionSet
from maskwatch.errors import TrainingError
from maskwatch.evaluation.coco import CocoResult, coco_evaluate
from maskwatch.network import SSD, AnchorSpec, preprocess
from maskwatch.network.loss import DetectionLoss, Targets, gfl_loss, l2_regularization, ssd_loss
from maskwatch.network.matching import ignore_anchors, match_atss, match_iou
from maskwatch.network.postprocess import detect
from maskwatch.training.batches import Batch, ValidationBatch, validation_batches
from maskwatch.training.checkpoint import FORMAT_KEY, describe
from maskwatch.training.crops import IGNORE_CLASS
from maskwatch.training.recipe import Recipe
from maskwatch.training.torch_detector import to_supervision

if TYPE_CHECKING:
    import supervision as sv

# Tags of the TF Object Detection API, so that one TensorBoard shows its curves and ours together.
COCO_TAGS = {
    "AP": "DetectionBoxes_Precision/mAP",
    "AP50": "DetectionBoxes_Precision/mAP@.50IOU",
    "AP75": "DetectionBoxes_Precision/mAP@.75IOU",
    "AP_small": "DetectionBoxes_Precision/mAP (small)",
    "AP_medium": "DetectionBoxes_Precision/mAP (medium)",
    "AP_large": "DetectionBoxes_Precision/mAP (large)",
    "AR1": "DetectionBoxes_Recall/AR@1",
    "AR10": "DetectionBoxes_Recall/AR@10",
    "AR100": "DetectionBoxes_Recall/AR@100",
    "AR_small": "DetectionBoxes_Recall/AR@100 (small)",
    "AR_medium": "DetectionBoxes_Recall/AR@100 (medium)",
    "AR_large": "DetectionBoxes_Recall/AR@100 (large)",
}
VALIDATION_TAG = COCO_TAGS["AP"]


def matcher_of(
    recipe: Recipe, spec: AnchorSpec, anchors_xyxy: Tensor, size_hw: tuple[int, int]
) -> Callable[[Tensor], Tensor]:
    """The recipe's matcher: boxes (G, 4) → ground truth of each anchor (A,), or −1."""
    if recipe.matcher == "iou":
        return lambda boxes: match_iou(anchors_xyxy, boxes, size_hw)
    # Nine candidates for each anchor shape at a cell, as the paper has for its one.
    return lambda boxes: match_atss(anchors_xyxy, boxes, spec.counts(size_hw), 9 * spec.per_cell)


class DetectionModule(L.LightningModule):
    """Trains an `SSD` as a recipe says.

    Args:
        network: starts from its present weights.
        recipe: the settings.
        validation_set: measured after each epoch of `recipe.validate_every` steps.
        trained_on: description of the training data, stored in checkpoints.
    """

    def __init__(
        self, network: SSD, recipe: Recipe, validation_set: DetectionSet, trained_on: str = ""
    ) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self.validation_set, self.trained_on = validation_set, trained_on
        self.loss: DetectionLoss = ssd_loss if recipe.loss == "ssd" else gfl_loss
        self.last_losses: dict[str, float] = {}
        self.last_result: CocoResult | None = None
        self.last_predictions: list[sv.Detections] = []  # of the latest validation, in the order of the set
        self._predictions: list[sv.Detections] = []
        frozen = recipe.frozen_blocks
        self._frozen = [network.backbone.stem, *network.backbone.blocks[:frozen]] if frozen else []
        self._norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._norms:
            norm.momentum = recipe.bn_momentum
        self._bn_updates = recipe.bn_update_fraction > 0

    def setup(self, stage: str) -> None:
        self._freeze(self._bn_updates)

    def _freeze(self, frozen: bool) -> None:
        if _process_count() > 1:
            return  # DDP averages only what is trainable when it begins; `on_after_backward` freezes
        for module in self._frozen:
            module.requires_grad_(not frozen)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Ends the updates of BatchNorms, also where a training is resumed after their end."""
        if self._bn_updates and self.recipe.bn_update_end <= self.global_step:
            self._bn_updates = False
            self._freeze(False)
            self.train()

    def train(self, mode: bool = True) -> DetectionModule:
        super().train(mode)
        for module in self._frozen if self._bn_updates else self._norms:
            module.eval()  # its BatchNorms keep their statistics
        return self

    def on_after_backward(self) -> None:
        """With several processes: keeps frozen blocks as they are, and statistics the same everywhere."""
        if _process_count() == 1 or not self._bn_updates:
            return
        for module in self._frozen:
            for parameter in module.parameters():
                parameter.grad = None
        average_over_processes([buffer for norm in self._norms for buffer in _statistics(norm)])

    # ---- a step ------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The total loss of one batch; its parts are logged under the API's tags."""
        size_hw = (batch.images.shape[1], batch.images.shape[2])
        images = preprocess(batch.images).contiguous(memory_format=torch.channels_last)
        encodings, logits = self.network(images)
        anchors = self.network.anchors_xyxy(size_hw).to(images.device)
        losses = self.loss(encodings.float(), logits.float(), anchors, self._targets(batch, anchors, size_hw))
        l2 = self.recipe.l2
        regularization = l2_regularization(self.network, l2) if l2 else images.new_zeros(())
        total = losses.localization + losses.classification + regularization
        parts = {
            "Loss/classification_loss": losses.classification,
            "Loss/localization_loss": losses.localization,
            "Loss/regularization_loss": regularization,
            "Loss/total_loss": total,
        }
        # The mean over all devices, so that all of them raise where one has no number.
        means = self.trainer.strategy.reduce(torch.stack([*parts.values()]).detach(), reduce_op="mean")
        self._report(dict(zip(parts, torch.as_tensor(means).tolist(), strict=True)))
        return total

    def _targets(self, batch: Batch, anchors_xyxy: Tensor, size_hw: tuple[int, int]) -> list[Targets]:
        match = matcher_of(self.recipe, self.network.anchor_spec, anchors_xyxy, size_hw)
        targets = []
        for boxes, class_ids in zip(batch.boxes_xyxy, batch.class_ids, strict=True):
            counted = class_ids != IGNORE_CLASS
            truths = boxes[counted]
            matches = ignore_anchors(match(truths), anchors_xyxy, boxes[~counted], match)
            targets.append(Targets(matches, truths, class_ids[counted]))
        return targets

    def _report(self, losses: dict[str, float]) -> None:
        if not all(map(math.isfinite, losses.values())):
            shown = ", ".join(f"{name} {value}" for name, value in losses.items())
            lower = self.recipe.learning_rate / 3
            raise TrainingError(
                f"the loss is not a number any more at step {self.global_step} ({shown}); continue from "
                f"last.ckpt (--resume), or start again with a lower rate (--set learning_rate={lower:.2g}), "
                "with gradient clipping (--set clip_norm=10) or in full precision (--set precision=32)"
            )
        rate = self.trainer.optimizers[0].param_groups[-1]["lr"]
        self.last_losses = {**losses, "learning_rate": rate}
        self.log_dict(self.last_losses)
        self.log("loss", losses["Loss/total_loss"], prog_bar=True, logger=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_index: int) -> Any:
        if isinstance(batch, ValidationBatch):  # its placements are no tensors
            return ValidationBatch(batch.images.to(device), batch.placements)
        return super().transfer_batch_to_device(batch, device, dataloader_index)

    # ---- validation --------------------------------------------------------------------------------------

    def validation_step(self, batch: ValidationBatch, batch_index: int) -> None:
        """Collects detections; COCO's numbers need those of all images at once."""
        size_hw = (batch.images.shape[1], batch.images.shape[2])
        encodings, logits = self.network(preprocess(batch.images))
        anchors = self.network.anchors_xyxy(size_hw)
        found = detect(encodings, logits, anchors, size_hw, voting=self.recipe.box_voting)
        self._predictions += to_supervision(found, batch.placements, self.validation_set.class_names)

    def on_validation_epoch_end(self) -> None:
        self.last_predictions, self._predictions = self._of_all_processes(self._predictions), []
        self.last_result = coco_evaluate(self.validation_set, self.last_predictions)
        for name, value in self.last_result.stats.items():
            self.log(COCO_TAGS[name], value, prog_bar=name == "AP", sync_dist=False)

    def _of_all_processes(self, found: list[sv.Detections]) -> list[sv.Detections]:
        """The predictions of the whole set, in its order; each process has those of its batches."""
        processes, count = _process_count(), len(self.validation_set)
        if processes == 1:
            return found
        shares: list[list[sv.Detections]] = [[] for _ in range(processes)]
        dist.all_gather_object(shares, found)
        by_index: dict[int, sv.Detections] = {}
        for rank, share in enumerate(shares):
            indices = [index for batch in validation_batches(count, rank, processes) for index in batch]
            by_index.update(zip(indices, share, strict=True))
        return [by_index[index] for index in range(count)]

    # ---- optimiser ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Kernels decay, biases and norms do not; the backbone has its own learning rate."""
        recipe = self.recipe
        groups: list[dict[str, Any]] = []
        for in_backbone, multiple in ((True, recipe.backbone_lr_mult), (False, 1.0)):
            named = self.network.named_parameters()
            parameters = [value for name, value in named if name.startswith("backbone.") == in_backbone]
            for kernels, decay in ((True, recipe.weight_decay), (False, 0.0)):
                group = [value for value in parameters if (value.ndim > 1) == kernels]
                groups.append({"params": group, "lr": multiple, "weight_decay": decay})
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum)
        else:
            optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(recipe.momentum, 0.999))
        # The `lr` of a group is its multiple of the schedule's rate.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate(self, step: int) -> float:
        """Learning rate of the head at a step."""
        recipe = self.recipe
        return cosine_with_warmup(
            step,
            base=recipe.learning_rate,
            total_steps=recipe.schedule_steps or recipe.steps,
            warmup_rate=recipe.warmup_learning_rate,
            warmup_steps=min(recipe.warmup_steps, recipe.steps // 2),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        names, processes = self.validation_set.class_names, _process_count()
        checkpoint[FORMAT_KEY] = describe(self.recipe, names, self.trained_on, processes)


def _process_count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


@torch.no_grad()
def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Gives each tensor the mean of its values in all processes, by one message."""
    means = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(means)
    means /= dist.get_world_size()
    shares = torch.split(means, [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, shares, strict=True):
        tensor.copy_(mean.view_as(tensor))


def cosine_with_warmup(
    step: int, *, base: float, total_steps: int, warmup_rate: float, warmup_steps: int
) -> float:
    """Cosine decay to zero after a linear warm-up.

    Source: `cosine_decay_with_warmup` of the TF Object Detection API (utils/learning_schedules.py).

    Args:
        step: optimiser steps done before this one, from 0.
        base: rate at the end of the warm-up.
        total_steps: step at which the rate reaches zero.
        warmup_rate: rate at step 0 where there is a warm-up.
        warmup_steps: length of the warm-up; 0 for none.
    """
    if step < warmup_steps:
        return warmup_rate + (base - warmup_rate) * step / warmup_steps
    if step >= total_steps:
        return 0.0
    return 0.5 * base * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
