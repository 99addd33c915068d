"""What a training writes for TensorBoard, read back from its event files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from drawn_data import draw_faces
from maskwatch.data import DetectionSet, read_data
from maskwatch.training.recipe import Recipe

if TYPE_CHECKING:
    from maskwatch.training.run import TrainOptions

QUICK = {
    "size": 64, "train_sizes": (64,), "batch_size": 2, "steps": 4, "validate_every": 2,
    "bn_update_fraction": 1.0, "frozen_blocks": 0, "ema_decay": 0.5,
}  # fmt: skip


def quiet(**changes: Any) -> TrainOptions:
    from maskwatch.training.run import TrainOptions

    return TrainOptions(devices=1, workers=0, progress=False, **changes)


@pytest.fixture(scope="module")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> DetectionSet:
    folder = tmp_path_factory.mktemp("drawn")
    draw_faces(folder, 10)
    return read_data(folder)


@pytest.fixture(scope="module")
def run(drawn_set: DetectionSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from maskwatch.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "quick"
    train(drawn_set, drawn_set, Recipe(**QUICK), folder, quiet())  # type: ignore[arg-type]
    return folder


def summaries(folder: Path) -> dict[str, dict[int, object]]:
    """Tag → step → summary value, of the event files that lie in a folder itself."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, dict[int, object]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value
    return found


def picture(value: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))  # type: ignore[attr-defined]


def test_losses_rate_and_coco_numbers_have_the_apis_tags(run: Path) -> None:
    from maskwatch.training.module import COCO_TAGS

    found = summaries(run / "tensorboard")
    for tag in ("classification", "localization", "regularization", "total"):
        assert sorted(found[f"Loss/{tag}_loss"]) == [1, 3]  # every second step, counted from 0
    assert "learning_rate" in found
    assert set(COCO_TAGS.values()) == {
        f"DetectionBoxes_{tag}"
        for tag in (
            *("Precision/mAP", "Precision/mAP@.50IOU", "Precision/mAP@.75IOU"),
            *("Precision/mAP (small)", "Precision/mAP (medium)", "Precision/mAP (large)"),
            *("Recall/AR@1", "Recall/AR@10", "Recall/AR@100"),
            *("Recall/AR@100 (small)", "Recall/AR@100 (medium)", "Recall/AR@100 (large)"),
        )
    }
    for tag in COCO_TAGS.values():
        assert len(found[tag]) == 2, tag
    assert "DetectionBoxes_PerformanceByCategory/mAP/mask" in found


def test_pictures_are_written_at_every_validation(run: Path) -> None:
    found = summaries(run / "tensorboard")
    for number in range(8):
        strip = found[f"eval_side_by_side_{number}"]
        assert sorted(strip) == [2, 4]
        assert picture(strip[2]).shape == (128, 2 * 128 + 6, 3)
    assert "eval_side_by_side_8" not in found
    inputs = found["train_input_images"]
    assert sorted(inputs) == [1, 2, 4]
    assert picture(inputs[1]).shape == (320, 2 * 320, 3)
    assert not np.array_equal(picture(inputs[1]), picture(inputs[4]))


def test_curves_hold_counts(run: Path, drawn_set: DetectionSet) -> None:
    found = summaries(run / "tensorboard")
    assert "precision_recall/mask_incorrect" not in found  # there is none in the data
    for name in ("mask", "no_mask"):
        curve = found[f"precision_recall/{name}"][4]
        assert curve.metadata.plugin_data.plugin_name == "pr_curves"  # type: ignore[attr-defined]
        true, wrong, _, missed, precision, recall = curve_values(curve)
        assert (true + missed == drawn_set.class_counts()[name]).all()
        assert (np.diff(true) <= 0).all()
        assert (np.diff(wrong) <= 0).all()
        assert recall == pytest.approx(true / (true + missed))
        assert precision.max() <= 1


def curve_values(value: object) -> np.ndarray:
    from tensorboard.util import tensor_util

    return np.asarray(tensor_util.make_ndarray(value.tensor))  # type: ignore[attr-defined]


def hparams_of(run: Path) -> dict[str, object]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = summaries(run / "tensorboard" / "hparams")
    (start,) = found["_hparams_/session_start_info"].values()
    data = HParamsPluginData.FromString(start.metadata.plugin_data.content)  # type: ignore[attr-defined]
    values = {}
    for key, value in data.session_start_info.hparams.items():
        values[key] = getattr(value, value.WhichOneof("kind"))
    assert {"_hparams_/experiment", "_hparams_/session_end_info", "hparam/AP", "hparam/AP50"} <= set(found)
    return values


def test_the_recipe_stands_beside_the_score_and_a_resumed_run_goes_on(
    run: Path, drawn_set: DetectionSet
) -> None:
    from maskwatch.training.run import train

    before = hparams_of(run)
    assert set(before) == set(Recipe.__dataclass_fields__)
    assert (before["steps"], before["optimizer"], before["train_sizes"]) == (4, "adamw", "[64]")
    longer = Recipe(**(QUICK | {"steps": 6}))  # type: ignore[arg-type]
    train(drawn_set, drawn_set, longer, run, quiet(resume=True))
    assert len(list((run / "tensorboard" / "hparams").glob("events.*"))) == 1
    assert hparams_of(run)["steps"] == 6
    found = summaries(run / "tensorboard")
    assert sorted(found["eval_side_by_side_0"]) == [2, 4, 6]
    assert sorted(found["precision_recall/mask"]) == [2, 4, 6]
    assert sorted(found["train_input_images"]) == [1, 2, 4, 5, 6]


def test_a_hparams_session_is_one_for_tensorboards_own_reader(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard" / "hparams"))
    events.Reload()
    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


# ---- the parts -------------------------------------------------------------------------------------------


def test_the_strip_is_the_same_for_a_seed(drawn_set: DetectionSet) -> None:
    from maskwatch.training.tensorboard import example_indices

    first = example_indices(drawn_set, 1)
    assert first == example_indices(drawn_set, 1)
    assert len(set(first)) == 8
    assert any(example_indices(drawn_set, seed) != first for seed in range(2, 9))
    assert example_indices(drawn_set.subset([0, 1]), 1) == [0, 1]


def test_ground_truth_left_prediction_right(drawn_set: DetectionSet) -> None:
    from maskwatch.training.tensorboard import side_by_side

    nothing = sv.Detections(np.zeros((0, 4)), confidence=np.zeros(0), class_id=np.zeros(0, int))
    bare = side_by_side(drawn_set, 0, nothing)
    original = np.asarray(Image.open(drawn_set.samples[0].image_path).convert("RGB"))
    assert np.array_equal(bare[:, 134:], original)
    assert not np.array_equal(bare[:, :128], original)
    assert (bare[:, 128:134] == 255).all()
    box = np.array([[10.0, 20, 60, 70]])
    for score, visible in ((0.9, True), (0.2, False)):
        found = sv.Detections(box, confidence=np.array([score]), class_id=np.array([0]))
        assert np.array_equal(side_by_side(drawn_set, 0, found)[:, 134:], original) != visible


def test_boxes_are_drawn_where_the_network_got_them() -> None:
    import torch

    from maskwatch.training.batches import Batch
    from maskwatch.training.tensorboard import draw_batch

    images = torch.zeros((2, 64, 64, 3), dtype=torch.uint8)
    batch = Batch(
        images,
        [torch.tensor([[16.0, 32, 48, 60]]), torch.zeros((0, 4))],
        [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)],
    )
    first, second = draw_batch(batch, ("a", "b"))
    assert not second.any()
    rows, columns = np.nonzero(first.any(2))
    # Five times as large; the label may stand above the box, and a dark edge outside of it.
    assert (columns.min(), columns.max()) == (80, 239)
    assert rows.max() == 299


def test_a_curve_by_hand(drawn_set: DetectionSet) -> None:
    from maskwatch.training.tensorboard import write_curve

    sample = drawn_set.samples[0]  # one mask, one no_mask
    boxes = np.concatenate([sample.boxes_xyxy, sample.boxes_xyxy + 60])
    only = drawn_set.subset([0])
    mask = int(sample.class_ids.tolist().index(0))
    scores = np.where(np.arange(4) == mask, 0.75, 0.25).astype(np.float32)
    found = sv.Detections(boxes, confidence=scores, class_id=np.zeros(4, int))

    class Recorder:
        def add_pr_curve_raw(self, tag: str, **values: object) -> None:
            self.tag, self.values = tag, values

    writer = Recorder()
    write_curve(writer, only, [found], 0, "mask", 7)  # type: ignore[arg-type]
    true, wrong = writer.values["true_positive_counts"], writer.values["false_positive_counts"]
    assert isinstance(true, np.ndarray)
    assert isinstance(wrong, np.ndarray)
    assert (writer.tag, writer.values["global_step"]) == ("precision_recall/mask", 7)
    at = {threshold: round(threshold * 126) for threshold in (0.0, 0.5, 0.9)}
    assert [(true[i], wrong[i]) for i in at.values()] == [(1, 3), (1, 0), (0, 0)]
