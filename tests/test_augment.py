"""Augmentation: boxes stay on what they mark, and nothing but the generator decides."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from drawn_data import draw_faces
from maskwatch.data import DetectionSet, Sample, merge, read_data
from maskwatch.errors import RecipeError
from maskwatch.labels import ClassMap
from maskwatch.media.images import PAD_VALUE
from maskwatch.training.augment import STRONG, WEAK, as_jpeg, augment_multiscale, augment_ssd, colour_jitter
from maskwatch.training.copy_paste import FaceClasses, SourceFace, occlude_mouths, paste_mask, paste_masks
from maskwatch.training.crops import IGNORE_CLASS, TrainingSample, flip, rotate
from maskwatch.training.recipe import Recipe

if TYPE_CHECKING:
    from maskwatch.training.batches import SampleKey


def marked_sample(height: int = 150, width: int = 240) -> TrainingSample:
    """A dark picture with three bright squares, and the boxes around them."""
    image = np.full((height, width, 3), 20, np.uint8)
    boxes = np.array([[20, 30, 60, 70], [100, 60, 130, 90], [180, 90, 230, 140]], np.float32)
    for x0, y0, x1, y1 in boxes.astype(int):
        image[y0:y1, x0:x1] = 250
    return TrainingSample(image, boxes, np.array([0, 1, 2]))


def test_flip_twice_is_nothing() -> None:
    sample = marked_sample()
    once, twice = flip(sample), flip(flip(sample))
    assert once.boxes_xyxy[0].tolist() == [180, 30, 220, 70]
    np.testing.assert_array_equal(twice.image, sample.image)
    np.testing.assert_array_equal(twice.boxes_xyxy, sample.boxes_xyxy)


@pytest.mark.parametrize("kind", ["scale", "ssd"])
def test_boxes_stay_on_their_squares(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.training.augment.colour_jitter", lambda image, rng: image)
    upright, sample, seen = replace(STRONG, rotation=0.0), marked_sample(), 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        if kind == "ssd":
            out = augment_ssd(sample, 160, rng)
        else:
            out = augment_multiscale(sample, 160, 160, rng, upright)
        assert out.image.shape == (160, 160, 3)
        assert out.image.dtype == np.uint8
        for x0, y0, x1, y1 in out.boxes_xyxy:
            assert 0 <= x0 < x1 <= 160
            assert 0 <= y0 < y1 <= 160
            if min(x1 - x0, y1 - y0) < 12:
                continue
            inside = out.image[round(y0 + 2) : round(y1 - 2), round(x0 + 2) : round(x1 - 2)]
            assert inside.min() > 200, f"seed {seed}: a box holds something dark"
            above = out.image[max(0, round(y0 - 4)) : max(0, round(y0 - 3)), round(x0) : round(x1)]
            assert above.size == 0 or above.max() < 200, f"seed {seed}: the square reaches out of its box"
            seen += 1
    assert seen > 100


def test_boxes_follow_the_rounding_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.training.augment.colour_jitter", lambda image, rng: image)
    monkeypatch.setattr("maskwatch.training.crops.PAD_VALUE", 0)
    image = np.zeros((200, 200, 3), np.uint8)
    image[90:106, 80:92] = 255
    sample = TrainingSample(image, np.array([[80, 90, 92, 106]], np.float32), np.zeros(1, np.int64))
    compared = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        out = augment_multiscale(sample, 160, 160, rng, replace(STRONG, rotation=0.0))
        if len(out.boxes_xyxy) and out.boxes_xyxy.min() > 2 and out.boxes_xyxy.max() < 158:
            x0, y0, x1, y1 = out.boxes_xyxy[0]
            light = out.image[..., 0] / 255.0
            rows, columns = np.indices(light.shape) + 0.5
            centre = (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()
            assert centre == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.12), f"seed {seed}"
            assert light.sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.06), f"seed {seed}"
            compared += 1
    assert compared > 40


@pytest.mark.parametrize("degrees", [-35.0, -10.0, 0.0, 20.0, 35.0, 90.0])
def test_a_turned_face_has_a_box_as_tight_as_before(degrees: float) -> None:
    for box in ([40, 60, 80, 120], [170, 90, 240, 150]):
        image, (x0, y0, x1, y1) = np.zeros((200, 300, 3), np.uint8), box
        rows, columns = np.indices(image.shape[:2]) + 0.5
        image[np.hypot((2 * columns - x0 - x1) / (x1 - x0), (2 * rows - y0 - y1) / (y1 - y0)) <= 1] = 250
        turned = rotate(TrainingSample(image, np.array([box], np.float32), np.array([1])), degrees)
        rows, columns = np.nonzero((turned.image[..., 0] > 125) & (turned.image[..., 1] > 125))
        if rows.min() > 0 and rows.max() < 199:  # a quarter turn moves one of them to the border
            drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(turned.boxes_xyxy[0], drawn, atol=1.0)


def test_a_quarter_turn_is_exact_and_what_leaves_the_picture_is_dropped() -> None:
    """Counter-clockwise, as np.rot90."""
    sample = marked_sample(240, 240)
    turned = rotate(sample, 90.0)
    np.testing.assert_array_equal(turned.image, np.rot90(sample.image))
    np.testing.assert_allclose(turned.boxes_xyxy[0], [30, 180, 70, 220], atol=1e-3)
    assert rotate(marked_sample(), 90.0).class_ids.tolist() == [0, 1]  # two fifths of the first are left
    region = TrainingSample(sample.image, sample.boxes_xyxy[1:2], np.array([IGNORE_CLASS]))
    x0, y0, x1, y1 = rotate(region, 45.0).boxes_xyxy[0]
    assert (x1 - x0, y1 - y0) == pytest.approx((30 * 2**0.5, 30 * 2**0.5), rel=1e-5)


def test_scales_reach_from_small_to_filling() -> None:
    sample = marked_sample()
    sides = [
        float((out.boxes_xyxy[:, 3] - out.boxes_xyxy[:, 1]).max(initial=0))
        for seed in range(300)
        for out in [augment_multiscale(sample, 320, 640, np.random.default_rng(seed))]
    ]
    assert min(side for side in sides if side) < 45
    assert max(sides) > 250


def test_weak_augmentation_stays_near_the_letterbox() -> None:
    image = np.random.default_rng(0).integers(0, 256, (320, 640, 3), dtype=np.uint8)
    sample = TrainingSample(image, np.array([[300, 100, 340, 140]], np.float32), np.zeros(1, np.int64))
    samples = [augment_multiscale(sample, 640, 640, np.random.default_rng(seed), WEAK) for seed in range(60)]
    sides = np.concatenate([out.boxes_xyxy[:, 2:] - out.boxes_xyxy[:, :2] for out in samples])
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=0.3)  # not stretched
    near = (sides[:, 0] > 0.84 * 40) & (sides[:, 0] < 1.21 * 40)
    assert 0.6 < near.mean() < 0.95
    assert sides.max() > 150


@pytest.mark.parametrize("kind", ["scale", "ssd"])
def test_what_is_left_of_an_ignore_region_is_kept_and_never_aimed_at(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little it is: a face of which less than a third is left would be dropped."""
    monkeypatch.setattr("maskwatch.training.augment.colour_jitter", lambda image, rng: image)
    image = np.full((150, 240, 3), 20, np.uint8)
    image[90:140, 180:230] = 250
    boxes = np.array([[180, 90, 230, 140], [20, 30, 60, 70]], np.float32)
    sample, parts = TrainingSample(image, boxes, np.array([IGNORE_CLASS, 1])), 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        out = augment_ssd(sample, 160, rng) if kind == "ssd" else augment_multiscale(sample, 160, 160, rng)
        regions = out.boxes_xyxy[out.class_ids == IGNORE_CLASS]
        outside = (out.image > 200).all(-1)
        parts += bool(outside.any())
        for x0, y0, x1, y1 in regions:
            outside[int(y0) : int(np.ceil(y1)) + 1, int(x0) : int(np.ceil(x1)) + 1] = False
        assert not outside.any(), f"seed {seed}: some of the region is taken for background"
    assert parts > 30
    only = TrainingSample(image, boxes[:1], np.array([IGNORE_CLASS]))
    for seed in range(20):
        assert set(augment_multiscale(only, 64, 160, np.random.default_rng(seed)).class_ids.tolist()) <= {
            IGNORE_CLASS
        }


def test_only_mouths_of_bare_faces_are_occluded() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    boxes = np.array([[20, 20, 120, 140], [160, 20, 260, 140], [140, 150, 155, 170]], np.float32)
    sample = TrainingSample(image, boxes, np.array([1, 0, 1]))
    for seed in range(20):
        after = occlude_mouths(sample, np.random.default_rng(seed), 1.0, no_mask=1)
        changed = (after.image != image).any(-1)
        assert changed[84:140, 30:110].mean() > 0.05
        assert not changed[:60].any(), "the eyes stay bare"
        assert not changed[:, 170:].any(), "the masked face stays as it is"
        assert not changed[150:, 140:].any(), "so does one that is too small"
        np.testing.assert_array_equal(after.boxes_xyxy, boxes)
    assert occlude_mouths(sample, np.random.default_rng(0), 0.0, no_mask=1) is sample


SKIN = (170, 120, 90)


def red_mask() -> SourceFace:
    """A face of 100 by 120 pixels whose lower part is red."""
    image = np.full((160, 140, 3), SKIN, np.uint8)
    image[60:150, 10:130] = (255, 0, 0)
    return SourceFace(image, np.array([20, 20, 120, 140], np.float32))


@pytest.mark.parametrize(("edges_y", "width"), [((0.4, 1.0), 1.0), ((0.6, 1.05), 1.0), ((0.9, 1.3), 0.8)])
def test_a_mask_sits_between_its_edges(edges_y: tuple[float, float], width: float) -> None:
    image = np.full((220, 300, 3), SKIN, np.uint8)
    paste_mask(image, np.array([100, 40, 200, 160], np.float32), red_mask(), edges_y, width)
    worn = image[..., 1] < 60
    rows, columns = np.nonzero(worn)
    assert rows.min() == pytest.approx(40 + 120 * edges_y[0], abs=3)
    assert rows.max() == pytest.approx(40 + 120 * edges_y[1], abs=3)
    assert columns.min() == pytest.approx(150 - 43 * width, abs=3)
    assert columns.max() == pytest.approx(150 + 43 * width, abs=3)
    assert (image[:80] == SKIN).all()


@pytest.mark.parametrize("light", [40, 80, 160])
def test_a_pasted_mask_has_the_light_of_its_new_face(light: int) -> None:
    rng = np.random.default_rng(0)
    lit = SourceFace(rng.integers(90, 111, (240, 200, 3), dtype=np.uint8), np.array([0, 0, 200, 240]))
    image = np.full((200, 200, 3), light, np.uint8)
    paste_mask(image, np.array([50, 40, 150, 160], np.float32), lit, (0.4, 1.0))
    assert image[110:140, 80:120].mean() == pytest.approx(light, rel=0.12)


def test_light_and_tint_change_only_so_much() -> None:
    lit = SourceFace(np.full((240, 200, 3), 100, np.uint8), np.array([0, 0, 200, 240]))
    for colour, least, most in (((0, 0, 0), 36, 44), ((250, 250, 250), 155, 165), ((160, 90, 60), 85, 115)):
        image = np.full((200, 200, 3), colour, np.uint8)
        paste_mask(image, np.array([50, 40, 150, 160], np.float32), lit, (0.4, 1.0))
        assert least <= image[110:140, 80:120].min()
        assert image[110:140, 80:120].max() <= most


def test_a_pasted_mask_is_blurred_like_its_new_face() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(60, 200, (120, 100, 1), dtype=np.uint8).repeat(3, 2)
    source = SourceFace(sharp, np.array([0, 0, 100, 120], np.float32))
    contrasts = []
    for sigma in (0, 1, 2):
        scene = rng.integers(60, 200, (200, 200, 1), dtype=np.uint8).repeat(3, 2)
        image = np.asarray(cv2.GaussianBlur(scene, (0, 0), sigma) if sigma else scene, np.uint8)
        paste_mask(image, np.array([50, 40, 150, 160], np.float32), source, (0.4, 1.0))
        contrasts.append(float(np.diff(image[110:140, 80:120, 0].astype(float), axis=0).std()))
    assert contrasts[0] > 2 * contrasts[1]
    assert contrasts[1] > contrasts[2]


def test_a_grey_picture_gets_a_grey_mask_and_padding_gets_none() -> None:
    image = np.random.default_rng(0).integers(60, 200, (200, 200, 1), dtype=np.uint8).repeat(3, 2)
    image[150:] = PAD_VALUE
    colourful = np.random.default_rng(1).integers(0, 256, (240, 200, 3), dtype=np.uint8)
    box = np.array([50, 40, 150, 160], np.float32)
    paste_mask(image, box, SourceFace(colourful, np.array([0, 0, 200, 240], np.float32)), (0.5, 1.2))
    assert np.ptp(image[120:145, 80:120].astype(int), axis=2).max() < 30
    assert (image[150:] == PAD_VALUE).all()


def test_bare_faces_with_a_pasted_mask_change_their_class() -> None:
    image = np.full((200, 300, 3), SKIN, np.uint8)
    boxes = np.array([[20, 20, 120, 140], [160, 20, 260, 140], [140, 150, 155, 170]], np.float32)
    sample = TrainingSample(image, boxes, np.array([1, 0, 1]))
    asked = []

    def pick_source(rng: np.random.Generator, side: float) -> SourceFace:
        asked.append(side)
        return red_mask()

    faces = FaceClasses(mask=0, no_mask=1, mask_incorrect=2, pick_source=pick_source)
    tops: dict[int, list[float]] = {0: [], 2: []}
    for seed in range(60):
        after = paste_masks(sample, np.random.default_rng(seed), 1.0, faces)
        again = paste_masks(sample, np.random.default_rng(seed), 1.0, faces)
        np.testing.assert_array_equal(after.image, again.image)
        worn = after.image[..., 1] < 60
        tops[int(after.class_ids[0])].append((np.nonzero(worn)[0].min() - 20) / 120)
        assert not worn[:, 150:].any()
        assert after.class_ids[1:].tolist() == [0, 1], "masked and small faces stay as they are"
        np.testing.assert_array_equal(after.boxes_xyxy, boxes)
    assert max(tops[0]) < 0.5 < 0.55 < min(tops[2]), "only a mask worn correctly covers the nose"
    assert max(tops[2]) > 0.85, "some are under the chin"
    assert set(asked) == {100}
    assert (image == SKIN).all(), "the picture that was given stays as it is"
    assert sample.class_ids.tolist() == [1, 0, 1]
    assert paste_masks(sample, np.random.default_rng(0), 0.0, faces) is sample
    assert paste_masks(sample, np.random.default_rng(0), 1.0, replace(faces, pick_source=None)) is sample


def test_sources_are_as_large_as_the_face_that_gets_their_mask(tmp_path: Path) -> None:
    from maskwatch.training.batches import TrainingDataset

    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((400, 400, 3), np.uint8))
    boxes = np.array([[0, 0, side, side] for side in range(50, 350)], np.float32)
    ids, marks = np.zeros(300, np.int64), np.zeros(300, bool)
    faces = DetectionSet(
        ("mask", "no_mask", "mask_incorrect"),
        (Sample(tmp_path / "x.png", None, (400, 400), boxes, ids, marks),),
    )
    classes = TrainingDataset(faces, Recipe())._classes
    for wanted, least in ((24.0, 50), (200.0, 200), (900.0, 320)):
        sides = [classes.pick_source(np.random.default_rng(seed), wanted).box_xyxy[2] for seed in range(40)]
        assert least <= min(sides) < least + 20
        assert max(sides) > 335


def test_other_classes_get_no_mask(tmp_path: Path) -> None:
    from maskwatch.training.batches import SampleKey, TrainingDataset

    draw_faces(tmp_path, 2)
    recipe = Recipe(size=64, train_sizes=(64,), steps=10, no_aug_fraction=0.0)
    helmets = TrainingDataset(
        read_data(tmp_path, ClassMap.parse("helmet=with_mask,head=without_mask")), recipe
    )
    assert set(helmets[SampleKey(0, 0, 0, 64)].class_ids.tolist()) <= {0, 1}


def test_a_mouth_beyond_the_border_is_occluded_as_far_as_it_shows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    for box in ([60, 60, 100, 100], [0, 60, 30, 100], [0, 0, 100, 100]):
        for seed in range(30):
            sample = TrainingSample(image, np.array([box], np.float32), np.array([0]))
            assert occlude_mouths(sample, np.random.default_rng(seed), 1.0, 0).image.shape == image.shape


def test_pictures_without_a_box_work() -> None:
    empty = TrainingSample(marked_sample().image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    for seed in range(20):
        for out in (
            augment_multiscale(empty, 64, 64, np.random.default_rng(seed)),
            augment_ssd(empty, 64, np.random.default_rng(seed)),
        ):
            assert out.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_odd_shapes_work(shape: tuple[int, int]) -> None:
    sample = TrainingSample(
        np.zeros((*shape, 3), np.uint8),
        np.array([[0, 0, shape[1], shape[0]]], np.float32),
        np.zeros(1, np.int64),
    )
    for seed in range(20):
        assert augment_multiscale(sample, 64, 64, np.random.default_rng(seed)).image.shape == (64, 64, 3)
        assert augment_ssd(sample, 64, np.random.default_rng(seed)).image.shape == (64, 64, 3)


def test_the_generator_decides_everything() -> None:
    sample = marked_sample()
    one, two = (augment_multiscale(sample, 96, 96, np.random.default_rng(5)) for _ in range(2))
    other = augment_multiscale(sample, 96, 96, np.random.default_rng(6))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.boxes_xyxy, two.boxes_xyxy)
    assert not np.array_equal(one.image, other.image)


def test_colour_jitter_changes_colours_only() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    changed = [colour_jitter(image, np.random.default_rng(seed)) for seed in range(40)]
    assert all(out.shape == image.shape and out.dtype == np.uint8 for out in changed)
    assert len({out.tobytes() for out in changed}) == 40


# ---- batches ---------------------------------------------------------------------------------------------


def keys_of(
    recipe: Recipe, order: np.ndarray, steps: range, rank: int = 0, world: int = 1
) -> list[list[SampleKey]]:
    from maskwatch.training.batches import StepSampler

    sampler = StepSampler(order, recipe, rank=rank, world_size=world)
    return [sampler.keys(step) for step in steps]


def test_every_picture_comes_once_in_a_pass() -> None:
    recipe = Recipe(batch_size=4, train_sizes=(64,))
    batches = keys_of(recipe, np.arange(12), range(6))
    first = [key.image for keys in batches[:3] for key in keys]
    second = [key.image for keys in batches[3:] for key in keys]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_step_is_the_same_wherever_one_begins() -> None:
    from maskwatch.training.batches import StepSampler

    recipe = Recipe(batch_size=8, train_sizes=(64, 128), validate_every=5)
    whole = [keys for first in (0, 5) for keys in StepSampler(np.arange(7), recipe, lambda at=first: at)]
    later = list(StepSampler(np.arange(7), recipe, lambda: 3))
    assert [len(keys) for keys in whole[:4]] == [8, 2, 8, 2]
    assert later == whole[3:5]


def test_processes_share_a_batch_without_overlap() -> None:
    recipe = Recipe(batch_size=4, train_sizes=(64,))
    ranks = [keys_of(recipe, np.arange(16), range(2), rank, 2) for rank in (0, 1)]
    pictures = [key.image for batches in ranks for keys in batches for key in keys]
    assert sorted(pictures) == list(range(16))
    slots = {(key.step, key.slot) for batches in ranks for keys in batches for key in keys}
    assert len(slots) == 16


def labelled(class_ids: list[int]) -> Sample:
    boxes = np.tile(np.array([[0, 0, 4, 4]], np.float32), (len(class_ids), 1))
    ids = np.array(class_ids, np.int64)
    return Sample(Path("x.jpg"), None, (8, 8), boxes, ids, np.zeros(len(ids), bool))


def test_rare_classes_are_repeated() -> None:
    from maskwatch.training.batches import balanced_order

    rows = [labelled([0])] * 8 + [labelled([0, 1])] * 2 + [labelled([])]
    balanced = np.bincount(balanced_order(DetectionSet(("a", "b"), tuple(rows)), 1.0, 1))
    assert balanced.tolist() == [1] * 8 + [5, 5] + [1]  # 10 pictures with a, 2 with b
    plain = balanced_order(DetectionSet(("a", "b"), tuple(rows)), 0.0, 1)
    assert plain.tolist() == list(range(11))


def sets_to_weigh() -> list[DetectionSet]:
    """Forty pictures with a, half of which have the rarer b too, and a hundred with a alone."""
    small = [labelled([0])] * 20 + [labelled([0, 1])] * 20
    return [DetectionSet(("a", "b"), tuple(rows)) for rows in (small, [labelled([0])] * 100)]


@pytest.mark.parametrize("weights", [(3.0, 1.0), (1.0, 2.0), (1.5, 0.6)])
def test_data_weights_decide_how_often_each_set_is_shown(weights: tuple[float, float]) -> None:
    from maskwatch.training.batches import balanced_order

    whole = merge(sets_to_weigh())
    shown = np.bincount(balanced_order(whole, 0.0, 1, weights), minlength=140)
    least = min(weights)
    for part, weight in ((shown[:40], weights[0]), (shown[40:], weights[1])):
        assert set(part.tolist()) <= {int(weight / least), int(np.ceil(weight / least))}
        assert part.mean() == pytest.approx(weight / least, abs=0.15)
    np.testing.assert_array_equal(
        balanced_order(whole, 0.0, 1, weights), balanced_order(whole, 0.0, 1, weights)
    )


def test_data_weights_and_class_balance_multiply() -> None:
    from maskwatch.training.batches import balanced_order

    whole = merge(sets_to_weigh())
    shown = np.bincount(balanced_order(whole, 1.0, 1, (3.0, 1.0)), minlength=140)
    # Shown without the balance: a 220 times, b 60 times.
    assert shown[:20].tolist() == [3] * 20
    assert shown[20:40].mean() == pytest.approx(3 * 220 / 60, abs=1e-9)
    assert shown[40:].tolist() == [1] * 100


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_equal_weights_are_none(power: float) -> None:
    from maskwatch.training.batches import balanced_order

    whole = merge(sets_to_weigh())
    np.testing.assert_array_equal(
        balanced_order(whole, power, 1, (2.0, 2.0)), balanced_order(whole, power, 1)
    )


def test_a_set_without_a_weight_is_an_error() -> None:
    from maskwatch.training.batches import balanced_order

    with pytest.raises(RecipeError, match="1 numbers for at least 2 data sets; give one for each"):
        balanced_order(merge(sets_to_weigh()), 0.0, 1, (2.0,))


def test_the_last_steps_have_weak_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.training import batches
    from maskwatch.training.batches import SampleKey, TrainingDataset

    draw_faces(tmp_path, 2)
    recipe = Recipe(size=64, train_sizes=(64,), steps=10, no_aug_fraction=0.3)
    seen = []

    def spy(sample: TrainingSample, *arguments: object) -> TrainingSample:
        seen.append((arguments[-2], arguments[-1]))
        return sample

    monkeypatch.setattr(batches, "augment_multiscale", spy)
    dataset = TrainingDataset(read_data(tmp_path), recipe)
    for step in (6, 7):
        dataset[SampleKey(step, 0, 0, 64)]
    assert [strength for strength, _ in seen] == [STRONG, WEAK]
    assert (seen[0][1].mask, seen[0][1].no_mask, seen[0][1].mask_incorrect) == (0, 1, 2)


def test_all_loaders_of_a_machine_share_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.training import batches
    from maskwatch.training.batches import SampleKey, TrainingDataset

    draw_faces(tmp_path, 4)
    data = read_data(tmp_path)
    monkeypatch.setattr(batches, "CACHE_BYTES", 4 * 128 * 128 * 3)
    read: list[str] = []
    read_image = batches.read_image

    def spy(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_image(path)

    monkeypatch.setattr(batches, "read_image", spy)
    for loaders, decoded in ((1, 4), (2, 4 + 2), (8, 4 + 4)):
        dataset = TrainingDataset(data, Recipe(size=64, train_sizes=(64,), augment="flip"), loaders)
        read.clear()
        for slot in range(8):
            dataset[SampleKey(0, slot, slot % 4, 64)]
        assert len(read) == decoded


def test_jpeg_keeps_colours_as_pillow_does() -> None:
    """Stripes of red and blue, of which JPEG blurs blue far more."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::4, 0], image[::3, :, 2] = 220, 200
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)  # 4:2:0, as OpenCV
    reference = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    assert np.abs(as_jpeg(image, 50).astype(int) - reference).mean() < 2
    swapped = as_jpeg(np.ascontiguousarray(image[:, :, ::-1]), 50)[:, :, ::-1]
    assert np.abs(swapped.astype(int) - reference).mean() > 4


def test_samples_follow_from_seed_step_and_slot(tmp_path: Path) -> None:
    from maskwatch.training.batches import SampleKey, TrainingDataset

    path = tmp_path / "a.png"
    cv2.imwrite(str(path), marked_sample().image)
    marked = Sample(
        path, None, (150, 240), marked_sample().boxes_xyxy, np.array([0, 1, 2]), np.zeros(3, bool)
    )
    data = DetectionSet(("a", "b", "c"), (marked,))
    recipe = Recipe(size=64, train_sizes=(64,))
    samples = [TrainingDataset(data, recipe)[SampleKey(3, slot, 0, 64)].image for slot in (0, 0, 1)]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_ignore_regions_are_no_rare_class_and_reach_the_batch_as_such(tmp_path: Path) -> None:
    from maskwatch.training.batches import SampleKey, TrainingDataset, balanced_order

    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    boxes = np.array([[0, 0, 20, 20], [20, 20, 40, 40], [40, 40, 60, 60]], np.float32)
    marks = np.array([False, True, False])
    notes: tuple[dict[str, str], ...] = ({}, {}, {"iscrowd": "1"})
    marked = Sample(tmp_path / "x.png", None, (64, 64), boxes, np.array([0, 1, 1]), marks, notes)
    assert marked.ignore.tolist() == [False, True, True]
    rows = DetectionSet(("a", "b"), (*([labelled([0])] * 8), labelled([1]), marked))
    assert balanced_order(rows, 1.0, 1).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, *([8] * 9), 9]
    dataset = TrainingDataset(DetectionSet(("a", "b"), (marked,)), Recipe(augment="none"))
    assert dataset[SampleKey(0, 0, 0, 64)].class_ids.tolist() == [0, IGNORE_CLASS, IGNORE_CLASS]
