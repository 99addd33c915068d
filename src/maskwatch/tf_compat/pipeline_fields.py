"""Fields of `pipeline.config`: how they are looked up, and those that no setting here can change.

Each row of the tables is (field, its value here, the API's default where a file leaves it out). The values
are those of `maskwatch.network` and `maskwatch.training`, which come later in the layers;
tests/test_pipeline.py compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from maskwatch.errors import RecipeError
from maskwatch.models import IOU_THRESHOLD
from maskwatch.text import as_float
from maskwatch.tf_compat import textproto

Row: TypeAlias = tuple[str, Any, Any]
_T = TypeVar("_T", bool, int, float, str)

_PREDICTOR = "box_predictor.weight_shared_convolutional_box_predictor."
_ANCHORS = "anchor_generator.multiscale_anchor_generator."

ARCHITECTURE: tuple[Row, ...] = (
    ("feature_extractor.type", "ssd_mobilenet_v2_fpn_keras", ""),
    ("feature_extractor.depth_multiplier", 1.0, 1.0),
    ("feature_extractor.use_depthwise", True, False),
    ("feature_extractor.fpn.min_level", 3, 3),
    ("feature_extractor.fpn.max_level", 7, 7),
    ("feature_extractor.fpn.additional_layer_depth", 128, 256),
    ("feature_extractor.conv_hyperparams.activation", "RELU_6", "RELU"),
    (_PREDICTOR + "depth", 128, 0),
    (_PREDICTOR + "num_layers_before_predictor", 4, 0),
    (_PREDICTOR + "kernel_size", 3, 3),
    (_PREDICTOR + "share_prediction_tower", True, False),
    (_PREDICTOR + "use_depthwise", True, False),
    (_PREDICTOR + "conv_hyperparams.activation", "RELU_6", "RELU"),
    (_ANCHORS + "min_level", 3, 3),
    (_ANCHORS + "max_level", 7, 7),
    ("box_coder.faster_rcnn_box_coder.y_scale", 10.0, 10.0),
    ("box_coder.faster_rcnn_box_coder.x_scale", 10.0, 10.0),
    ("box_coder.faster_rcnn_box_coder.height_scale", 5.0, 5.0),
    ("box_coder.faster_rcnn_box_coder.width_scale", 5.0, 5.0),
)
"""Fields of model.ssd; with any other value the weights mean something else."""

_MATCHER = "model.ssd.matcher.argmax_matcher."
_NMS = "model.ssd.post_processing.batch_non_max_suppression."
_LOSS = "model.ssd.loss."
_NORM = "conv_hyperparams.batch_norm."

SAME: tuple[Row, ...] = (
    (f"model.ssd.feature_extractor.{_NORM}scale", True, False),
    (f"model.ssd.feature_extractor.{_NORM}epsilon", 0.001, 0.001),
    (f"model.ssd.{_PREDICTOR}{_NORM}scale", True, False),
    (f"model.ssd.{_PREDICTOR}{_NORM}epsilon", 0.001, 0.001),
    (f"model.ssd.{_PREDICTOR}{_NORM}decay", 0.997, 0.999),
    (f"model.ssd.{_PREDICTOR}class_prediction_bias_init", -4.6, 0.0),
    ("model.ssd.feature_extractor.override_base_feature_extractor_hyperparams", True, False),
    (_MATCHER + "matched_threshold", 0.5, 0.5),
    (_MATCHER + "unmatched_threshold", 0.5, 0.5),
    (_MATCHER + "ignore_thresholds", False, False),
    (_MATCHER + "negatives_lower_than_unmatched", True, True),
    (_MATCHER + "force_match_for_each_row", True, False),
    (_NMS + "score_threshold", 1e-8, 0.0),
    (_NMS + "iou_threshold", IOU_THRESHOLD, 0.6),
    (_NMS + "max_detections_per_class", 100, 100),
    (_NMS + "max_total_detections", 100, 100),
    ("model.ssd.post_processing.score_converter", "SIGMOID", "IDENTITY"),
    ("model.ssd.normalize_loss_by_num_matches", True, True),
    ("model.ssd.normalize_loc_loss_by_codesize", True, False),
    ("model.ssd.encode_background_as_zeros", True, False),
    (_LOSS + "classification_loss.weighted_sigmoid_focal.gamma", 2.0, 2.0),
    (_LOSS + "classification_loss.weighted_sigmoid_focal.alpha", 0.25, 0.25),
    (_LOSS + "classification_weight", 1.0, 1.0),
    (_LOSS + "localization_weight", 1.0, 1.0),
    (_LOSS + "localization_loss.weighted_smooth_l1.delta", 1.0, 1.0),
    ("train_config.fine_tune_checkpoint_version", "V2", "V1"),
    ("eval_config.metrics_set", "coco_detection_metrics", "coco_detection_metrics"),
)
"""Fields that are the same for every training here."""

CROP: tuple[Row, ...] = (
    ("min_object_covered", 0.0, 1.0),
    ("min_aspect_ratio", 0.75, 0.75),
    ("max_aspect_ratio", 3.0, 1.33),
    ("min_area", 0.75, 0.1),
    ("max_area", 1.0, 1.0),
    ("overlap_thresh", 0.0, 0.3),
    ("clip_boxes", True, True),
    ("random_coef", 0.0, 0.0),
)
"""Of random_crop_image; see `maskwatch.training.crops.ssd_crop`."""

IGNORED = (
    "model.ssd.num_classes",
    "model.ssd.feature_extractor.min_depth",
    "model.ssd.feature_extractor.conv_hyperparams.initializer",
    f"model.ssd.{_PREDICTOR}conv_hyperparams.initializer",
    "model.ssd.matcher.argmax_matcher.use_matmul_gather",
    "model.ssd.similarity_calculator.iou_similarity",
    "model.ssd.loss.localization_loss.weighted_smooth_l1",
    "model.ssd.inplace_batchnorm_update",
    f"{_ANCHORS}normalize_coordinates",
    "train_config.sync_replicas",
    "train_config.startup_delay_steps",
    "train_config.replicas_to_aggregate",
    "train_config.unpad_groundtruth_tensors",
    "train_config.fine_tune_checkpoint_type",
    "train_input_reader.label_map_path",
    "train_input_reader.shuffle",
    "train_input_reader.num_epochs",
    "eval_config",
    "eval_input_reader",
)
"""Prefixes of fields that do not change what a training here computes, or that `pipeline.py` reads."""


class Fields:
    """The fields of a file by their dotted names. Remembers which of them were read."""

    def __init__(self, path: Path, message: textproto.Message) -> None:
        self.path = path
        self.messages: list[str] = []
        self.values: dict[str, list[textproto.Value]] = {}
        self._read: set[str] = set()
        self._flatten(message, "")

    def _flatten(self, message: textproto.Message, prefix: str) -> None:
        for name, values in message.items():
            for value in values:
                if isinstance(value, dict) and value:
                    self._flatten(value, f"{prefix}{name}.")
                else:  # the presence of an empty message matters as well
                    own = [] if isinstance(value, dict) else [value]
                    self.values.setdefault(prefix + name, []).extend(own)

    def has(self, name: str) -> bool:
        """Whether the file has a field or a message."""
        return any(known == name or known.startswith(f"{name}.") for known in self.values)

    def use(self, name: str) -> bool:
        """As `has`, for a field or a message of which only the presence counts; marks all of it as read."""
        used = {known for known in self.values if known == name or known.startswith(f"{name}.")}
        self._read |= used
        return bool(used)

    def all(self, name: str, kind: type[_T]) -> list[_T]:
        """Values of a repeated field; raises RecipeError for one of another kind."""
        self._read.add(name)
        return [self._as(name, value, kind) for value in self.values.get(name, [])]

    def get(self, name: str, default: _T) -> _T:
        """The last value of a field, or its default; raises RecipeError for a value of another kind."""
        return (self.all(name, type(default)) or [default])[-1]

    def _as(self, name: str, value: textproto.Value, kind: type[_T]) -> _T:
        plain: Any = value.name if isinstance(value, textproto.Word) else value
        if kind is float and type(plain) is int:
            plain = as_float(plain)
        if not isinstance(plain, kind) or type(plain) is not kind:
            raise RecipeError(f"{self.path}: {name}: {plain!r} is no {kind.__name__}; correct it")
        return plain

    def note(self, name: str, instead: str) -> None:
        shown = ", ".join(_shown(value) for value in self.values.get(name, []))
        self.messages.append(f"{name}: {shown} is not honoured; {instead}" if shown else f"{name}: {instead}")

    def unread(self) -> list[str]:
        """Names of the fields that were not read."""
        return [name for name in self.values if name not in self._read]


def _shown(value: textproto.Value) -> str:
    return value.name if isinstance(value, textproto.Word) else repr(value)
