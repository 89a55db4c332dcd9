"""Randomness inside the block is decided by the seed; outside, nothing has happened."""

from __future__ import annotations

import pytest
import torch

from uadtk.networks.seeded import seeded


def test_the_seed_decides_what_is_drawn() -> None:
    with seeded(1):
        first = torch.rand(8)
    torch.rand(3)
    with seeded(1):
        second = torch.rand(8)
    with seeded(2):
        other = torch.rand(8)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(first, torch.rand(8, generator=torch.Generator().manual_seed(1)))


def test_the_global_generator_goes_on_as_if_nothing_was() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(9)
        undisturbed = torch.rand(6)
        torch.manual_seed(9)
        before = torch.rand(3)
        with seeded(1):
            torch.rand(100)
        after = torch.rand(3)
    assert torch.equal(torch.cat([before, after]), undisturbed)


def test_also_after_an_error_and_when_nested() -> None:
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(1):
        torch.rand(2) @ torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(1):
        outer = torch.rand(2)
        with seeded(2):
            torch.rand(5)
        rest = torch.rand(2)
    assert torch.equal(torch.cat([outer, rest]), torch.rand(4, generator=torch.Generator().manual_seed(1)))
