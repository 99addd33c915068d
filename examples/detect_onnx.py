"""A Maskwatch model file without Maskwatch: needs onnxruntime, numpy and pillow only.

python examples/detect_onnx.py model.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps


def fit(picture, size_hw, rule):
    """The picture at the network's size, uint8 (1, H, W, 3), and its scales in x and y."""
    height, width = size_hw
    new_w, new_h = width, height
    if rule == "letterbox":
        scale = min(width / picture.width, height / picture.height)
        new_w, new_h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    smaller = new_w * new_h < picture.width * picture.height
    method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR  # area averaging shrinks
    canvas = Image.new("RGB", (width, height), (128, 128, 128))
    canvas.paste(picture.resize((new_w, new_h), method), (0, 0))
    return np.asarray(canvas)[None], np.array([new_w / picture.width, new_h / picture.height] * 2)


def open_picture(path):
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def main(model, path):
    session = ort.InferenceSession(model)
    about = session.get_modelmeta().custom_metadata_map
    classes, size_hw = (json.loads(about[f"maskwatch.{key}"]) for key in ("classes", "input_size"))
    images, scales = fit(open_picture(path), size_hw, about["maskwatch.resize"])
    feeds = {"images": images}  # also, if wanted: score_thresholds, iou_threshold, class_agnostic
    boxes, scores, class_ids, counts = session.run(["boxes", "scores", "classes", "num_detections"], feeds)
    for row in range(counts[0]):
        corners = " ".join(f"{value:.1f}" for value in boxes[0, row] / scales)
        print(f"{classes[class_ids[0, row]]} {scores[0, row]:.3f} {corners}")


if __name__ == "__main__":
    main(*sys.argv[1:])
