"""Domain randomisation: wide, on scale, seeded, and nothing outside the brain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.networks.fields import percentile, spread
from uadtk.networks.randomise import BIAS, SCALE, acquired, moved, recoloured, shading
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

PIXEL_MM = 1.625
SLICES = healthy_slices(64, 128)
IMAGE, BRAIN = SLICES.image, SLICES.brain


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_three(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(seed)
    image, (brain,) = moved(IMAGE[:8], [BRAIN[:8]], PIXEL_MM, generator)
    return acquired(recoloured(image, brain, generator), brain, PIXEL_MM, generator)


def test_one_seed_gives_the_same_bytes_and_no_other_generator_is_drawn_from() -> None:
    kept = IMAGE.clone()
    with generators_untouched():
        one, two, other = all_three(5), all_three(5), all_three(6)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])
    assert torch.equal(IMAGE, kept)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([32, 64, 128]), st.floats(0.5, 3), st.integers(1, 3))
def test_whatever_the_slices_images_are_finite_in_range_and_empty_outside(
    seed: int, side: int, pixel_mm: float, n: int
) -> None:
    slices, generator = healthy_slices(n, side), seeded(seed)
    image, (brain,) = moved(slices.image, [slices.brain], pixel_mm, generator)
    image, brain = acquired(recoloured(image, brain, generator), brain, pixel_mm, generator)
    assert image.shape == brain.shape == slices.image.shape
    assert (image.dtype, brain.dtype) == (torch.float32, torch.bool)
    assert image.isfinite().all()
    assert image.min() >= 0
    assert not image[~brain].any()


def test_empty_slices_stay_finite() -> None:
    nothing, generator = torch.zeros(2, 1, 64, 64), seeded()
    image = recoloured(nothing, nothing > 0, generator)
    image, brain = acquired(image, nothing > 0, PIXEL_MM, generator)
    assert image.isfinite().all()
    assert not image[~brain].any()


def test_masks_move_with_the_image() -> None:
    bright = torch.where(BRAIN, 1.0, 0.0)
    image, (brain, nothing) = moved(bright, [BRAIN, BRAIN & False], PIXEL_MM, seeded())
    assert ((image > 0.5) == brain).all()
    assert not nothing.any()


def test_half_are_flipped_and_none_is_upside_down() -> None:
    marked = torch.zeros_like(IMAGE)
    marked[..., 40:50, 70:80] = 1  # above and right of the centre
    image, _ = moved(marked, [BRAIN], PIXEL_MM, seeded())
    at = torch.arange(128.0)
    mass = image.sum(dim=(1, 2, 3))
    x, y = (image.sum(dim=(1, 2)) * at).sum(1) / mass - 63.5, (image.sum(dim=(1, 3)) * at).sum(1) / mass - 63.5
    assert 0.3 < (x < 0).float().mean() < 0.7
    assert (y < 0).float().mean() > 0.9


def test_size_and_place_vary_within_limits() -> None:
    _, (brain,) = moved(IMAGE, [BRAIN], PIXEL_MM, seeded())
    area = brain.float().mean(dim=(1, 2, 3)) / BRAIN.float().mean(dim=(1, 2, 3))
    assert 0.72 < area.min() < 0.9
    assert 1.1 < area.max() < 1.35
    at = torch.arange(128.0)
    centre = (brain.sum(dim=(1, 2)) * at).sum(1) / brain.sum(dim=(1, 2, 3)) - 63.5
    assert 4 < (centre * PIXEL_MM).abs().max() < 20


def test_a_contrast_curve_depends_on_intensity_alone() -> None:
    """Two tissues of a slice stay two tissues, and other slices have other contrast."""
    steps = torch.where(torch.arange(128) < 64, 0.5, 1.0).expand(64, 1, 128, 128).contiguous()
    made = recoloured(steps, BRAIN | True, seeded())
    assert (made.flatten(1).unique(dim=1).shape[1] == 2) or all(len(one.unique()) <= 2 for one in made)
    ratio = made[:, 0, 0, 0] / made[:, 0, 0, -1]
    assert ratio.std() > 0.07
    assert 0.4 < ratio.median() < 0.6


def test_most_curves_rise_and_some_change_the_order_of_tissues() -> None:
    ramp = torch.linspace(0, 1, 128).expand(64, 1, 128, 128).contiguous()
    falls = (recoloured(ramp, BRAIN | True, seeded())[:, 0, 0].diff(dim=1) < -1e-4).any(1)
    assert 0.02 < falls.float().mean() < 0.3


def test_recolouring_keeps_the_scale() -> None:
    top = percentile(recoloured(0.4 * IMAGE, BRAIN, seeded()), BRAIN, 98)
    assert 0.7 < top.min() < top.max() < 1.4
    assert top.median() == pytest.approx(1, abs=0.05)


def test_shading_is_strong_smooth_and_not_everywhere() -> None:
    field = shading(BRAIN, PIXEL_MM, seeded()).log()
    reach = field.flatten(1).abs().amax(1)
    assert reach.max() <= 2 * BIAS + 1e-5
    assert (reach > 0.3).float().mean() > 0.2
    assert (reach < 0.1).any()
    assert field.diff(dim=3).abs().max() < 0.08


def test_the_scale_of_a_slice_ends_up_where_it_should() -> None:
    """Before noise is cut and to what a grid of pixels shows: 3 % of tolerance."""
    image, brain = acquired(3 * IMAGE, BRAIN, PIXEL_MM, seeded())
    top = percentile(image, brain, 98).flatten()
    assert 0.97 * SCALE[0] < top.min() < 1.1 * SCALE[0]
    assert 0.9 * SCALE[1] < top.max() < 1.03 * SCALE[1]


def test_some_are_blurred_some_sharpened_and_noise_differs() -> None:
    def detail(x: torch.Tensor) -> torch.Tensor:
        inside = spread(BRAIN, 12) > 0.99
        return ((x.diff(dim=3)[..., :-1, :].abs() * inside[..., 1:, 1:]).sum(dim=(1, 2, 3))) / inside.sum(dim=(1, 2, 3))

    image, _ = acquired(IMAGE, BRAIN, PIXEL_MM, seeded())
    ratio = detail(image / percentile(image, BRAIN, 98)) / detail(IMAGE / percentile(IMAGE, BRAIN, 98))
    assert (ratio < 0.9).float().mean() > 0.1
    assert (ratio > 2).float().mean() > 0.1


def test_about_half_of_the_masks_are_wrong_near_the_rim() -> None:
    """30 % by up to 3 mm, 30 % with remnants of skull."""
    _, brain = acquired(IMAGE, BRAIN, PIXEL_MM, seeded())
    wrong = (brain ^ BRAIN).flatten(1).any(1)
    assert 0.3 < wrong.float().mean() < 0.65
    deep, far = spread(BRAIN, round(12 / PIXEL_MM)) > 0.99, spread(BRAIN, round(52 / PIXEL_MM)) < 0.01
    assert brain[deep].all()
    assert not brain[far].any()
    beyond = brain & (spread(BRAIN, round(12 / PIXEL_MM)) < 0.01)  # 6 mm outside: remnants alone
    assert 0.04 < beyond.flatten(1).any(1).float().mean() < 0.3
    assert (brain & ~BRAIN).any()
    assert (BRAIN & ~brain).any()
