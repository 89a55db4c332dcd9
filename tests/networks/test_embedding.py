"""Random feature embedding: who is drawn, and what pairs cost, in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from uadtk.core.model import Batch
from uadtk.networks.embedding import BINS, UNKNOWN, Distance, classes, distances, divergences, draw, embedding_loss
from uadtk.networks.seeded import seeded

YES = torch.ones(2, 1, 4, 4, dtype=torch.bool)
LEFT, TOP = YES.clone(), YES.clone()
LEFT[..., 2:] = False
TOP[:, :, 2:] = False
FIRST = torch.zeros_like(YES)
FIRST[0] = True
BATCH = Batch(YES.float(), YES, YES, lesion=LEFT & FIRST, known=FIRST, hint=TOP & ~FIRST, hinted=~FIRST)
UNIT = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]])  # two in one direction, one at a right angle
KIND = torch.tensor([0, 0, 1])


def test_a_class_is_the_label_else_the_hint() -> None:
    found = classes(BATCH)
    assert torch.equal(found[0], LEFT[0].long())
    assert torch.equal(found[1], TOP[1].long())


def test_pixels_without_label_or_hint_the_dark_and_what_is_not_brain_have_no_class() -> None:
    image = BATCH.image.clone()
    image[0, 0, 0, 0], image[0, 0, 0, 1] = 0.0999, 0.1
    brain = YES.clone()
    brain[0, 0, 3, 3] = False
    found = classes(replace(BATCH, image=image, brain=brain, known=FIRST & TOP, hinted=~YES))
    expected = torch.where(FIRST & TOP, LEFT.long(), UNKNOWN)
    expected[0, 0, 0, 0] = UNKNOWN
    assert torch.equal(found, expected)
    assert classes(replace(BATCH, image=image, brain=brain))[0, 0, 3, 3] == UNKNOWN


def test_among_neighbours_the_slice_itself_decides_what_is_dark() -> None:
    dark = torch.zeros_like(BATCH.image)
    assert (classes(replace(BATCH, image=torch.cat([dark, BATCH.image, dark], 1))) != UNKNOWN).all()
    assert (classes(replace(BATCH, image=torch.cat([BATCH.image, dark, BATCH.image], 1))) == UNKNOWN).all()


@pytest.mark.parametrize(
    ("sampling", "normal", "lesion"), [("50:50", 50, 50), ("80:20", 80, 20), ("frequency", 75, 25)]
)
def test_shares_of_the_classes_with_labels_and_without(sampling: str, normal: int, lesion: int) -> None:
    """Of 1200 pixels on either side a quarter are lesion; half of them all have no class."""
    kind = torch.tensor([0, 0, 0, 1, -1, -1, -1, -1]).repeat(600)
    known = torch.arange(4800) < 2400
    with seeded(0):
        drawn = draw(kind, known, 100, sampling)  # type: ignore[arg-type]
    assert len(drawn.unique()) == len(drawn) == 200
    for side in (drawn[known[drawn]], drawn[~known[drawn]]):
        assert torch.bincount(kind[side]).tolist() == [normal, lesion]


def test_of_few_pixels_a_share_is_drawn() -> None:
    kind = torch.tensor([0] * 100 + [1] * 6 + [-1] * 50)
    drawn = draw(kind, kind >= 0, 20, "50:50")
    assert torch.bincount(kind[drawn]).tolist() == [10, 3]


def test_nothing_is_drawn_where_no_label_is_known() -> None:
    assert draw(torch.full((9,), UNKNOWN), torch.zeros(9, dtype=torch.bool), 5, "frequency").tolist() == []


def test_the_seed_decides_what_is_drawn() -> None:
    kind, known = torch.zeros(1000, dtype=torch.long), torch.arange(1000) < 500
    draws = []
    for seed in (1, 1, 2):
        with seeded(seed):
            draws.append(draw(kind, known, 10, "50:50"))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_distances_in_closed_form() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 1.0]])
    l2, cosine, angular = (distances(points, kind) for kind in ("l2", "cosine", "angular"))  # type: ignore[arg-type]
    torch.testing.assert_close(l2[0], torch.tensor([0.0, 5.0, 16.0, 1.0]))
    torch.testing.assert_close(cosine[0], torch.tensor([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)]))
    torch.testing.assert_close(angular[0], torch.tensor([0.0, 0.5, 1.0, 0.25]), rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ("l2", (2 * 1 + 2 * (1000 - 5) + 2 * (1000 - 10)) / 6),  # ordered pairs: each counts twice
        ("cosine", 0.0),  # the two of one class agree, and 1 is as far as the margin asks for
        ("angular", 0.0),
    ],
)
def test_loss_in_closed_form(distance: str, expected: float) -> None:
    loss = embedding_loss(UNIT, KIND, distance)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-5, atol=2e-4)


def test_pairs_of_two_classes_are_pushed_apart_up_to_the_margin() -> None:
    """At 45 degrees: 0.25 of half a turn, 0.25 short of the margin; one class in two directions costs its distance."""
    points = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    same, other = torch.tensor([1, 1]), torch.tensor([0, 1])
    torch.testing.assert_close(embedding_loss(points, same, "angular"), torch.tensor(0.25))
    torch.testing.assert_close(embedding_loss(points, other, "angular"), torch.tensor(0.25))
    torch.testing.assert_close(embedding_loss(points, same, "cosine"), torch.tensor(1 - math.sqrt(0.5)))
    torch.testing.assert_close(embedding_loss(points, other, "cosine"), torch.tensor(math.sqrt(0.5)))
    opposed = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(embedding_loss(opposed, other, "angular"), opposed)
    assert not gradient.any()


@pytest.mark.parametrize("distance", ["l2", "cosine", "angular"])
def test_gradients_are_finite_for_equal_and_for_empty_features(distance: str) -> None:
    points = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(embedding_loss(points, torch.tensor([0, 0, 1, 1]), distance), points)  # type: ignore[arg-type]
    assert gradient.isfinite().all()


@pytest.mark.parametrize("distance", ["l2", "cosine", "angular"])
def test_the_gradient_is_that_of_finite_differences(distance: str) -> None:
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kind = torch.tensor([0, 1, 0, 1, 0, 1])
    value = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(embedding_loss(value, kind, distance), value)  # type: ignore[arg-type]
    step = torch.zeros_like(points)
    step[2, 1] = 1e-4
    ends = [embedding_loss(points + s * step, kind, distance) for s in (1, -1)]  # type: ignore[arg-type]
    assert float(gradient[2, 1]) == pytest.approx(float(ends[0] - ends[1]) / 2e-4, rel=1e-5)


def test_fewer_than_two_cost_nothing() -> None:
    one = torch.ones(1, 3, requires_grad=True)
    loss = embedding_loss(one, torch.tensor([1]), "l2")
    assert loss == 0
    loss.backward()


def test_divergences_in_closed_form() -> None:
    """Drawn from one half of two equally full bins: KL = ln 2, and Jensen-Shannon of (1, 0) and (1/2, 1/2)."""
    everything = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    kl, js = divergences(everything[:2], everything)
    assert float(kl) == pytest.approx(math.log(2))
    assert float(js) == pytest.approx(0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)))
    assert [float(value) for value in divergences(everything, everything)] == [0, 0]
    assert [float(value) for value in divergences(everything[:0], everything)] == [0, 0]


def test_divergences_are_the_mean_over_channels() -> None:
    line = torch.arange(BINS, dtype=torch.float32)
    everything = torch.stack([line, torch.zeros(BINS)], dim=1)
    kl, _ = divergences(everything[: BINS // 4], everything)
    assert float(kl) == pytest.approx(math.log(4) / 2)


@pytest.mark.parametrize("distance", ["l2", "cosine", "angular"])
def test_under_bfloat16_the_loss_and_its_gradient_are_those_of_float32(distance: Distance) -> None:
    torch.manual_seed(0)
    near = (torch.ones(6, 4) + 1e-3 * torch.randn(6, 4)).requires_grad_()  # as alike as features become
    kind = torch.tensor([0, 0, 0, 1, 1, 1])
    (exact,) = torch.autograd.grad(embedding_loss(near, kind, distance), near)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = embedding_loss(near, kind, distance)
    (reduced,) = torch.autograd.grad(loss, near)
    assert exact.isfinite().all()
    torch.testing.assert_close(reduced, exact)
