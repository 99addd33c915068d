"""Checkpoints of our trainings: what they hold, and a detector that runs one in torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwatch.errors import CheckpointError, MaskwatchError, OptionError
from maskwatch.evaluation.candidates import Candidates
from maskwatch.media.images import Placement, ResizeRule, fit
from maskwatch.models import IOU_THRESHOLD
from maskwatch.network import SSD, AnchorSpec, Network, TwoScales, preprocess
from maskwatch.network.boxes import decode
from maskwatch.network.postprocess import TensorDetections, best_pairs, detect
from maskwatch.text import first_line
from maskwatch.training.recipe import Recipe, plain, recipe_of

if TYPE_CHECKING:
    import supervision as sv

FORMAT_KEY = "maskwatch"
_PREFIX = "network."


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what it was trained as."""

    network: SSD
    recipe: Recipe
    class_names: tuple[str, ...]
    step: int
    trained_on: str
    mean_of: int = 1
    """How many checkpoints the weights are the mean of."""


def anchors_of(recipe: Recipe) -> AnchorSpec:
    """The anchors that a recipe asks for."""
    return AnchorSpec(
        anchor_scale=recipe.anchor_scale,
        aspect_ratios=recipe.aspect_ratios,
        scales_per_octave=recipe.scales_per_octave,
    )


def describe(recipe: Recipe, class_names: Sequence[str], trained_on: str) -> dict[str, Any]:
    """What a checkpoint file keeps under `FORMAT_KEY`, beside the weights."""
    return {"recipe": plain(recipe), "class_names": list(class_names), "trained_on": trained_on}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a `.ckpt` of `maskwatch train`; the averaged weights, where the recipe averaged.

    Raises:
        CheckpointError: no such file, damaged, or not written by `maskwatch train`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint such as runs/NAME/best.ckpt")
    try:
        # weights_only: a checkpoint from a stranger must not run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
        own = content[FORMAT_KEY]
        recipe, names = recipe_of(own["recipe"]), tuple(own["class_names"])
        network = SSD(len(names), anchors_of(recipe))
        network.load_state_dict(
            {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
        )
        step, trained_on = int(content["global_step"]), str(own["trained_on"])
    except MaskwatchError:
        raise
    except Exception as error:  # unpickling and what a stranger's file holds raise a dozen kinds
        raise CheckpointError(
            f"{path}: not a checkpoint of this version of maskwatch ({first_line(error)[:120]}); "
            "give one that `maskwatch train` wrote"
        ) from error
    return Checkpoint(network.eval(), recipe, names, step, trained_on)


def load_mean(paths: Sequence[str | Path]) -> Checkpoint:
    """The mean of the weights of several checkpoints of one run, or of runs from the same start.

    Such weights lie in one basin, and their mean is often better than each of them. All else is that of the
    first. The statistics of BatchNorms are averaged too; where the last phase froze them, all have the same.

    Source: the uniform soup of Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned
    models improves accuracy without increasing inference time".

    Raises:
        CheckpointError: as `load_checkpoint`; they differ in classes, anchors or resizing.
    """
    first, *others = [load_checkpoint(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        if _shape(other) != _shape(first):
            raise CheckpointError(
                f"{path}: has other classes, anchors or resizing than {paths[0]}, so that their weights have "
                "no mean; give checkpoints of one run, or of runs from the same start with the same recipe"
            )
    states = [one.network.state_dict() for one in (first, *others)]
    first.network.load_state_dict(
        {
            # Counts of batches are whole numbers, which have no use after training.
            key: torch.stack([state[key] for state in states]).mean(0) if value.is_floating_point() else value
            for key, value in states[0].items()
        }
    )
    return replace(first, mean_of=len(states))


def _shape(checkpoint: Checkpoint) -> tuple[object, ...]:
    return checkpoint.class_names, checkpoint.network.anchor_spec, checkpoint.recipe.resize


class TorchDetector:
    """A network in torch behind the call of `maskwatch.Detector`: pictures in, `sv.Detections` out."""

    def __init__(
        self,
        network: Network,
        class_names: Sequence[str],
        size_hw: tuple[int, int],
        resize: ResizeRule = "letterbox",
        *,
        class_agnostic: bool = True,
        score_threshold: float | Sequence[float] = 1e-8,
        voting: bool = False,
    ) -> None:
        self.network, self.class_names = network.eval(), tuple(class_names)
        self.input_size, self.resize = size_hw, resize
        self.class_agnostic, self.score_threshold, self.voting = class_agnostic, score_threshold, voting

    @classmethod
    def load(
        cls, path: str | Path, size_hw: tuple[int, int] | None = None, *, class_agnostic: bool
    ) -> TorchDetector:
        """From a checkpoint file; as `of`.

        Raises:
            CheckpointError: as `load_checkpoint`.
        """
        return cls.of(load_checkpoint(path), size_hw, class_agnostic=class_agnostic)

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        size_hw: tuple[int, int] | None = None,
        *,
        class_agnostic: bool,
        two_scales: bool = False,
    ) -> TorchDetector:
        """From a checkpoint, at the size it was trained for or another one; with a second look at half of it.

        NMS has no default here: COCO's numbers want it within each class, a face that is shown gets one box
        of all classes, and AP of the one is several hundredths above that of the other.

        Raises:
            OptionError: the network cannot take that size.
        """
        size_hw = size_hw or (checkpoint.recipe.size, checkpoint.recipe.size)
        network = TwoScales(checkpoint.network) if two_scales else checkpoint.network
        if any(side <= 0 or side % network.size_multiple for side in size_hw):
            raise OptionError(
                f"size {size_hw[0]}x{size_hw[1]}: give multiples of {network.size_multiple}, e.g. 640"
            )
        return cls(
            network,
            checkpoint.class_names,
            size_hw,
            checkpoint.recipe.resize,
            class_agnostic=class_agnostic,
            voting=checkpoint.recipe.box_voting,
        )

    def variant(self, *, threshold: Mapping[str, float], class_agnostic: bool | None = None) -> TorchDetector:
        """The same network with other options, as `Detector.variant`; None is one box a face."""
        other = copy.copy(self)
        other.score_threshold = [threshold[name] for name in self.class_names]
        other.class_agnostic = class_agnostic is None or class_agnostic
        return other

    def candidates(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Candidates]:
        """What thresholds and NMS choose from in each picture."""
        encodings, logits, placements = self._run(images)
        anchors = self.network.anchors_xyxy(self.input_size).to(encodings.device)
        boxes_xyxy = decode(encodings.float(), anchors)  # (N, A, 4)
        scores = logits[..., 1:].float().sigmoid()  # (N, A, C)
        return [
            Candidates.of_pairs(best_pairs(*pair), placement, self.input_size, voting=self.voting)
            for *pair, placement in zip(boxes_xyxy, scores, placements, strict=True)
        ]

    def _run(self, images: Sequence[npt.NDArray[np.uint8]]) -> tuple[Tensor, Tensor, list[Placement]]:
        fitted = [fit(image, self.input_size, self.resize) for image in images]
        batch = torch.from_numpy(np.stack([image for image, _ in fitted]))
        with torch.inference_mode():
            encodings, logits = self.network(preprocess(batch))
        return encodings, logits, [placement for _, placement in fitted]

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[sv.Detections]:
        """uint8 RGB pictures (h, w, 3) of any size → detections in their own pixels."""
        encodings, logits, placements = self._run(images)
        return to_supervision(
            postprocess(
                self.network,
                encodings,
                logits,
                self.input_size,
                self.class_agnostic,
                self.voting,
                self.score_threshold,
            ),
            placements,
            self.class_names,
        )


def postprocess(
    network: Network,
    encodings: Tensor,
    logits: Tensor,
    size_hw: tuple[int, int],
    class_agnostic: bool,
    voting: bool,
    score_threshold: float | Sequence[float] = 1e-8,
) -> list[TensorDetections]:
    """Head outputs of one batch → detections in pixels of the network's input."""
    return detect(
        encodings,
        logits,
        network.anchors_xyxy(size_hw).to(encodings.device),
        size_hw,
        score_threshold=score_threshold,
        iou_threshold=IOU_THRESHOLD,
        class_agnostic=class_agnostic,
        voting=voting,
    )


def to_supervision(
    found: Sequence[TensorDetections], placements: Sequence[Placement], class_names: Sequence[str]
) -> list[sv.Detections]:
    """Detections on the canvas → `sv.Detections` in pixels of the original pictures."""
    import supervision as sv

    names = np.array(class_names)
    results = []
    for detections, placement in zip(found, placements, strict=True):
        boxes_xyxy = placement.to_original(detections.boxes_xyxy.cpu().numpy()).reshape(-1, 4)
        real = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(1)  # not in the letterbox's padding alone
        class_ids = detections.class_ids.cpu().numpy()[real]
        results.append(
            sv.Detections(
                xyxy=boxes_xyxy[real],
                confidence=detections.scores.cpu().numpy().astype(np.float32)[real],
                class_id=class_ids,
                data={"class_name": names[class_ids]},
            )
        )
    return results
