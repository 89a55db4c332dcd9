from __future__ import annotations

import torch

from uadtk.networks.context import cut_squares
from uadtk.networks.seeded import seeded


def box(n: int, side: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    brain = torch.zeros(n, 1, side, side, dtype=torch.bool)
    brain[:, :, top:bottom, left:right] = True
    return brain


def cut_out(brain: torch.Tensor, most: int, edge: int, seed: int = 0) -> torch.Tensor:
    """Where ones became zeros; nothing else may have happened."""
    image = torch.ones(brain.shape)
    with seeded(seed):
        cut = cut_squares(image, brain, most, edge)
    assert torch.equal(image, torch.ones(brain.shape))
    assert set(cut.unique().tolist()) <= {0.0, 1.0}
    return cut == 0


def test_every_slice_loses_other_squares() -> None:
    """The study's code cuts the last slice's squares out of all of them."""
    holes = cut_out(box(8, 32, 0, 32, 0, 32), most=1, edge=6)
    assert len({tuple(hole.flatten().tolist()) for hole in holes}) == 8
    assert all(hole.sum() == 36 for hole in holes)


def test_one_to_most_squares() -> None:
    """Squares of one pixel in a wide box hardly ever meet."""
    areas = cut_out(box(60, 64, 0, 64, 0, 64), most=3, edge=1).flatten(1).sum(1)
    assert set(areas.tolist()) == {1, 2, 3}
    assert all((areas == n).sum() > 8 for n in (1, 2, 3))


def test_squares_lie_in_the_brains_box_and_reach_all_of_it() -> None:
    brain = box(200, 32, 4, 9, 20, 27)
    brain[:, :, 5:8, 21:26] = False  # the box counts, not what is in it
    holes = cut_out(brain, most=2, edge=4)
    assert torch.equal(holes.any(0, keepdim=True), box(1, 32, 4, 9, 20, 27))
    rows = [tuple(hole[0].any(1).nonzero().flatten().tolist()) for hole in holes]
    assert {(4, 5, 6, 7), (5, 6, 7, 8)} <= set(rows)


def test_a_brain_smaller_than_a_square_stays_whole() -> None:
    assert not cut_out(box(3, 32, 10, 16, 0, 32), most=3, edge=7).any()
    assert not cut_out(box(3, 32, 0, 0, 0, 0), most=3, edge=1).any()
    assert cut_out(box(3, 32, 10, 16, 0, 32), most=3, edge=6).flatten(1).any(1).all()
