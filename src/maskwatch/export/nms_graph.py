"""The last part of a model file: calibration, thresholds, NMS and box voting.

It is written in ONNX's text syntax (https://github.com/onnx/onnx/blob/main/docs/Syntax.md), readable for
those who port the model to another runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import parser

from maskwatch.models import IOU_THRESHOLD, MAX_DETECTIONS, UNCALIBRATED, Calibration

OPSET = 18
IR_VERSION = 10  # the newest that onnxruntime 1.19 reads

CLASS_AGNOSTIC = True

# N images, K candidates of each (best first), C classes, M detections at most.
# A candidate whose calibrated score is not above its threshold gets score −1, which NonMaxSuppression then
# leaves out. Each class has its own row of scores, so that only boxes of one class compete; class-agnostic,
# all are in the first.
_TEXT = """
<ir_version: {ir_version}, opset_import: ["": {opset}]>
postprocess (
  float[N, {k}, 4] candidate_boxes, float[N, {k}] candidate_scores, int64[N, {k}] candidate_classes,
  float[{c}] score_thresholds = {{{thresholds}}},
  float[1] iou_threshold = {{{iou_threshold}}},
  bool[1] class_agnostic = {{{class_agnostic}}}
) => (
  float[N, {m}, 4] boxes, float[N, {m}] scores, int64[N, {m}] classes, int64[N] num_detections
) <
  float[{c}] calibration_slopes = {{{slopes}}}, float[{c}] calibration_offsets = {{{offsets}}},
  float one = {{1}}, float zero_score = {{0}}, float no_score = {{-1}}, float any_score = {{-0.5}},
  float border_low = {{0}}, float[4] border_high = {{{width}, {height}, {width}, {height}}},
  int64 no_class = {{-1}}, int64 first_class = {{0}}, int64[1, {c}, 1] class_of_row = {{{rows}}},
  int64 limit = {{{m}}}, int64[1] limits = {{{m}}}, int64[2] image_and_candidate = {{0, 2}},
  int64[1] axis_0 = {{0}}, int64[1] axis_1 = {{1}}, int64[1] axis_2 = {{2}}, int64[3] four = {{1, 1, 4}}
> {{
  # `network.postprocess.calibrate`, (N, K). Padding has score −infinity and keeps it.
  is_candidate = Greater (candidate_scores, zero_score)
  finite_scores = Where (is_candidate, candidate_scores, zero_score)
  own_slope = Gather (calibration_slopes, candidate_classes)
  own_offset = Gather (calibration_offsets, candidate_classes)
  hit_factor = Exp (own_offset)
  hit_power = Pow (finite_scores, own_slope)
  hit_odds = Mul (hit_factor, hit_power)
  missing_to_one = Sub (one, finite_scores)
  miss_odds = Pow (missing_to_one, own_slope)
  both_odds = Add (hit_odds, miss_odds)
  share_of_hits = Div (hit_odds, both_odds)
  calibrated_scores = Where (is_candidate, share_of_hits, candidate_scores)

  # Which candidates count, (N, K), and in which row, (N, C, K).
  own_threshold = Gather (score_thresholds, candidate_classes)
  above_threshold = Greater (calibrated_scores, own_threshold)
  own_row = Where (class_agnostic, first_class, candidate_classes)
  own_row_3d = Unsqueeze (own_row, axis_1)
  in_row = Equal (own_row_3d, class_of_row)
  above_threshold_3d = Unsqueeze (above_threshold, axis_1)
  competes = And (in_row, above_threshold_3d)
  candidate_scores_3d = Unsqueeze (candidate_scores, axis_1)
  row_scores = Where (competes, candidate_scores_3d, no_score)

  # NonMaxSuppression gives a list of (image, row, candidate) for all images; a table (N, K) of the chosen
  # ones makes the rest independent of their order.
  iou_scalar = Squeeze (iou_threshold, axis_0)
  chosen = NonMaxSuppression (candidate_boxes, row_scores, limit, iou_scalar, any_score)
  chosen_places = Gather <axis = 1> (chosen, image_and_candidate)
  table_shape = Shape (candidate_scores)
  nothing_chosen = ConstantOfShape <value = bool[1] {{0}}> (table_shape)
  chosen_count = Shape <end = 1> (chosen)
  ticks = ConstantOfShape <value = bool[1] {{1}}> (chosen_count)
  is_chosen = ScatterND (nothing_chosen, chosen_places, ticks)

  # The best M of all classes before calibration, then in the order of their calibrated scores.
  chosen_scores = Where (is_chosen, candidate_scores, no_score)
  strongest_scores, strongest_places = TopK <axis = 1> (chosen_scores, limits)
  is_strongest = Greater (strongest_scores, any_score)
  their_calibrated_scores = GatherElements <axis = 1> (calibrated_scores, strongest_places)
  scores_to_rank = Where (is_strongest, their_calibrated_scores, no_score)
  best_scores, ranks = TopK <axis = 1> (scores_to_rank, limits)
  best_places = GatherElements <axis = 1> (strongest_places, ranks)
  is_used = Greater (best_scores, any_score)
  scores = Where (is_used, best_scores, zero_score)
  best_classes = GatherElements <axis = 1> (candidate_classes, best_places)
  classes = Where (is_used, best_classes, no_class)
  best_places_3d = Unsqueeze (best_places, axis_2)
  best_places_of_corners = Expand (best_places_3d, four)
  best_boxes = GatherElements <axis = 1> (candidate_boxes, best_places_of_corners)
{voting}
  boxes_from_zero = Max (placed_boxes, border_low)
  clipped_boxes = Min (boxes_from_zero, border_high)
  is_used_3d = Unsqueeze (is_used, axis_2)
  boxes = Where (is_used_3d, clipped_boxes, zero_score)
  used_counts = Cast <to = 7> (is_used)
  num_detections = ReduceSum <keepdims = 0> (used_counts, axis_1)
}}
"""

# `network.postprocess.vote`: overlaps of the M best with all K, (N, M, K), and the means that follow.
_VOTING = """
  two = Constant <value_float = 2.0> ()
  tiny = Constant <value_float = 1e-30> ()
  best_x0, best_y0, best_x1, best_y1 = Split <axis = 2, num_outputs = 4> (best_boxes)
  boxes_by_corner = Transpose <perm = [0, 2, 1]> (candidate_boxes)
  all_x0, all_y0, all_x1, all_y1 = Split <axis = 1, num_outputs = 4> (boxes_by_corner)
  left = Max (best_x0, all_x0)
  right = Min (best_x1, all_x1)
  shared_signed_width = Sub (right, left)
  shared_width = Relu (shared_signed_width)
  top = Max (best_y0, all_y0)
  bottom = Min (best_y1, all_y1)
  shared_signed_height = Sub (bottom, top)
  shared_height = Relu (shared_signed_height)
  shared = Mul (shared_width, shared_height)
  best_width = Sub (best_x1, best_x0)
  best_height = Sub (best_y1, best_y0)
  best_area = Mul (best_width, best_height)
  all_width = Sub (all_x1, all_x0)
  all_height = Sub (all_y1, all_y0)
  all_area = Mul (all_width, all_height)
  both_areas = Add (best_area, all_area)
  joint = Sub (both_areas, shared)
  joint_or_tiny = Max (joint, tiny)
  iou = Div (shared, joint_or_tiny)
  iou_doubled = Mul (iou, two)
  nearness_signed = Sub (iou_doubled, one)
  nearness = Relu (nearness_signed)
  nearness_2 = Mul (nearness, nearness)
  nearness_3 = Mul (nearness_2, nearness)
  best_classes_3d = Unsqueeze (best_classes, axis_2)
  candidate_classes_3d = Unsqueeze (candidate_classes, axis_1)
  same_class = Equal (best_classes_3d, candidate_classes_3d)
  finite_scores_3d = Unsqueeze (finite_scores, axis_1)
  scores_2 = Mul (finite_scores_3d, finite_scores_3d)
  any_weight = Mul (scores_2, nearness_3)
  weight = Where (same_class, any_weight, zero_score)
  total = ReduceSum <keepdims = 1> (weight, axis_2)
  has_votes = Greater (total, zero_score)
  total_or_tiny = Max (total, tiny)
  weighted_boxes = MatMul (weight, candidate_boxes)
  voted_boxes = Div (weighted_boxes, total_or_tiny)
  placed_boxes = Where (has_votes, voted_boxes, best_boxes)
"""
_NO_VOTING = "placed_boxes = Identity (best_boxes)"


def nms_graph(
    candidates: int,
    size_hw: tuple[int, int],
    thresholds: Sequence[float],
    *,
    voting: bool = False,
    calibration: Calibration = (),
) -> onnx.ModelProto:
    """Calibration and thresholds by class, NMS, the best hundred, padded outputs.

    Args:
        candidates: K, at least `MAX_DETECTIONS`.
        size_hw: the network's input in pixels, to clip to.
        thresholds: default score threshold of each class.
        voting: place boxes as `network.postprocess.vote` does, by the scores before calibration.
        calibration: of each class; empty leaves the scores as they are.

    Returns:
        A model with inputs `candidate_boxes` (N, K, 4) xyxy in pixels, not clipped, `candidate_scores` (N, K)
        descending, `candidate_classes` (N, K), and the optional inputs and the outputs of a model file.
    """
    slopes, offsets = zip(*(calibration or (UNCALIBRATED,) * len(thresholds)), strict=True)
    return parser.parse_model(
        _TEXT.format(
            ir_version=IR_VERSION,
            opset=OPSET,
            k=candidates,
            c=len(thresholds),
            m=MAX_DETECTIONS,
            thresholds=_numbers(thresholds),
            slopes=_numbers(slopes),
            offsets=_numbers(offsets),
            iou_threshold=IOU_THRESHOLD,
            voting=_VOTING if voting else _NO_VOTING,
            class_agnostic=int(CLASS_AGNOSTIC),
            height=size_hw[0],
            width=size_hw[1],
            rows=", ".join(map(str, range(len(thresholds)))),
        )
    )


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)
