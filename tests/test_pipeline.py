"""`pipeline.config` of the TF Object Detection API → a recipe, and `maskwatch train --pipeline-config`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn_data import draw_faces
from maskwatch.cli.app import main
from maskwatch.errors import DataError, RecipeError
from maskwatch.models import MAX_DETECTIONS
from maskwatch.tf_compat.label_map import write_label_map
from maskwatch.tf_compat.pipeline import Pipeline, read_pipeline
from maskwatch.tf_compat.pipeline_fields import ARCHITECTURE, SAME
from maskwatch.training.augment import augment_ssd
from maskwatch.training.crops import TrainingSample
from maskwatch.training.recipe import Recipe, load_recipe, parse_settings, plain, recipe_of

# What the zoo ships for ssd_mobilenet_v2_fpnlite, shortened to what differs from the API's own defaults.
CONFIG = """
model { ssd {
  num_classes: 2
  image_resizer { fixed_shape_resizer { height: 320 width: 320 } }
  feature_extractor {
    type: "ssd_mobilenet_v2_fpn_keras"
    use_depthwise: true
    override_base_feature_extractor_hyperparams: true
    fpn { additional_layer_depth: 128 }
    conv_hyperparams {
      activation: RELU_6
      regularizer { l2_regularizer { weight: 4e-05 } }
      batch_norm { decay: 0.997 scale: true }
    }
  }
  matcher { argmax_matcher { force_match_for_each_row: true } }
  box_predictor { weight_shared_convolutional_box_predictor {
    depth: 128 num_layers_before_predictor: 4 share_prediction_tower: true use_depthwise: true
    class_prediction_bias_init: -4.6
    conv_hyperparams {
      activation: RELU_6
      regularizer { l2_regularizer { weight: 4e-05 } }
      batch_norm { decay: 0.997 scale: true }
    }
  } }
  anchor_generator { multiscale_anchor_generator {
    aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5
  } }
  post_processing {
    batch_non_max_suppression { score_threshold: 1e-08 }
    score_converter: SIGMOID
  }
  normalize_loc_loss_by_codesize: true
  encode_background_as_zeros: true
} }
train_config {
  batch_size: 16
  data_augmentation_options { random_horizontal_flip { } }
  data_augmentation_options { random_crop_image {
    min_object_covered: 0.0 min_aspect_ratio: 0.75 max_aspect_ratio: 3.0 min_area: 0.75 overlap_thresh: 0.0
  } }
  optimizer {
    momentum_optimizer {
      learning_rate { cosine_decay_learning_rate {
        learning_rate_base: 0.04 total_steps: 3000 warmup_learning_rate: 0.013 warmup_steps: 300
      } }
      momentum_optimizer_value: 0.85
    }
    use_moving_average: false
  }
  num_steps: 2500
  fine_tune_checkpoint_version: V2
}
train_input_reader { label_map_path: "label_map.pbtxt" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.config"
    path.write_text(CONFIG)
    write_label_map(tmp_path / "label_map.pbtxt", {2: "with_mask", 1: "without_mask"})
    return path


def read(path: Path, settings: Sequence[str] = (), **options: Any) -> Pipeline:
    return read_pipeline(path, plain(load_recipe("seed")), parse_settings(settings), **options)


def recipe_in(path: Path, settings: Sequence[str] = ()) -> Recipe:
    return recipe_of(read(path, settings).settings)


def edit(path: Path, *changes: tuple[str, str]) -> Path:
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_what_the_recipe_can_say_it_says(config: Path) -> None:
    pipeline = read(config)
    assert pipeline.messages == ()
    assert pipeline.class_names == ("without_mask", "with_mask")
    assert pipeline.start is None
    assert recipe_of(pipeline.settings) == replace(
        load_recipe("seed"),
        name="pipeline", size=320, train_sizes=(320,), batch_size=16, learning_rate=0.04,
        warmup_learning_rate=0.013, warmup_steps=300, schedule_steps=3000, steps=2500, momentum=0.85,
    )  # fmt: skip


def test_the_zoos_own_file(shared: Path, tmp_path: Path) -> None:
    path = shared / "weights" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8" / "pipeline.config"
    pipeline = read(path, ["steps=100"], start="maskwatch-640")
    assert recipe_of(pipeline.settings) == replace(
        load_recipe("seed"),
        name="pipeline", size=320, train_sizes=(320,), batch_size=128, steps=100, validate_every=1000,
    )  # fmt: skip
    assert (pipeline.start, pipeline.class_names) == ("maskwatch-640", None)
    assert [note.split(": ")[0] for note in pipeline.messages] == [
        "train_input_reader.label_map_path",
        "train_config.fine_tune_checkpoint",
        "train_input_reader.tf_record_input_reader.input_path",
        "eval_input_reader.tf_record_input_reader.input_path",
        "train_config.max_number_of_boxes",
    ]


def test_settings_win(config: Path) -> None:
    recipe = recipe_in(config, ["size=64", "batch_size=2", "augment=none"])
    assert (recipe.size, recipe.train_sizes, recipe.batch_size, recipe.augment) == (64, (64,), 2, "none")
    assert recipe_in(config, ["size=64", "train_sizes=[96]"]).train_sizes == (96,)


FIXED = "fixed_shape_resizer { height: 320 width: 320 }"
KEEPING = "keep_aspect_ratio_resizer { min_dimension: 512 max_dimension: 512 pad_to_max_dimension: true }"
FLIP = "data_augmentation_options { random_horizontal_flip { } }"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (FIXED, KEEPING, {"size": 512, "resize": "letterbox"}),
        (FLIP, "", {"augment": "crop"}),
        ("aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5",
         "aspect_ratios: [1, 1.5] anchor_scale: 3",
         {"aspect_ratios": (1.0, 1.5), "anchor_scale": 3.0}),
        ("use_moving_average: false", "moving_average_decay: 0.99", {"ema_decay": 0.99}),
        ("num_steps: 2500", "num_steps: 300 use_bfloat16: true",
         {"steps": 300, "validate_every": 300, "precision": "bf16"}),
        ("num_steps", "gradient_clipping_by_norm: 10.0 num_steps", {"clip_norm": 10.0}),
        ("encode_background", "freeze_batchnorm: true encode_background", {"bn_update_fraction": 0.0}),
        ("decay: 0.997", "decay: 0.99", {"bn_momentum": 0.01}),
        ("weight: 4e-05", "weight: 1e-4", {"l2": 1e-4}),
        ("learning_rate_base: 0.04 total_steps: 3000", "",
         {"learning_rate": 0.002, "schedule_steps": 4000000}),
    ],
)  # fmt: skip
def test_each_field_is_carried_over(config: Path, old: str, new: str, expected: dict[str, object]) -> None:
    recipe = recipe_in(edit(config, (old, new)))
    assert {key: getattr(recipe, key) for key in expected} == expected


def test_adam(config: Path) -> None:
    edit(config, ("momentum_optimizer {", "adam_optimizer {"), ("momentum_optimizer_value: 0.85", ""))
    pipeline, recipe = read(config), recipe_in(config)
    assert (recipe.optimizer, recipe.learning_rate) == ("adamw", 0.04)
    assert recipe.weight_decay == 0
    assert pipeline.messages == ()


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("min_area: 0.75", "min_area: 0.5",
         "train_config.data_augmentation_options.random_crop_image.min_area: 0.5 is not honoured; "
         "crops here take 0.75"),
        ("random_horizontal_flip { }", "random_adjust_hue { max_delta: 0.1 }",
         "train_config.data_augmentation_options.random_adjust_hue.max_delta: 0.1 is not honoured; "
         "there is nothing like it here"),
        ("random_horizontal_flip { }", "random_rgb_to_gray { }",
         "train_config.data_augmentation_options.random_rgb_to_gray: there is nothing like it here"),
        ("score_converter: SIGMOID", "score_converter: SOFTMAX",
         "model.ssd.post_processing.score_converter: 'SOFTMAX' is not honoured; it is 'SIGMOID' here"),
        ("score_threshold: 1e-08", "score_threshold: 1e-08 max_total_detections: 300",
         "model.ssd.post_processing.batch_non_max_suppression.max_total_detections: 300 is not honoured; "
         "it is 100 here"),
        ("force_match_for_each_row: true", "matched_threshold: 0.5",
         "model.ssd.matcher.argmax_matcher.force_match_for_each_row: False (the API's default) is not "
         "honoured; it is True here"),
        ("num_classes: 2", "num_classes: 90",
         "model.ssd.num_classes: 90 is not honoured; the label map has 2 classes"),
        ("label_map.pbtxt", "nowhere.pbtxt",
         "train_input_reader.label_map_path: 'nowhere.pbtxt' is not honoured; there is no such file, so that "
         "--classes, or else the mask classes, count"),
        ("cosine_decay_learning_rate", "manual_step_learning_rate",
         "train_config.optimizer.momentum_optimizer.learning_rate is not honoured; the rate falls to 0 by a "
         "cosine"),
        (KEEPING.replace("512 max", "320 max"), "",
         "model.ssd.image_resizer.keep_aspect_ratio_resizer.min_dimension: 320 is not honoured; the longer "
         "side becomes 512, the rest is padded"),
        ('label_map_path: "label_map.pbtxt"',
         'label_map_path: "label_map.pbtxt" tf_record_input_reader { input_path: "train.record" }',
         "train_input_reader.tf_record_input_reader.input_path: 'train.record' is not read; the data "
         "sets of the command line count, which maskwatch data convert --to voc makes of TFRecord"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_has_a_line(config: Path, old: str, new: str, note: str) -> None:
    edit(config, (FIXED, old) if not new else (old, new))
    assert note in read(config).messages


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model { ssd {", "model { faster_rcnn {", "its model is faster_rcnn; only ssd"),
        (
            "ssd_mobilenet_v2_fpn_keras",
            "ssd_resnet50_v1_fpn_keras",
            "type is 'ssd_resnet50_v1_fpn_keras', the",
        ),
        (
            "use_depthwise: true\n    override",
            "override",
            "use_depthwise is False, the network here has True",
        ),
        ("multiscale_anchor_generator {", "ssd_anchor_generator {", "multiscale_anchor_generator is missing"),
        ("height: 320", "height: 300", "input of 300x320 is not square; use --set size=320"),
        ("height: 320 width: 320", "height: 300 width: 300", "size = 300 must be a multiple of 32"),
        ("batch_size: 16", "batch_size: 'many'", "train_config.batch_size: 'many' is no int; correct it"),
        ("batch_size: 16", "batch_size 16", "line 37: '16' where a colon should be; give a pipeline.config"),
        ("num_steps", 'fine_tune_checkpoint: "nowhere/ckpt-0" num_steps', "'nowhere/ckpt-0': no checkpoint"),
        (FIXED, "identity_resizer { }", "neither fixed_shape_resizer nor keep_aspect_ratio_resizer"),
    ],
)
def test_what_cannot_be_trained_is_an_error(config: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        recipe_in(edit(config, (old, new)))
    assert message in str(raised.value)


def test_files_that_are_none(config: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read(tmp_path / "nowhere.config")
    (tmp_path / "label_map.pbtxt").write_text("item { id: 0 name: 'mask' }")
    with pytest.raises(DataError, match="has the id 0"):
        read(config)
    assert read(config, named_classes=True).class_names is None


def test_the_checkpoint_is_found_beside_the_file(config: Path, tmp_path: Path) -> None:
    edit(
        config,
        ("num_steps", 'fine_tune_checkpoint: "zoo/ckpt-0" fine_tune_checkpoint_type: "full" num_steps'),
    )
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "ckpt-0.index").write_bytes(b"")
    pipeline = read(config)
    assert pipeline.start == str(tmp_path / "zoo" / "ckpt-0")
    assert "fine_tune_checkpoint_type: 'full' is not honoured" in pipeline.messages[0]
    other = read(config, start="maskwatch-640")
    assert other.start == "maskwatch-640"
    assert "--start maskwatch-640 goes before it" in other.messages[0]
    assert read(config, resume=True).start is None


def test_the_tables_hold_the_values_of_the_network() -> None:
    """The layers keep the tables from importing them."""
    from maskwatch.network import AnchorSpec
    from maskwatch.network.boxes import CENTRE_SCALE, SIZE_SCALE
    from maskwatch.network.layers import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM
    from maskwatch.network.ssd import CLASS_BIAS_INIT, FPN_CHANNELS, TOWER_DEPTH

    ours = {name.removeprefix("model.ssd."): value for name, value, _ in (*ARCHITECTURE, *SAME)}
    anchors, coder = "anchor_generator.multiscale_anchor_generator.", "box_coder.faster_rcnn_box_coder."
    nms = "post_processing.batch_non_max_suppression."
    predictor = "box_predictor.weight_shared_convolutional_box_predictor."
    levels = AnchorSpec().levels
    assert (ours[anchors + "min_level"], ours[anchors + "max_level"]) == (levels[0], levels[-1])
    assert ours[coder + "y_scale"] == ours[coder + "x_scale"] == CENTRE_SCALE
    assert ours[coder + "height_scale"] == ours[coder + "width_scale"] == SIZE_SCALE
    assert ours[nms + "max_detections_per_class"] == ours[nms + "max_total_detections"] == MAX_DETECTIONS
    assert ours["feature_extractor.fpn.additional_layer_depth"] == ours[predictor + "depth"] == FPN_CHANNELS
    assert ours[predictor + "num_layers_before_predictor"] == TOWER_DEPTH
    assert ours[predictor + "class_prediction_bias_init"] == CLASS_BIAS_INIT
    assert ours[predictor + "conv_hyperparams.batch_norm.epsilon"] == BATCH_NORM_EPSILON
    assert ours[predictor + "conv_hyperparams.batch_norm.decay"] == 1 - BATCH_NORM_MOMENTUM


# ---- samples ---------------------------------------------------------------------------------------------


def test_samples_without_flip_or_crop() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    sample = TrainingSample(image, np.array([[8, 8, 24, 32]], np.float32), np.array([1]))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        squashed = augment_ssd(sample, 80, rng, flips=False, crops=False)
        assert squashed.boxes_xyxy.tolist() == [[8, 16, 24, 64]]
        boxed = augment_ssd(sample, 80, rng, "letterbox", flips=False, crops=False)
        assert boxed.boxes_xyxy.tolist() == [[8, 8, 24, 32]]
        assert np.array_equal(boxed.image[:40], image)
    flipped = {
        tuple(augment_ssd(sample, 80, np.random.default_rng(seed), crops=False).boxes_xyxy[0])
        for seed in range(9)
    }
    assert flipped == {(8, 16, 24, 64), (56, 16, 72, 64)}


# ---- the command -----------------------------------------------------------------------------------------

SHORT = [
    *("--set", "steps=2", "--set", "validate_every=2", "--set", "size=64", "--set", "batch_size=2"),
    *("--workers", "0", "--devices", "1"),
]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_trains_as_the_file_says(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from maskwatch.training.checkpoint import load_checkpoint

    draw_faces(tmp_path / "data", 4)
    edit(config, ("min_area: 0.75", "min_area: 0.5"))
    out = tmp_path / "run"
    assert run("train", tmp_path / "data", "--pipeline-config", config, "--out", out, *SHORT) == 0
    err = capsys.readouterr().err
    assert "random_crop_image.min_area: 0.5 is not honoured" in err
    assert "training: 3 pictures (3 without_mask, 3 with_mask)" in err  # the fourth is held out
    last = load_checkpoint(out / "last.ckpt")
    assert last.class_names == ("without_mask", "with_mask")
    assert (last.recipe.name, last.recipe.momentum, last.recipe.size) == ("pipeline", 0.85, 64)


def test_folders_that_the_file_names(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_faces(tmp_path / "mine", 3)
    edit(
        config, ("train_input_reader {", 'train_input_reader { tf_record_input_reader { input_path: "mine" }')
    )
    config.write_text(
        config.read_text() + 'eval_input_reader { tf_record_input_reader { input_path: "mine" } }'
    )
    out = tmp_path / "run"
    assert run("train", "--pipeline-config", config, "--out", out, *SHORT) == 0
    err = capsys.readouterr().err
    assert "training: 3 pictures" in err
    assert "validation: 3 pictures" in err


def test_mistakes_end_in_one_message(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in (
        (["--pipeline-config", config], "names no folder to train on; name one"),
        ([], "no data set given; name a folder"),
        ([tmp_path, "--recipe", "seed", "--pipeline-config", config], "both say how to train; leave one out"),
    ):
        assert run("train", *options, "--out", tmp_path / "run") == 2
        err = capsys.readouterr().err
        assert message in err
        assert "Traceback" not in err
