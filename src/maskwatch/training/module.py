"""The Lightning module: one training step, validation by COCO's numbers, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from maskwatch.data import DetectionSet
from maskwatch.errors import TrainingError
from maskwatch.evaluation.coco import CocoResult, coco_evaluate
from maskwatch.network import SSD, AnchorSpec, preprocess
from maskwatch.network.loss import DetectionLoss, QualityLoss, SSDLoss, Targets, l2_regularization
from maskwatch.network.matching import ignore_anchors, match_atss, match_iou
from maskwatch.training.augment import IGNORE_CLASS
from maskwatch.training.batches import Batch, Fitted
from maskwatch.training.checkpoint import FORMAT_KEY, describe, postprocess, to_supervision
from maskwatch.training.recipe import Recipe
from maskwatch.training.schedule import cosine_with_warmup

if TYPE_CHECKING:
    import supervision as sv

# Tags as the TF Object Detection API writes them, so that old and new curves lie in one TensorBoard.
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
    """Trains an `SSD` after a recipe.

    Args:
        network: starts from its present weights.
        recipe: how.
        validation_set: measured at the end of each epoch, that is every `recipe.validate_every` steps.
        trained_on: description of the training data, kept in checkpoints.
    """

    def __init__(
        self, network: SSD, recipe: Recipe, validation_set: DetectionSet, trained_on: str = ""
    ) -> None:
        super().__init__()
        self.network, self.recipe, self.validation_set = network, recipe, validation_set
        self.trained_on = trained_on
        self.loss: DetectionLoss = SSDLoss() if recipe.loss == "ssd" else QualityLoss()
        self.last_losses: dict[str, float] = {}
        self.last_result: CocoResult | None = None
        self.last_predictions: list[sv.Detections] = []  # of the last validation, in the order of the set
        self._predictions: list[sv.Detections] = []
        backbone = network.backbone
        self._resting = (
            [backbone.stem, *backbone.blocks[: recipe.resting_blocks]] if recipe.resting_blocks else []
        )
        self._norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._norms:
            norm.momentum = recipe.norm_momentum
        self._first_phase = recipe.first_phase > 0

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            self._resting = []  # DDP keeps in step only what it found trainable when it began
        self._rest(self._first_phase)

    def _rest(self, resting: bool) -> None:
        for module in self._resting:
            module.requires_grad_(not resting)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Ends the first phase, also where a training goes on beyond its end."""
        if self._first_phase and self.recipe.first_phase_end <= self.global_step:
            self._first_phase = False
            self._rest(False)
            self.train()

    def train(self, mode: bool = True) -> DetectionModule:
        super().train(mode)
        for module in self._resting if self._first_phase else self._norms:
            module.eval()  # BatchNorms in it keep their statistics
        return self

    # ---- a step ------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Losses of one batch; logged under the API's tags."""
        size_hw = (batch.images.shape[1], batch.images.shape[2])
        images = preprocess(batch.images).contiguous(memory_format=torch.channels_last)
        encodings, logits = self.network(images)
        anchors = self.network.anchors_xyxy(size_hw).to(images.device)
        losses = self.loss(encodings.float(), logits.float(), anchors, self._targets(batch, anchors, size_hw))
        regularization = torch.zeros((), device=images.device)
        if self.recipe.l2:
            regularization = l2_regularization(self.network, self.recipe.l2)
        total = losses.localization + losses.classification + regularization
        self._report(losses.localization, losses.classification, regularization, total)
        return total

    def _targets(self, batch: Batch, anchors_xyxy: Tensor, size_hw: tuple[int, int]) -> list[Targets]:
        match = matcher_of(self.recipe, self.network.anchor_spec, anchors_xyxy, size_hw)
        targets = []
        for boxes, class_ids in zip(batch.boxes_xyxy, batch.class_ids, strict=True):
            truths, regions = boxes[class_ids != IGNORE_CLASS], boxes[class_ids == IGNORE_CLASS]
            matches = ignore_anchors(match(truths), anchors_xyxy, regions, match)
            targets.append(Targets(matches, truths, class_ids[class_ids != IGNORE_CLASS]))
        return targets

    def _report(
        self, localization: Tensor, classification: Tensor, regularization: Tensor, total: Tensor
    ) -> None:
        parts = {
            "Loss/classification_loss": classification,
            "Loss/localization_loss": localization,
            "Loss/regularization_loss": regularization,
            "Loss/total_loss": total,
        }
        values = {name: float(value.detach()) for name, value in parts.items()}
        if not all(torch.isfinite(torch.tensor(list(values.values())))):
            shown = ", ".join(f"{name} {value}" for name, value in values.items())
            lower = self.recipe.learning_rate / 3
            raise TrainingError(
                f"the loss is not a number any more at step {self.global_step} ({shown}); go on from "
                f"last.ckpt (--resume), or start anew with a lower rate (--set learning_rate={lower:.2g}), "
                "with gradient clipping (--set clip_norm=10) or in full precision (--set precision=32)"
            )
        values["learning_rate"] = self.trainer.optimizers[0].param_groups[-1]["lr"]
        self.last_losses = values
        self.log_dict(values)
        self.log("loss", values["Loss/total_loss"], prog_bar=True, logger=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_index: int) -> Any:
        if isinstance(batch, Fitted):  # its placements are no tensors
            return Fitted(batch.images.to(device), batch.placements)
        return super().transfer_batch_to_device(batch, device, dataloader_index)

    # ---- validation --------------------------------------------------------------------------------------

    def validation_step(self, batch: Fitted, batch_index: int) -> None:
        """Collects detections; COCO's numbers need all of them at once."""
        size_hw = (batch.images.shape[1], batch.images.shape[2])
        encodings, logits = self.network(preprocess(batch.images))
        found = postprocess(
            self.network, encodings, logits, size_hw, class_agnostic=False, voting=self.recipe.box_voting
        )
        self._predictions += to_supervision(found, batch.placements, self.validation_set.class_names)

    def on_validation_epoch_end(self) -> None:
        self.last_predictions, self._predictions = self._predictions, []
        self.last_result = coco_evaluate(self.validation_set, self.last_predictions)
        for name, value in self.last_result.stats.items():
            self.log(COCO_TAGS[name], value, prog_bar=name == "AP", sync_dist=False)

    # ---- optimiser ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Kernels decay, biases and norms do not; the backbone has its own rate."""
        recipe = self.recipe
        groups = []
        for prefix, share in (("backbone.", recipe.backbone_rate), ("", 1.0)):
            named = [
                (n, p)
                for n, p in self.network.named_parameters()
                if n.startswith("backbone.") == bool(prefix)
            ]
            kernels = [p for _, p in named if p.ndim > 1]
            rest = [p for _, p in named if p.ndim <= 1]
            groups += [
                {"params": kernels, "lr": share, "weight_decay": recipe.weight_decay},
                {"params": rest, "lr": share, "weight_decay": 0.0},
            ]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum)
        else:
            optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(recipe.momentum, 0.999))
        # The groups' own rate is their share; the schedule gives the rate itself.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate(self, step: int) -> float:
        """Rate of the head at a step."""
        recipe = self.recipe
        return cosine_with_warmup(
            step,
            base=recipe.learning_rate,
            total_steps=recipe.schedule_steps or recipe.steps,
            warmup_rate=recipe.warmup_rate,
            warmup_steps=min(recipe.warmup_steps, recipe.steps // 2),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        names = self.validation_set.class_names
        checkpoint[FORMAT_KEY] = describe(self.recipe, names, self.trained_on)
