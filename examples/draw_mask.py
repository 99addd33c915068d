"""Draws a surgical mask on a face, to get a masked twin of a photograph.

Give it a face box, or better the two eyes and the chin:

    python examples/draw_mask.py examples/astronaut.jpg examples/astronaut_masked.jpg \
        --landmarks 203 101 248 103.5 223.5 178

It needs NumPy and OpenCV only. The mask is not pasted: every pixel asks where it lies on the face and takes
its cloth, fold and shade from that, so the mask follows the size and the tilt of the head.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

CLOTH_RGB = (146.0, 176.0, 194.0)
LOOP_RGB = (232.0, 236.0, 238.0)
SAMPLES = 4  # drawn this many times larger, then averaged down: soft edges without a blur

# The outline in face coordinates: u runs along the eyes, in distances between the eyes, from their middle;
# v runs down, 0 at the eyes and 1 at the chin.
OUTLINE_U = (-0.99, -0.9, -0.72, -0.48, -0.26, -0.12, 0.0, 0.12, 0.26, 0.48, 0.72, 0.9, 0.99)
TOP_V = (0.33, 0.33, 0.315, 0.29, 0.24, 0.19, 0.175, 0.19, 0.24, 0.29, 0.315, 0.33, 0.33)
BOTTOM_V = (0.60, 0.68, 0.86, 1.0, 1.065, 1.08, 1.085, 1.08, 1.065, 1.0, 0.86, 0.68, 0.60)
SIDE_V = (0.0, 0.33, 0.62, 0.85, 1.1)
SIDE_U = (1.0, 0.95, 0.885, 0.80, 0.72)
PLEATS = (0.36, 0.52, 0.68)  # shares of the way from the upper to the lower edge


@dataclass(frozen=True)
class Face:
    """Where a face lies in a picture, in pixels (x, y)."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    chin: tuple[float, float]

    @classmethod
    def from_box(cls, box_xyxy: tuple[float, float, float, float], tilt: float = 0.0) -> Face:
        """A face that fills a box from forehead to chin, by the proportions of a frontal portrait.

        Args:
            box_xyxy: box in pixels.
            tilt: how far the head leans, in degrees, clockwise as seen in the picture.
        """
        x0, y0, x1, y1 = box_xyxy
        center = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        width, height = x1 - x0, y1 - y0
        turn = np.deg2rad(tilt)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shares = np.array([[-0.25, -0.1], [0.25, -0.1], [0.0, 0.5]])  # eye, eye, chin
        offsets = shares * [width, height]
        left, right, chin = (tuple(map(float, center + rotation @ offset)) for offset in offsets)
        return cls((left[0], left[1]), (right[0], right[1]), (chin[0], chin[1]))

    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine map from face coordinates (u, v) to pixels (x, y)."""
        left, right, chin = (np.array(point) for point in (self.left_eye, self.right_eye, self.chin))
        middle = (left + right) / 2
        return np.column_stack([right - left, chin - middle, middle])

    def span(self) -> float:
        """Distance between the eyes in pixels."""
        return float(np.hypot(self.right_eye[0] - self.left_eye[0], self.right_eye[1] - self.left_eye[1]))


def smooth(x: NDArray[np.floating], knots: tuple[float, ...], values: tuple[float, ...]) -> Image:
    """A curve through the knots, without corners: linear interpolation, then a moving average."""
    fine = np.linspace(knots[0], knots[-1], 801)
    curve = np.interp(fine, knots, values)
    kernel = np.hanning(61)
    padded = np.pad(curve, 30, mode="reflect", reflect_type="odd")
    even = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return np.asarray(np.interp(x, fine, even), np.float32)


def face_grid(face: Face, shape_hw: tuple[int, int]) -> tuple[Image, Image]:
    """(u, v) of every sub-pixel, each (H·SAMPLES, W·SAMPLES)."""
    height, width = shape_hw
    y, x = np.mgrid[0 : height * SAMPLES, 0 : width * SAMPLES]
    points = np.stack([(x + 0.5) / SAMPLES - 0.5, (y + 0.5) / SAMPLES - 0.5], axis=-1)
    matrix = face.matrix()
    uv = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T  # (H, W, 2)
    return uv[..., 0].astype(np.float32), uv[..., 1].astype(np.float32)


def cloth_cover(u: Image, v: Image) -> tuple[Image, Image, Image]:
    """Where cloth is (0 or 1), and how far down (t, 0..1) and sideways (s, −1..1) on it each point lies."""
    top, bottom = smooth(u, OUTLINE_U, TOP_V), smooth(u, OUTLINE_U, BOTTOM_V)
    side = smooth(v, SIDE_V, SIDE_U)
    t = (v - top) / np.maximum(bottom - top, 1e-3)
    s = u / side
    cover = ((t > 0) & (t < 1) & (np.abs(s) < 1)).astype(np.float32)
    return cover, t, s


def cloth_shade(u: Image, t: Image, s: Image) -> Image:
    """Brightness of the cloth around 1: round of the face, nose, folds, hems."""
    round_face = 1.05 - 0.36 * np.abs(s) ** 2.4 - 0.09 * s  # the side away from the light is darker
    tent = 0.07 * np.exp(-((u / 0.16) ** 2)) * np.exp(-(((t - 0.22) / 0.22) ** 2))
    beside_nose = -0.06 * np.exp(-(((np.abs(u) - 0.30) / 0.13) ** 2)) * np.exp(-(((t - 0.15) / 0.2) ** 2))
    below_chin = -0.26 * np.clip((t - 0.80) / 0.20, 0, 1) ** 1.5
    shade = round_face + tent + beside_nose + below_chin
    pinch = 0.55 + 0.45 * np.abs(s) ** 1.5  # folds are pressed flat at the sides and open in the middle
    for number, place in enumerate(PLEATS):
        # A fold sags a little and no two of them are alike.
        down = t - place - 0.012 * np.sin(5.0 * s + 2.1 * number)
        under = np.where(down > 0, np.exp(-np.maximum(down, 0) / 0.035), 0.0)
        lip = np.where(down <= 0, np.exp(np.minimum(down, 0) / 0.03), 0.0)
        shade = shade + pinch * (0.06 * lip - 0.30 * under)
    for hem in (0.075, 0.955):
        shade = shade - 0.07 * np.exp(-(((t - hem) / 0.010) ** 2))
    shade = shade - 0.07 * np.exp(-(((np.abs(s) - 0.945) / 0.010) ** 2))
    return np.asarray(shade, np.float32)


def wrinkles(shape_hw: tuple[int, int], size: float) -> Image:
    """Soft random unevenness of cloth around 0; `size` is that of one dent in pixels. Always the same."""
    noise = np.random.default_rng(7).standard_normal(shape_hw).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigmaX=2.2 * size, sigmaY=0.8 * size)
    return np.asarray(soft / max(float(soft.std()), 1e-6), np.float32)


def draw_loops(face: Face, shape_hw: tuple[int, int]) -> Image:
    """Cover (0..1) of the ear loops at sub-pixel size: from the corners of the mask to behind the ears."""
    cover = np.zeros((shape_hw[0] * SAMPLES, shape_hw[1] * SAMPLES), np.uint8)
    thickness = max(1, round(0.035 * face.span() * SAMPLES))
    bend = np.linspace(0.0, 1.0, 24)[:, None]
    for side in (-1.0, 1.0):
        for start, middle, end in (
            ((0.93, 0.36), (1.02, 0.30), (1.09, 0.20)),
            ((0.88, 0.61), (1.01, 0.53), (1.10, 0.39)),
        ):
            a, b, c = (np.array([side * point[0], point[1]]) for point in (start, middle, end))
            uv = (1 - bend) ** 2 * a + 2 * bend * (1 - bend) * b + bend**2 * c  # a quadratic Bézier curve
            matrix = face.matrix()
            xy = (uv @ matrix[:, :2].T + matrix[:, 2] + 0.5) * SAMPLES
            cv2.polylines(cover, [np.round(xy).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    return cover.astype(np.float32) / 255.0


def shrink(image: Image) -> Image:
    """Averages sub-pixels into pixels."""
    size = (image.shape[1] // SAMPLES, image.shape[0] // SAMPLES)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def draw_mask(image_rgb: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """A copy of the picture (H, W, 3) RGB with a mask on the face."""
    shape_hw = image_rgb.shape[:2]
    span = face.span()
    u, v = face_grid(face, shape_hw)
    cover, t, s = cloth_cover(u, v)
    shade = cloth_shade(u, t, s) + 0.016 * wrinkles(cover.shape, 0.09 * span * SAMPLES)
    alpha = shrink(cover)[..., None]  # (H, W, 1)
    tone = shrink(shade * cover)[..., None] / np.maximum(alpha, 1e-3)

    picture = image_rgb.astype(np.float32)
    # The light on the skin, without its features, falls on the cloth too.
    light = cv2.GaussianBlur(picture.mean(axis=-1), (0, 0), sigmaX=0.45 * span)[..., None]
    light = light / max(float((light * alpha).sum() / max(float(alpha.sum()), 1.0)), 1.0)
    cloth = np.array(CLOTH_RGB, np.float32) * tone * light**0.4
    grain = np.random.default_rng(11).normal(0.0, 1.6, (*shape_hw, 1)).astype(np.float32)

    shadow = cv2.GaussianBlur(alpha, (0, 0), sigmaX=max(0.05 * span, 0.6))[..., None]
    shadow = np.roll(shadow, max(1, round(0.04 * span)), axis=0)
    # It falls on skin, not on what is behind the head.
    shadow = shadow * shrink((np.abs(s) < 1).astype(np.float32))[..., None]
    result = picture * (1 - 0.42 * shadow)
    loops = 0.8 * shrink(draw_loops(face, shape_hw))[..., None]
    result = result * (1 - loops) + np.array(LOOP_RGB, np.float32) * light**0.4 * 0.82 * loops
    result = result * (1 - alpha) + (cloth + grain) * alpha
    return np.asarray(np.clip(np.round(result), 0, 255), np.uint8)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Draw a surgical mask on one face.")
    parser.add_argument("source", type=Path, help="picture to read")
    parser.add_argument("target", type=Path, help="picture to write")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--landmarks",
        nargs=6,
        type=float,
        metavar="PX",
        help="x y of the eye at the left, the eye at the right and the chin, in pixels",
    )
    where.add_argument("--box", nargs=4, type=float, metavar="PX", help="x0 y0 x1 y1 of the face, in pixels")
    parser.add_argument("--tilt", type=float, default=0.0, help="with --box: lean of the head in degrees")
    parser.add_argument("--quality", type=int, default=92, help="JPEG quality")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parse_args(arguments)
    bgr = cv2.imread(str(args.source), cv2.IMREAD_COLOR)
    if bgr is None:
        print(f"{args.source} is not a picture that OpenCV reads; give a JPEG or PNG file.", file=sys.stderr)
        return 2
    if args.landmarks:
        x0, y0, x1, y1, x2, y2 = args.landmarks
        face = Face((x0, y0), (x1, y1), (x2, y2))
    else:
        face = Face.from_box(tuple(args.box), args.tilt)
    masked = draw_mask(np.asarray(bgr[..., ::-1], np.uint8), face)
    is_jpeg = args.target.suffix.lower() in (".jpg", ".jpeg")
    options = [cv2.IMWRITE_JPEG_QUALITY, args.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1] if is_jpeg else []
    try:
        written = cv2.imwrite(str(args.target), masked[..., ::-1], options)
    except cv2.error:  # an ending that it does not know
        written = False
    if not written:
        print(
            f"{args.target} cannot be written; name a .jpg or .png file in a folder that exists.",
            file=sys.stderr,
        )
        return 2
    print(f"wrote {args.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
