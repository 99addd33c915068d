"""Assignment of anchors, and the losses on it, on cases small enough to work out by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from maskwatch.network.loss import Targets


def four_anchors() -> Tensor:
    import torch

    return torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 16], [20, 20, 30, 30], [40, 40, 50, 50]])


def test_iou_matching_takes_the_best_and_forces_the_rest() -> None:
    import torch

    from maskwatch.network.matching import UNMATCHED, match_iou

    boxes = torch.tensor([[0.0, 0, 10, 15], [24, 24, 34, 34]])  # IoU 0.67, 0.94 with the first two; 0.22
    assert match_iou(four_anchors(), boxes, (64, 64)).tolist() == [0, 0, 1, UNMATCHED]


def test_the_first_of_two_ground_truths_keeps_a_forced_anchor() -> None:
    import torch

    from maskwatch.network.matching import UNMATCHED, match_iou

    boxes = torch.tensor([[41.0, 41, 44, 44], [46, 46, 49, 49]])  # both overlap only the last anchor
    assert match_iou(four_anchors(), boxes, (64, 64)).tolist() == [UNMATCHED] * 3 + [0]


def test_no_ground_truth_matches_nothing() -> None:
    import torch

    from maskwatch.network.matching import UNMATCHED, match_atss, match_iou

    none = torch.zeros(0, 4)
    assert match_iou(four_anchors(), none, (64, 64)).tolist() == [UNMATCHED] * 4
    assert match_atss(four_anchors(), none, [4]).tolist() == [UNMATCHED] * 4


def test_atss_gives_a_tiny_face_its_own_anchors() -> None:
    """A face of 6 px overlaps no anchor by half, but the one whose centre it holds is taken."""
    import torch

    from maskwatch.network.anchors import AnchorSpec, anchors_xyxy
    from maskwatch.network.matching import match_atss

    spec = AnchorSpec(aspect_ratios=(1.0,), scales_per_octave=1)
    anchors = anchors_xyxy(spec, (64, 64))
    matches = match_atss(anchors, torch.tensor([[25.0, 25, 31, 31]]), spec.counts((64, 64)))
    matched = anchors[matches == 0]
    centres = (matched[:, :2] + matched[:, 2:]) / 2
    assert centres.tolist() == [[28, 28]]


def test_atss_keeps_to_anchors_of_the_faces_size() -> None:
    import torch

    from maskwatch.network.anchors import AnchorSpec, anchors_xyxy
    from maskwatch.network.matching import match_atss

    spec = AnchorSpec(aspect_ratios=(1.0,), scales_per_octave=1)
    anchors = anchors_xyxy(spec, (256, 256))
    matches = match_atss(anchors, torch.tensor([[64.0, 64, 192, 192]]), spec.counts((256, 256)))
    sizes = {round(float(w)) for w in (anchors[:, 2] - anchors[:, 0])[matches == 0]}
    assert sizes == {128}


def test_atss_takes_the_deviation_of_a_sample() -> None:
    """IoU 0.6, 0.55 and three of 0.2: mean 0.35, deviation 0.206 (0.184 divided by five)."""
    import torch

    from maskwatch.network.matching import UNMATCHED, match_atss

    heights = (6, 5.5, 2, 2, 2)
    anchors = torch.tensor([[0.0, 0, 10, height] for height in heights])
    box = torch.tensor([[0.0, 0, 10, 10]])
    assert match_atss(anchors, box, [5], 5).tolist() == [0, *[UNMATCHED] * 4]
    assert match_atss(anchors[:1], box, [1]).tolist() == [0]


coordinate = st.integers(0, 120)
box = st.tuples(coordinate, coordinate, st.integers(1, 128), st.integers(1, 128))


@settings(deadline=None, max_examples=50)
@given(st.lists(box, min_size=1, max_size=8))
def test_atss_leaves_no_ground_truth_without_an_anchor(corners: list[tuple[int, int, int, int]]) -> None:
    import torch

    from maskwatch.network.anchors import AnchorSpec, anchors_xyxy
    from maskwatch.network.matching import UNMATCHED, match_atss

    spec = AnchorSpec(aspect_ratios=(1.0,))
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners], dtype=torch.float32)
    matches = match_atss(anchors_xyxy(spec, (128, 128)), boxes, spec.counts((128, 128)))
    assert set(matches.tolist()) - {UNMATCHED} == set(range(len(boxes)))


def _targets(matches: list[int], boxes: torch.Tensor, classes: list[int]) -> list[Targets]:
    import torch

    from maskwatch.network.loss import Targets

    return [Targets(torch.tensor(matches), boxes, torch.tensor(classes, dtype=torch.int64))]


def test_ssd_loss_by_hand() -> None:
    import torch

    from maskwatch.network.loss import ssd_loss

    boxes = torch.tensor([[1.0, 0, 11, 10]])  # one pixel to the right of the first anchor: tx = 1
    encodings, logits = torch.zeros(1, 4, 4), torch.zeros(1, 4, 3)
    losses = ssd_loss(encodings, logits, four_anchors(), _targets([0, -1, -1, -1], boxes, [1]))
    assert float(losses.localization) == pytest.approx(0.5 / 4)  # Huber 0.5·1², by the four codes
    # Every logit is 0: p = 0.5. One positive of weight 0.25, eleven negatives of weight 0.75, (1/2)², ln 2.
    assert float(losses.classification) == pytest.approx((0.25 + 11 * 0.75) * 0.25 * math.log(2))


def test_quality_loss_is_nothing_for_perfect_answers() -> None:
    import torch

    from maskwatch.network.boxes import encode
    from maskwatch.network.loss import gfl_loss

    boxes = torch.tensor([[2.0, 1, 9, 12], [38, 41, 52, 50]])
    encodings, logits = torch.zeros(1, 4, 4), torch.full((1, 4, 3), -30.0)
    encodings[0, 0], encodings[0, 3] = (
        encode(boxes[0], four_anchors()[0]),
        encode(boxes[1], four_anchors()[3]),
    )
    logits[0, 0, 1] = logits[0, 3, 2] = 30.0
    targets = _targets([0, -1, -1, 1], boxes, [0, 1])
    losses = gfl_loss(encodings, logits, four_anchors(), targets)
    assert float(losses.localization) == pytest.approx(0, abs=1e-5)
    assert float(losses.classification) == pytest.approx(0, abs=1e-5)
    swapped = _targets([0, -1, -1, 1], boxes, [1, 0])
    assert float(gfl_loss(encodings, logits, four_anchors(), swapped).classification) > 10


@pytest.mark.parametrize("name", ["ssd_loss", "gfl_loss"])
def test_losses_of_pictures_without_a_face_are_finite(name: str) -> None:
    import torch

    from maskwatch.network import loss

    encodings, logits = torch.zeros(1, 4, 4, requires_grad=True), torch.zeros(1, 4, 3, requires_grad=True)
    losses = getattr(loss, name)(encodings, logits, four_anchors(), _targets([-1] * 4, torch.zeros(0, 4), []))
    (losses.localization + losses.classification).backward()
    assert float(losses.localization.detach()) == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert encodings.grad is not None
    assert torch.isfinite(encodings.grad).all()


def test_anchors_of_ignore_regions_are_marked_and_those_of_faces_kept() -> None:
    import torch

    from maskwatch.network.matching import IGNORED, UNMATCHED, ignore_anchors, match_iou

    def match(boxes: torch.Tensor) -> torch.Tensor:
        return match_iou(four_anchors(), boxes, (64, 64))

    faces = torch.tensor([[0.0, 0, 10, 10]])
    # The first region covers the anchors of the face as well, the second just over half of the third anchor,
    # the third region is small: no anchor lies in it, and the last one owns it.
    regions = torch.tensor([[0.0, 0, 12, 30], [20, 20, 30, 25.5], [43, 43, 46, 46]])
    matches = match(faces)
    assert matches.tolist() == [0, 0, UNMATCHED, UNMATCHED]
    assert ignore_anchors(matches, four_anchors(), regions, match).tolist() == [0, 0, IGNORED, IGNORED]
    assert ignore_anchors(match(torch.zeros(0, 4)), four_anchors(), regions[:1], match).tolist() == [
        IGNORED,
        IGNORED,
        UNMATCHED,
        UNMATCHED,
    ]
    assert ignore_anchors(matches, four_anchors(), torch.zeros(0, 4), match) is matches


@pytest.mark.parametrize("name", ["ssd_loss", "gfl_loss"])
def test_ignored_anchors_are_asked_nothing(name: str) -> None:
    """Their logits get no gradient, and the others count as if the ignored ones were not there."""
    import torch

    from maskwatch.network import loss
    from maskwatch.network.matching import IGNORED

    boxes = torch.tensor([[1.0, 0, 11, 10]])
    encodings = torch.zeros(1, 4, 4)
    logits = torch.linspace(-2, 2, 12).reshape(1, 4, 3).requires_grad_()
    function, targets = getattr(loss, name), _targets([0, IGNORED, -1, IGNORED], boxes, [1])
    losses = function(encodings, logits, four_anchors(), targets)
    losses.classification.backward()
    assert logits.grad is not None
    assert (logits.grad[0, [1, 3]] == 0).all()
    assert (logits.grad[0, [0, 2]] != 0).all()
    fewer = encodings[:, [0, 2]], logits[:, [0, 2]], four_anchors()[[0, 2]]
    without = function(*fewer, _targets([0, -1], boxes, [1]))
    assert losses.classification.item() == pytest.approx(without.classification.item())
    assert losses.localization.item() == pytest.approx(without.localization.item())
