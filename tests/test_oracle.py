"""Number by number against what the TF Object Detection API computed; see ../shared/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

    from maskwatch.network import SSD
    from maskwatch.network.loss import Losses, Targets


SIZE = (640, 640)
YXYX = [1, 0, 3, 2]  # xyxy ↔ yxyx

Oracle = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Oracle:
    with np.load(shared / "oracle" / "oracle.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(shared: Path) -> SSD:
    from maskwatch.training.start import load_zoo

    pytest.importorskip("tensorflow", reason="the oracle's checkpoint is read with TensorFlow ([tf])")
    return load_zoo(shared / "oracle")


@pytest.fixture(scope="module")
def outputs(network: SSD, oracle: Oracle) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    from maskwatch.network import preprocess

    with torch.inference_mode():
        return network(preprocess(torch.from_numpy(oracle["image"])[None]))


@pytest.fixture(scope="module")
def targets(network: SSD, oracle: Oracle) -> Targets:
    import torch

    from maskwatch.network.loss import Targets
    from maskwatch.network.matching import match_iou

    boxes_xyxy = torch.from_numpy(oracle["gt_boxes_yxyx"][:, YXYX]).float() * 640
    matches = match_iou(network.anchors_xyxy(SIZE), boxes_xyxy, SIZE)
    return Targets(matches, boxes_xyxy, torch.from_numpy(oracle["gt_classes"]).long())


def test_preprocessing(oracle: Oracle) -> None:
    import torch

    from maskwatch.network import preprocess

    patch = preprocess(torch.from_numpy(oracle["image"])[None])[0, :, :32, :32].permute(1, 2, 0)
    np.testing.assert_allclose(patch, oracle["preprocessed_patch"], atol=1e-6)


def test_anchors(network: SSD, oracle: Oracle) -> None:
    normalised = network.anchors_xyxy(SIZE).numpy()[:, YXYX] / 640
    np.testing.assert_allclose(normalised, oracle["anchors"], atol=1e-6)


def test_pyramid_levels(network: SSD, oracle: Oracle) -> None:
    import torch

    from maskwatch.network import preprocess

    with torch.inference_mode():
        levels = network.fpn(network.backbone(preprocess(torch.from_numpy(oracle["image"])[None])))
    for number, level in enumerate(levels, start=3):
        measured = [float(level.mean()), float(level.std(correction=0))]
        np.testing.assert_allclose(measured, oracle[f"p{number}_mean_std"], atol=1e-4)


def test_head_outputs(outputs: tuple[torch.Tensor, torch.Tensor], oracle: Oracle) -> None:
    encodings, logits = (output[0].numpy()[oracle["sample_idx"]] for output in outputs)
    np.testing.assert_allclose(encodings, oracle["box_encodings"], atol=1e-3)
    np.testing.assert_allclose(logits, oracle["class_logits"], atol=1e-3)


def test_matches(targets: Targets, oracle: Oracle) -> None:
    np.testing.assert_array_equal(targets.matches, oracle["match"])


def test_regression_targets(network: SSD, targets: Targets, oracle: Oracle) -> None:
    from maskwatch.network.boxes import decode, encode

    matched = targets.matches >= 0
    codes = encode(targets.boxes_xyxy[targets.matches[matched]], network.anchors_xyxy(SIZE)[matched])
    np.testing.assert_allclose(codes, oracle["reg_targets_matched"], atol=1e-4)
    back = decode(codes, network.anchors_xyxy(SIZE)[matched])
    np.testing.assert_allclose(back, targets.boxes_xyxy[targets.matches[matched]], atol=1e-2)


def test_losses(
    network: SSD, outputs: tuple[torch.Tensor, torch.Tensor], targets: Targets, oracle: Oracle
) -> None:
    from maskwatch.network.loss import l2_regularization, ssd_loss

    losses: Losses = ssd_loss(*outputs, network.anchors_xyxy(SIZE), [targets])
    regularization = l2_regularization(network, 4e-5).detach()
    assert float(losses.localization) == pytest.approx(float(oracle["Loss_localization_loss"]), rel=1e-4)
    assert float(losses.classification) == pytest.approx(float(oracle["Loss_classification_loss"]), rel=1e-4)
    assert float(regularization) == pytest.approx(float(oracle["Loss_regularization_loss"]), rel=1e-4)


def test_learning_rates(oracle: Oracle) -> None:
    from maskwatch.training.module import cosine_with_warmup

    rates = [
        cosine_with_warmup(int(step), base=0.08, total_steps=50_000, warmup_rate=0.026666, warmup_steps=1000)
        for step in oracle["lr_steps"]
    ]
    np.testing.assert_allclose(rates, oracle["lr_50k"], atol=1e-7)
    assert rates[list(oracle["lr_steps"]).index(8000)] == pytest.approx(0.0760388, abs=1e-7)


def test_detections(network: SSD, outputs: tuple[torch.Tensor, torch.Tensor], oracle: Oracle) -> None:
    from maskwatch.network.postprocess import detect

    (found,) = detect(*outputs, network.anchors_xyxy(SIZE), SIZE)
    assert len(found.scores) == int(oracle["num_detections"]) == 100
    np.testing.assert_allclose(found.scores, oracle["detection_scores"], atol=1e-4)
    boxes = found.boxes_xyxy.numpy()[:, YXYX] / 640
    taken: set[int] = set()
    for box, score, label in zip(boxes, found.scores.numpy(), found.class_ids.numpy(), strict=True):
        same = (
            (np.abs(oracle["detection_boxes"] - box).max(1) < 1e-4)
            & (np.abs(oracle["detection_scores"] - score) < 1e-4)
            & (oracle["detection_classes"] == label)
        )
        free = [int(row) for row in np.flatnonzero(same) if int(row) not in taken]
        assert free, f"the API has no detection {label} {score} {box}"
        taken.add(free[0])
