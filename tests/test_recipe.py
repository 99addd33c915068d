"""Recipes: the built-in ones, files, overrides, and the messages for what is wrong."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from maskwatch.errors import RecipeError
from maskwatch.training.recipe import (
    RENAMED_KEYS,
    RENAMED_VALUES,
    Recipe,
    built_in,
    load_recipe,
    plain,
    recipe_of,
)


def test_the_default_recipe_is_written_once() -> None:
    assert built_in() == ("default", "fast", "seed")
    assert load_recipe("default") == Recipe()


def test_seed_is_the_original_pipeline_config() -> None:
    from maskwatch.training.module import cosine_with_warmup

    seed = load_recipe("seed")
    assert (seed.size, seed.resize, seed.train_sizes, seed.batch_size) == (640, "squash", (640,), 8)
    assert (seed.optimizer, seed.momentum, seed.l2) == ("sgd", 0.9, 4e-5)
    assert (seed.matcher, seed.loss, seed.augment) == ("iou", "ssd", "ssd")
    assert (seed.steps, seed.schedule_steps, seed.bn_momentum) == (8000, 50_000, pytest.approx(0.003))
    rate = cosine_with_warmup(
        8000,
        base=seed.learning_rate,
        total_steps=seed.schedule_steps,
        warmup_rate=seed.warmup_learning_rate,
        warmup_steps=seed.warmup_steps,
    )
    assert rate == pytest.approx(0.0760388, abs=1e-7)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("steps = 12\nlearning_rate = 1\ntrain_sizes = [64, 96]\nprecision = 32\n")
    recipe = load_recipe(path, ["steps=20", "matcher=iou", 'loss="ssd"'])
    assert recipe == dataclasses.replace(
        Recipe(),
        name="mine",
        steps=20,
        learning_rate=1.0,
        train_sizes=(64, 96),
        precision="32",
        matcher="iou",
        loss="ssd",
    )


OLD_NAMES = """
backbone_rate = 1.0
average_decay = 0.5
norm_momentum = 0.2
first_phase = 0.25
resting_blocks = 2
mild_phase = 0.75
warmup_rate = 0.125
loss = "quality"
"""
OLD_AS_NEW = dataclasses.replace(
    Recipe(), name="old", backbone_lr_mult=1.0, ema_decay=0.5, bn_momentum=0.2, bn_update_fraction=0.25,
    frozen_blocks=2, no_aug_fraction=0.75, warmup_learning_rate=0.125, loss="gfl",
)  # fmt: skip


def test_earlier_names_in_a_file_count_and_warn(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(OLD_NAMES)
    with pytest.warns(DeprecationWarning, match="deprecated; use") as caught:
        assert load_recipe(path) == OLD_AS_NEW
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(RENAMED_KEYS) + len(RENAMED_VALUES) == 8
    assert "the recipe key resting_blocks is deprecated; use frozen_blocks" in messages
    assert "loss = 'quality' is deprecated; use 'gfl'" in messages


def test_earlier_names_in_settings_win_over_the_recipe() -> None:
    with pytest.warns(DeprecationWarning, match="mild_phase is deprecated; use no_aug_fraction"):
        assert load_recipe("fast", ["mild_phase=0.5"]).no_aug_fraction == 0.5
    with pytest.raises(RecipeError, match="ema_decay is given twice, once under its earlier name"):
        load_recipe("default", ["ema_decay=0.5", "average_decay=0.6"])


def test_earlier_names_in_checkpoints_need_no_warning() -> None:
    assert recipe_of(tomllib.loads(OLD_NAMES) | {"name": "old"}) == OLD_AS_NEW
    assert set(RENAMED_KEYS.values()) <= set(Recipe.__dataclass_fields__)
    assert not set(RENAMED_KEYS) & set(Recipe.__dataclass_fields__)


def test_plain_values_and_back() -> None:
    for name in built_in():
        recipe = load_recipe(name)
        assert recipe_of(plain(recipe)) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rte=1e-3", "did you mean 'learning_rate'"),
        ("steps=1.5", "must be of type int"),
        ("steps=true", "must be of type int"),
        ("steps=0", "must be at least 1"),
        ("size=100", "must be a multiple of 32"),
        ("train_sizes=[]", "must be multiples of 32"),
        ("data_weights=[2, 0]", "must be positive numbers"),
        ("data_weights=[2, -1]", "must be positive numbers"),
        ("data_weights=[1, nan]", "must be positive numbers"),
        ("data_weights=[1, 1001]", "none more than 1000 times another"),
        ("matcher=best", "is not one of atss, iou"),
        ("ema_decay=1.0", "must be from 0 to below 1"),
        ("clip_norm=-1", "must not be negative"),
        ("steps", "is not key=value"),
    ],
)
def test_what_is_wrong_is_said(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("default", [override])


def test_no_such_recipe_and_no_toml(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="give one of default, fast, seed, or the path"):
        load_recipe("defualt")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(broken)


def test_batches_of_larger_pictures_are_smaller() -> None:
    assert Recipe(train_sizes=(320, 640, 480), batch_size=16).batch_sizes == (16, 4, 7)
    assert Recipe(train_sizes=(64, 640), batch_size=1).batch_sizes == (1, 1)


def test_warm_up_and_decay_by_hand() -> None:
    from maskwatch.training.module import cosine_with_warmup

    def rate(step: int) -> float:
        return cosine_with_warmup(step, base=1.0, total_steps=30, warmup_rate=0.2, warmup_steps=10)

    assert [rate(0), rate(5), rate(10), rate(20)] == pytest.approx([0.2, 0.6, 1.0, 0.5])
    assert [rate(30), rate(31)] == [0.0, 0.0]
    assert cosine_with_warmup(0, base=1.0, total_steps=30, warmup_rate=0.2, warmup_steps=0) == 1.0


def test_a_recipe_of_another_shape_does_not_break_the_network() -> None:
    import torch

    from maskwatch.network import SSD
    from maskwatch.training.checkpoint import anchors_of

    spec = anchors_of(Recipe(aspect_ratios=(0.8, 1.2), scales_per_octave=3))
    assert spec.per_cell == 6
    with torch.inference_mode():
        assert SSD(1, spec).eval()(torch.zeros(1, 3, 32, 32))[0].shape[1] == sum(spec.counts((32, 32)))
