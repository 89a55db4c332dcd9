"""Tissue maps: one intensity per tissue, nothing of a lesion."""

from __future__ import annotations

import torch

from uadtk.networks.seeded import seeded
from uadtk.networks.tissue import class_means, tissue_map
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import LESION, healthy_slices, planted

BATCH = healthy_slices(3, 64)
EVERYWHERE = torch.ones(1, 1, 40, 40, dtype=torch.bool)
BANDS = torch.tensor([0.2, 0.5, 0.8]).repeat_interleave(torch.tensor([14, 13, 13])).expand(1, 1, 40, 40)


def test_k_means_finds_the_classes_in_each_row() -> None:
    with seeded(0):
        noise = 0.02 * torch.randn(2, 600)
    truth = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.4, 2.0]])
    members = torch.tensor([100, 400, 100])
    values = truth.repeat_interleave(members, dim=1) + noise * torch.tensor([[1.0], [0.2]])
    found = class_means(values, values > -1, 3)
    torch.testing.assert_close(found, truth, atol=5e-3, rtol=0)
    shuffled = values[:, torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(class_means(shuffled, shuffled > -1, 3), found)


def test_means_are_of_what_counts_alone() -> None:
    values = torch.tensor([[1.0, 1.0, 3.0, 3.0, 50.0]])
    counted = torch.tensor([[True, True, True, True, False]])
    assert class_means(values, counted, 2).tolist() == [[1.0, 3.0]]
    assert class_means(values, counted | True, 2).tolist() == [[2.0, 50.0]]


def test_no_class_is_made_of_nothing() -> None:
    """All the same, and nothing at all."""
    values = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    counted = torch.tensor([[True] * 3, [False] * 3])
    assert class_means(values, counted, 3).tolist() == [[0.5] * 3, [0.0] * 3]


def test_a_map_has_one_intensity_per_tissue() -> None:
    """Three bands under noise are three bands without it; at their borders the map is smooth."""
    with seeded(0):
        noisy = BANDS + 0.05 * torch.randn(1, 1, 40, 40)
    found = tissue_map(noisy, EVERYWHERE, EVERYWHERE, 3)
    for columns in (slice(0, 9), slice(19, 22), slice(32, 40)):
        torch.testing.assert_close(found[..., columns], BANDS[..., columns], atol=0.02, rtol=0)
        assert found[..., columns].std() < 1e-4
    assert ((found[..., 14] > 0.25) & (found[..., 14] < 0.5)).all()


def test_as_many_tissues_as_asked_for() -> None:
    """A ramp becomes stairs; the blur makes of each step five."""
    ramp = torch.linspace(0, 1, 60).expand(1, 1, 60, 60)
    inside = torch.ones_like(ramp, dtype=torch.bool)
    for tissues in (2, 5):
        rises = tissue_map(ramp, inside, inside, tissues)[0, 0, 30].diff()
        assert (rises > 1e-5).sum() == 5 * (tissues - 1)


def test_nothing_outside_the_brain() -> None:
    found = tissue_map(BATCH.image + 0.3, BATCH.brain, BATCH.normal, 3)
    assert not found[~BATCH.brain].any()
    assert (found[BATCH.brain] > 0).all()


def test_the_rim_of_the_brain_is_not_taken_for_a_darker_tissue() -> None:
    """Smoothing stops at the border."""
    bright = torch.arange(40) > 20
    inside = torch.zeros_like(EVERYWHERE)
    inside[..., 10:30, 10:30] = True
    found = tissue_map((0.5 + 0.3 * bright) * inside, inside, EVERYWHERE, 2)
    assert (found[..., 10:30, 25:30] > 0.7).all()


def test_intensities_outside_the_brain_do_not_count() -> None:
    bright = torch.where(BATCH.brain, BATCH.image, 5.0)
    expected = tissue_map(BATCH.image, BATCH.brain, BATCH.normal, 3)
    torch.testing.assert_close(tissue_map(bright, BATCH.brain, BATCH.normal, 3), expected)


def test_a_known_lesion_leaves_no_trace() -> None:
    """However bright it is, the map is the same; where it is, there is the middle class."""
    image, lesion = planted(BATCH)
    found = tissue_map(image, BATCH.brain, ~lesion, 3)
    torch.testing.assert_close(tissue_map(image + 2 * lesion, BATCH.brain, ~lesion, 3), found)
    assert found.max() < 1 < LESION
    unmarked = [tissue_map(x, BATCH.brain, BATCH.normal, 3) for x in (image, image + 2 * lesion)]
    assert not torch.allclose(*unmarked)
    hole = (torch.arange(40) - 20).abs()
    hole = ((hole[:, None] < 5) & ((torch.arange(40) - 6).abs() < 5)).expand(1, 1, 40, 40)
    filled = tissue_map(BANDS, EVERYWHERE, ~hole, 3)
    torch.testing.assert_close(filled[0, 0, 18:22, 4:8], torch.full((4, 4), 0.5), atol=0.02, rtol=0)


def test_noise_makes_no_classes() -> None:
    """Of the middle band more than a fifth of the pixels are nearer to another band; the map shows few of them."""
    with seeded(0):
        noisy = BANDS + 0.15 * torch.randn(1, 1, 40, 40)
    pixels = (noisy[..., 18:22].flatten()[:, None] - torch.tensor([0.2, 0.5, 0.8])).abs().argmin(1)
    assert (pixels != 1).float().mean() > 0.2
    found = tissue_map(noisy, EVERYWHERE, EVERYWHERE, 3)[..., 18:22]
    assert ((found - 0.5).abs() < 0.06).float().mean() > 0.95


def test_each_slice_by_itself_the_same_every_time_and_finite_when_empty() -> None:
    image, brain = BATCH.image.clone(), BATCH.brain.clone()
    image[1], brain[1] = 0, False
    given = image.clone()
    with generators_untouched():
        together = tissue_map(image, brain, BATCH.normal, 3)
    alone = [tissue_map(image[k : k + 1], brain[k : k + 1], BATCH.normal[k : k + 1], 3) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not together[1].any()
    assert together.isfinite().all()
    assert torch.equal(image, given)
    unmarked = tissue_map(image, brain, torch.zeros_like(brain), 3)
    assert not unmarked.any()  # nothing to learn from: nothing to show
