"""The augmentations of a recipe: at many scales, or as the TF Object Detection API does.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from maskwatch.media.images import ResizeRule, fit
from maskwatch.training.copy_paste import FaceClasses, occlude_mouths, paste_masks
from maskwatch.training.crops import (
    IGNORE_CLASS,
    Generator,
    TrainingSample,
    UInt8Array,
    flip,
    rotate,
    scaled_crop,
    ssd_crop,
)

# For a large face an image is enlarged up to this many times the scale that the network sees.
MAX_ENLARGEMENT = 8.0
# Heads are tilted by this much, seldom by more; beyond, the boxes of turned faces fit less and less.
MAX_DEGREES = 35.0


def augment_ssd(
    sample: TrainingSample,
    size: int,
    rng: Generator,
    resize: ResizeRule = "squash",
    *,
    flips: bool = True,
    crops: bool = True,
) -> TrainingSample:
    """random_horizontal_flip, random_crop_image and a resize, as in pipeline.config."""
    if flips and rng.random() < 0.5:
        sample = flip(sample)
    if crops:
        sample = ssd_crop(sample, rng)
    image, placement = fit(sample.image, (size, size), resize)
    return TrainingSample(image, placement.to_network(sample.boxes_xyxy), sample.class_ids)


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of `augment_multiscale`.

    letterbox: probability of a scale about that of a letterbox; otherwise a face gets a random size.
    scales: range of that scale, times the letterbox's.
    stretch: largest factor between width and height, either way.
    rotation, colour_jitter: probabilities for an image, the former of an angle up to `MAX_DEGREES`.
    mask_paste, occlusion: probabilities for a bare face.
    """

    letterbox: float
    scales: tuple[float, float]
    stretch: float
    rotation: float
    colour_jitter: float
    mask_paste: float
    occlusion: float


STRONG = AugmentConfig(
    letterbox=0.5,
    scales=(0.6, 1.5),
    stretch=1.1,
    rotation=0.3,
    colour_jitter=1.0,
    mask_paste=0.1,
    occlusion=0.1,
)
# For the last steps, which fit the network to unchanged images; large faces still occur.
WEAK = AugmentConfig(
    letterbox=0.75,
    scales=(0.85, 1.2),
    stretch=1.0,
    rotation=0.1,
    colour_jitter=0.3,
    mask_paste=0.05,
    occlusion=0.05,
)


def augment_multiscale(
    sample: TrainingSample,
    size: int,
    network_size: int,
    rng: Generator,
    config: AugmentConfig = STRONG,
    classes: FaceClasses | None = None,
) -> TrainingSample:
    """A square crop at a random scale, flipped, turned, with masks, occlusions and colours changed.

    Some crops scale the image about as the network will see it, a letterbox of `network_size`; the others
    pick a face and give it a random size, so that faces from a dozen pixels to the whole crop all occur.

    Args:
        size: side of the crop.
        network_size: side of the network's input at inference.
        classes: ids of the mask classes; None for other classes, whose boxes get no mask and no occlusion.
    """
    boxes = np.flatnonzero(sample.class_ids != IGNORE_CLASS)
    target = int(boxes[rng.integers(len(boxes))]) if len(boxes) else None
    scale = _random_scale(sample, size, network_size, target, rng, config)
    stretch = _log_uniform(rng, 1 / config.stretch, config.stretch)
    kept = target if rng.random() < 0.8 else None
    crop = scaled_crop(sample, size, (scale * stretch, scale / stretch), kept, rng)
    if rng.random() < 0.5:
        crop = flip(crop)
    if rng.random() < config.rotation:
        crop = rotate(crop, float(rng.uniform(-MAX_DEGREES, MAX_DEGREES)))
    if classes is not None:
        crop = paste_masks(crop, rng, config.mask_paste, classes)
        crop = occlude_mouths(crop, rng, config.occlusion, classes.no_mask)
    if rng.random() < config.colour_jitter:
        crop = replace(crop, image=colour_jitter(crop.image, rng))
    return crop


def _random_scale(
    sample: TrainingSample,
    size: int,
    network_size: int,
    target: int | None,
    rng: Generator,
    config: AugmentConfig,
) -> float:
    """Factor from the image to the crop."""
    longer_side: int = max(sample.image.shape[:2])
    letterbox = network_size / longer_side
    if target is None or rng.random() < config.letterbox:
        return letterbox * _log_uniform(rng, *config.scales)
    x0, y0, x1, y1 = sample.boxes_xyxy[target]
    # Uniform in octaves for the small sizes, uniform in pixels for the large ones.
    sides = 16.0, 0.95 * size
    face_side = _log_uniform(rng, *sides) if rng.random() < 0.5 else float(rng.uniform(*sides))
    # An image much smaller than the crop leaves mostly padding; one enlarged further shows nothing new.
    least = 0.6 * size / longer_side
    return float(np.clip(face_side / max(x1 - x0, y1 - y0), least, max(least, MAX_ENLARGEMENT * letterbox)))


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def colour_jitter(image: UInt8Array, rng: Generator) -> UInt8Array:
    """Brightness, contrast, gamma, tint; sometimes grey, blurred, noisy or badly compressed."""
    image = _tone(image, rng)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, -1)
        saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.5)
        image = np.asarray(cv2.addWeighted(image, saturation, grey, 1 - saturation, 0), np.uint8)
    if rng.random() < 0.1:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(3, 12), image.shape).astype(np.int16)
        image = (image.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        image = as_jpeg(image, int(rng.integers(20, 80)))
    return image


def as_jpeg(image_rgb: UInt8Array, quality: int) -> UInt8Array:
    """An image (H, W, 3) after JPEG compression at this quality."""
    # OpenCV's order is BGR; in the other one it would keep blue as finely as green, and red coarsely.
    _, packed = cv2.imencode(".jpg", image_rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    image_bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(image_bgr[:, :, ::-1])


def _tone(image: UInt8Array, rng: Generator) -> UInt8Array:
    """One table per channel: brightness, contrast, gamma and tint in one look-up."""
    levels = np.linspace(0, 1, 256) ** _log_uniform(rng, 0.6, 1.6)
    contrast, brightness = rng.uniform(0.7, 1.3), rng.uniform(-0.12, 0.12)
    tints = rng.uniform(0.92, 1.08, 3)
    tables = ((levels[:, None] - 0.5) * contrast + 0.5 + brightness) * tints
    table = (tables * 255).clip(0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return np.asarray(cv2.LUT(image, table), np.uint8)
