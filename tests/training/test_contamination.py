"""Trimming and discriminative reconstruction, on errors known in advance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uadtk.core.model import Batch, Turn
from uadtk.training.contamination import inliers, pushing_apart, separation, trimmed

GENERATOR = torch.Generator().manual_seed(0)
ERROR = torch.rand(4, 1, 10, 10, generator=GENERATOR)
BRAIN = torch.rand(4, 1, 10, 10, generator=GENERATOR) > 0.3
NORMAL = torch.rand(4, 1, 10, 10, generator=GENERATOR) > 0.2
BATCH = Batch(ERROR, BRAIN, NORMAL)


class Black(nn.Module):
    """Reconstructs nothing: the error is the image. In training mode it would be another."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.zeros(()))

    def reconstruct(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) + self.grey + (5 if self.training else 0)


def slices(*errors: float) -> Batch:
    image = torch.tensor(errors)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    yes = torch.ones_like(image, dtype=torch.bool)
    return Batch(image, yes, yes)


@pytest.mark.parametrize("percentile", [50, 90, 98])
def test_trimming_takes_the_largest_errors_among_normal_brain(percentile: float) -> None:
    model = Black().train()
    kept = trimmed(model, BATCH, percentile)
    counted = BRAIN & NORMAL
    dropped = NORMAL & ~kept.normal
    assert not (dropped & ~counted).any()
    assert not (kept.normal & ~NORMAL).any()
    assert int(dropped.sum()) == int(int(counted.sum()) * (100 - percentile) / 100)
    assert ERROR[dropped].min() > ERROR[counted & kept.normal].max()
    assert model.training
    assert kept.image is BATCH.image


def test_nothing_to_trim_is_no_error() -> None:
    none = Batch(ERROR, BRAIN, NORMAL & False)
    assert not trimmed(Black(), none, 98).normal.any()


def test_the_slices_that_are_reconstructed_best_are_kept() -> None:
    batch = slices(0.1, 0.9, 0.12, 0.11, 0.8)
    assert inliers(Black(), batch).image[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.12, 0.11])


def test_known_lesions_do_not_make_a_slice_an_outlier() -> None:
    batch = slices(0.1, 0.1, 0.12, 0.11, 0.8)
    normal = batch.normal.clone()
    batch.image[0, :, :2], normal[0, :, :2] = 50.0, False
    assert inliers(Black(), Batch(batch.image, batch.brain, normal)).image[:, 0, 3, 3].tolist() == pytest.approx(
        [0.1, 0.1, 0.12, 0.11]
    )


def test_one_slice_is_kept() -> None:
    assert len(inliers(Black(), slices(0.3)).image) == 1


def test_separation_is_the_share_of_scatter_within_the_parts() -> None:
    errors, low = torch.tensor([1.0, 2.0, 9.0, 12.0]), torch.tensor([True, True, False, False])
    within = 2 * 0.5**2 + 2 * 1.5**2
    torch.testing.assert_close(separation(errors, low), torch.tensor(within / float((errors - 6).square().sum())))
    assert separation(torch.ones(3), torch.tensor([True, False, False])) == 0


def test_the_term_is_a_share_of_the_loss_and_its_gradient_pushes_errors_apart() -> None:
    """A pixel of the worst slice among the good ones is pulled down, and one of the best among the bad pulled up."""
    shift = torch.zeros(4, requires_grad=True)

    class Shifted(Black):
        def reconstruct(self, x: Tensor) -> Tensor:
            return -shift[:, None, None, None].expand_as(x)

    batch = slices(0.1, 0.3, 0.8, 1.0)
    turn = pushing_apart(Shifted(), batch, Turn("model", lambda b: {"loss": torch.tensor(7.0)}, times=3), weight=0.5)
    assert turn.times == 3
    losses = turn.loss(inliers(Black(), batch))
    errors = torch.tensor([0.1, 0.3, 0.8, 1.0])
    apart = separation(errors, errors < 0.5)
    torch.testing.assert_close(losses["loss"], 7 * (1 + 0.5 * apart))
    (gradient,) = torch.autograd.grad(losses["loss"], shift)
    assert gradient[1] > 0 > gradient[2]
