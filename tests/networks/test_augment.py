"""Augmentation: mild, keeps image and masks together, invents nothing outside the brain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from uadtk.core.model import Batch
from uadtk.networks.augment import augmented
from uadtk.networks.seeded import seeded


def batch(n: int = 64, side: int = 64) -> Batch:
    """An off-centre disc of 0.5 with a bright, abnormal disc in it."""
    row = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(row, row, indexing="ij")
    brain = ((x / 0.6) ** 2 + (y / 0.7) ** 2 < 1)[None, None].repeat(n, 1, 1, 1)
    spot = ((x - 0.25) ** 2 + (y - 0.1) ** 2 < 0.15**2)[None, None].repeat(n, 1, 1, 1)
    return Batch(torch.where(spot, 1.5, 0.5) * brain, brain, ~spot)


@pytest.fixture(scope="module")
def changed() -> Batch:
    with seeded(0):
        return augmented(batch())


def test_shapes_and_kinds_stay(changed: Batch) -> None:
    assert changed.image.shape == changed.brain.shape == changed.normal.shape == (64, 1, 64, 64)
    assert (changed.image.dtype, changed.brain.dtype, changed.normal.dtype) == (torch.float32, torch.bool, torch.bool)


def test_images_are_finite_not_negative_and_empty_outside_the_brain(changed: Batch) -> None:
    assert torch.isfinite(changed.image).all()
    assert (changed.image >= 0).all()
    assert not changed.image[~changed.brain].any()


def test_the_lesion_mask_moves_with_the_lesion(changed: Batch) -> None:
    """The brightest pixels, wherever they went, are those marked abnormal; a pixel of blur at the rim aside."""
    for image, normal in zip(changed.image, changed.normal, strict=True):
        bright = image > 0.75 * image.max()
        assert (bright & ~normal).sum() > 0.9 * bright.sum()
        assert (bright & ~normal).sum() > 0.7 * (~normal).sum()


def test_labels_move_with_the_image() -> None:
    given = batch(8)
    spot = ~given.normal
    with seeded(0):
        moved = augmented(replace(given, lesion=spot, known=given.brain, hint=spot, hinted=given.brain))
    for lesion, known in ((moved.lesion, moved.known), (moved.hint, moved.hinted)):
        assert torch.equal(lesion, ~moved.normal)
        assert torch.equal(known, moved.brain)


def test_neighbours_move_with_their_slice() -> None:
    given = batch(8)
    three = torch.cat([0.5 * given.image, given.image, given.image], dim=1)
    with seeded(0):
        moved = augmented(replace(given, image=three)).image
    with seeded(0):
        assert torch.equal(moved[:, 1:2], augmented(given).image)
    assert torch.equal(moved[:, 1], moved[:, 2])
    assert torch.equal(moved[:, 0] > 0, moved[:, 1] > 0)


def test_it_is_mild(changed: Batch) -> None:
    """Size to 8 % along each axis and no further: the areas stay within 1 / 0.92² and 1 / 1.08²."""
    area = changed.brain.float().mean(dim=(1, 2, 3)) / batch().brain[0].float().mean()
    assert 0.83 < area.min() < 0.95
    assert 1.05 < area.max() < 1.21
    row = torch.linspace(-1, 1, 64)
    centre = (changed.brain * row).sum(dim=(1, 2, 3)) / changed.brain.sum(dim=(1, 2, 3))
    assert 0.04 < centre.abs().max() < 0.1


def test_about_half_are_flipped_and_none_upside_down(changed: Batch) -> None:
    row = torch.linspace(-1, 1, 64)
    spot = ~changed.normal
    x = (spot * row).sum(dim=(1, 2, 3)) / spot.sum(dim=(1, 2, 3))
    y = (spot * row[:, None]).sum(dim=(1, 2, 3)) / spot.sum(dim=(1, 2, 3))
    assert 0.3 < (x < 0).float().mean() < 0.7
    assert (y - 0.1).abs().max() < 0.2
    assert (x.abs() - 0.25).abs().max() < 0.2


def test_contrast_changes_differ_between_images(changed: Batch) -> None:
    inside = torch.stack(
        [image[normal & (image > 0.3)].median() for image, normal in zip(changed.image, changed.normal, strict=True)]
    )
    assert 0.5**1.15 - 0.01 < inside.min() < 0.48
    assert 0.52 < inside.max() < 0.5**0.85 + 0.01


def test_the_seed_decides_and_the_batch_given_is_left_alone() -> None:
    given, kept = batch(4), batch(4)
    with seeded(3):
        first = augmented(given)
    with seeded(3):
        second = augmented(given)
    with seeded(4):
        other = augmented(given)
    assert torch.equal(first.image, second.image)
    assert not torch.equal(first.image, other.image)
    assert torch.equal(given.image, kept.image)
    assert torch.equal(given.brain, kept.brain)
    assert torch.equal(given.normal, kept.normal)
