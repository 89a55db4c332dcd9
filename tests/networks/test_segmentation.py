"""Losses of a segmentation, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from uadtk.networks.segmentation import cross_entropy, soft_dice_loss

EVERY = torch.ones(1, 1, 2, 4, dtype=torch.bool)
LESION = EVERY.clone()
LESION[..., 1:] = False  # 2 of 8 pixels
HALF = torch.zeros(1, 1, 2, 4)  # a probability of 1/2 everywhere


def test_halves_everywhere() -> None:
    assert float(soft_dice_loss(HALF, LESION, EVERY)) == pytest.approx(1 - (2 * 1 + 1) / (4 + 2 + 1))
    assert float(cross_entropy(HALF, LESION, EVERY)) == pytest.approx(math.log(2))


def test_perfect_and_wrong() -> None:
    right = torch.where(LESION, 50.0, -50.0)
    for loss in (soft_dice_loss, cross_entropy):
        assert float(loss(right, LESION, EVERY)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice_loss(-right, LESION, EVERY)) == pytest.approx(1 - 1 / 9)
    assert float(cross_entropy(-right, LESION, EVERY)) == pytest.approx(50)


def test_what_does_not_count_has_no_part() -> None:
    logits = torch.where(LESION, 3.0, 0.0)
    assert float(soft_dice_loss(logits, LESION, ~LESION)) == pytest.approx(1 - 1 / (6 * 0.5 + 1))
    assert float(cross_entropy(logits, LESION, ~LESION)) == pytest.approx(math.log(2))


def test_where_nothing_counts_the_loss_is_0_with_a_gradient_of_0() -> None:
    logits = HALF.clone().requires_grad_()
    loss = soft_dice_loss(logits, LESION, ~EVERY) + cross_entropy(logits, LESION, ~EVERY)
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient.any()


def test_a_hundred_times_more_background_leaves_dice_as_it_is() -> None:
    """Of background that is recognised; cross-entropy it makes a hundredth."""
    wide = torch.zeros(1, 1, 200, 4, dtype=torch.bool)
    wide[:, :, :2] = LESION
    few, many = (torch.where(mask, -1.0, -50.0) for mask in (LESION, wide))
    assert float(soft_dice_loss(few, LESION, EVERY)) == pytest.approx(float(soft_dice_loss(many, wide, wide | True)))
    assert float(cross_entropy(few, LESION, EVERY)) == pytest.approx(
        100 * float(cross_entropy(many, wide, wide | True))
    )
