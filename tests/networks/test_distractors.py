"""Bright things that are no lesions."""

from __future__ import annotations

import torch

from uadtk.networks.distractors import distracted, ventricles
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

SLICES = healthy_slices(64, 64)
PIXEL_MM = 3.0


def drawn(seed: int = 0) -> torch.Tensor:
    with generators_untouched():
        return distracted(SLICES.image, SLICES.brain, PIXEL_MM, torch.Generator().manual_seed(seed))


def test_ventricles_are_dark_and_deep() -> None:
    found = ventricles(SLICES.image, SLICES.brain, PIXEL_MM)
    dark = (SLICES.image < 0.35) & SLICES.brain
    assert not (found & ~dark).any()
    assert found.sum() > 0.7 * dark.sum()
    sulcus = torch.full((1, 1, 128, 128), 0.8)
    sulcus[..., 63:65] = 0.1  # 3 mm wide, and as deep in the brain as can be
    assert not ventricles(sulcus, sulcus > 0, 1.5).any()
    sulcus[..., 60:68] = 0.1
    assert ventricles(sulcus, sulcus > 0, 1.5).any()
    rim = SLICES.image.clone()
    rim[..., :10, :] = 0.1  # dark too, and not deep
    assert not ventricles(rim, SLICES.brain, PIXEL_MM)[..., :10, :].any()


def test_some_slices_change_and_some_do_not() -> None:
    ratio = (drawn() - SLICES.image).abs().flatten(1).amax(1)
    assert (ratio > 0.1).float().mean() > 0.5
    assert (ratio < 0.02).any()


def test_they_are_bright_and_nothing_is_outside_the_brain() -> None:
    made = drawn()
    assert made.isfinite().all()
    assert not made[~SLICES.brain].any()
    change = made - SLICES.image
    assert change.max() > 0.3
    assert change.min() > -0.15  # ghosts alone take something away, and little


def test_seeded() -> None:
    given = SLICES.image.clone()
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert torch.equal(SLICES.image, given)


def test_an_empty_slice_stays_empty() -> None:
    nothing = torch.zeros(2, 1, 64, 64)
    assert not distracted(nothing, nothing > 0, PIXEL_MM, torch.Generator().manual_seed(0)).any()
