"""Normalised cross-correlation, beside NumPy's coefficient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uadtk.networks.ncc import LEAST, correlation, template_match

VOLUME = torch.rand(7, 9, 8, generator=torch.Generator().manual_seed(0))
TEMPLATE = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(1))


def test_it_is_pearsons_coefficient_at_every_place() -> None:
    padded = np.pad(VOLUME.numpy(), ((1, 1), (2, 2), (1, 1)))
    found = correlation(VOLUME, TEMPLATE)
    for z, y, x in ((0, 0, 0), (3, 4, 5), (6, 8, 7)):
        there = padded[z : z + 3, y : y + 5, x : x + 3]
        expected = np.corrcoef(there.ravel(), TEMPLATE.numpy().ravel())[0, 1]
        assert float(found[z, y, x]) == pytest.approx(expected, abs=1e-5)


def test_a_piece_of_the_volume_is_found_whatever_its_contrast() -> None:
    piece = VOLUME[2:5, 3:8, 1:4]
    for changed in (piece, 3 * piece + 2, -piece):
        found = correlation(VOLUME, changed).abs()
        assert found.argmax() == torch.tensor(np.ravel_multi_index((3, 5, 2), VOLUME.shape))
        assert float(found.max()) == pytest.approx(1, abs=1e-5)


def test_flat_surroundings_and_flat_templates_correlate_with_nothing() -> None:
    flat = torch.full((6, 6, 6), 0.7)
    assert not correlation(flat, torch.rand(3, 3, 3))[1:-1, 1:-1, 1:-1].any()
    assert not correlation(VOLUME, torch.ones(3, 3, 3)).any()


def test_several_templates_have_a_geometric_mean() -> None:
    templates = torch.stack([TEMPLATE, TEMPLATE.flip(0), TEMPLATE.flip(1)])
    product = torch.ones_like(VOLUME)
    for template in templates:
        product *= correlation(VOLUME, template).abs().clamp(min=LEAST)
    torch.testing.assert_close(template_match(VOLUME, templates), product ** (1 / 3))
