"""Thresholds, NMS and box voting for exports without them (onnx-raw, litert, pt2), in numpy.

python examples/decode_raw.py FOLDER photo.jpg     # a folder of: maskwatch export MODEL --to onnx-raw
"""

import json
import sys
from pathlib import Path

import numpy as np


def overlaps(one, others):
    """(K,) IoU of a box (4,) with others (K, 4)."""
    shared = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = shared.clip(0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one[None], others)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-30)


def decode(boxes_xyxy, scores, model, iou_threshold=0.6, limit=100):
    """Detections of a picture: boxes (D, 4) in pixels of the input, scores (D,), class ids (D,).

    Args:
        boxes_xyxy, scores: (A, 4) and (A, C), as the export gives them.
        model: "model" in the JSON file beside the export.
    """
    count = scores.shape[1]
    best = np.argsort(-scores, axis=None, kind="stable")[:2000]
    boxes, ids, scores = boxes_xyxy[best // count], best % count, scores.ravel()[best]
    slopes, offsets = np.array(model["calibration"] or [[1, 0]] * count, np.float32)[ids].T
    odds = np.exp(offsets) * scores**slopes
    shown = odds / (odds + (1 - scores) ** slopes)  # share of hits among detections of this score
    left = shown > np.array(model["thresholds"], np.float32)[ids]
    kept = []
    for row in range(len(best)):  # by the network's own scores, over all classes
        if left[row] and len(kept) < limit:
            kept.append(row)
            left &= overlaps(boxes[row], boxes) <= iou_threshold
    kept.sort(key=lambda row: -shown[row])
    found = boxes[kept].reshape(-1, 4)
    if model["box_voting"]:
        for place, row in enumerate(kept):
            nearness = (2 * overlaps(boxes[row], boxes) - 1).clip(0)
            weights = (ids == ids[row]) * scores**2 * nearness**3
            if weights.sum() > 0:
                found[place] = weights @ boxes / weights.sum()
    height, width = model["input_size"]
    return found.clip(0, [width, height] * 2), shown[kept], ids[kept]


def main(folder, path):
    import onnxruntime as ort
    from detect_onnx import fit, open_picture

    (file,) = Path(folder).glob("*.onnx")
    model = json.loads(file.with_suffix(".json").read_text("utf-8"))["model"]
    images, scales = fit(open_picture(path), model["input_size"], model["resize"])
    boxes, scores = ort.InferenceSession(file).run(["boxes_xyxy", "scores"], {"images": images})
    for box, score, class_id in zip(*decode(boxes[0], scores[0], model), strict=True):
        corners = " ".join(f"{value:.1f}" for value in box / scales)
        print(f"{model['classes'][class_id]} {score:.3f} {corners}")


if __name__ == "__main__":
    main(*sys.argv[1:])
