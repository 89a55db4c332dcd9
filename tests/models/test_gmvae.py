from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.constant import constant, count
from uadtk.models.gmvae import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch, UsageError
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)
DIM_W, DIM_Z = 2, 3
NAMES = ("reconstruction", "conditional", "w", "component")


def model(**options: Any) -> Model:
    with seeded(1):
        return Model(Options(**{"components": 4, "dim_w": DIM_W, "dim_z": DIM_Z, **options}), 32).eval()


def settled(w: tuple[float, float], z: tuple[float, float], **options: Any) -> Model:
    """Grey whatever it sees; (mean, log variance) of w and z are these, and the components N(0, 1)."""
    grey = constant(model(**options), 0.25)
    with torch.no_grad():
        for head, value in zip(grey.latent.heads, (*w, *z), strict=True):
            head.bias.fill_(value)
    return grey


def kl(mean: float, log_variance: float) -> float:
    """From N(0, 1)."""
    return 0.5 * (mean**2 + math.exp(log_variance) - log_variance - 1)


def test_parameters_of_the_study() -> None:
    """Unified network with two layers of 1024 to 128 and two of 1024 to 1, and 9 components of 128 linear in one w."""
    network = 666_752 + 691_489 + (128 * 16 + 16) + (128 * 1024 + 1024) + (16 * 128 + 128)
    heads, prior = 2 * (1025 * 1 + 1025 * 128), 2 * (9 * 128 + 9 * 128)
    assert count(Model(Options(), 128)) == network + heads + prior


@pytest.mark.parametrize(("c_lambda", "component"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_loss_is_the_error_and_three_divergences(c_lambda: float, component: float) -> None:
    """Four equal components: nothing tells which z is from, so q(c) is uniform and costs the floor."""
    grey = settled((0.5, -1.0), (-2.0, 0.5), c_lambda=c_lambda)
    error = (BATCH.image - 0.25).abs().flatten(1).sum(1)
    expected = (error.mean(), *(torch.tensor(v) for v in (DIM_Z * kl(-2, 0.5), DIM_W * kl(0.5, -1), component)))
    losses = grey.training_loss(BATCH)
    torch.testing.assert_close(tuple(losses[name] for name in NAMES), expected)
    torch.testing.assert_close(losses["loss"], sum(expected))
    torch.testing.assert_close(grey.objective(BATCH.image), error + sum(expected[1:]))


def test_only_normal_pixels_are_learned() -> None:
    half = Batch(BATCH.image, BATCH.brain, BATCH.image > 0.5)
    found = settled((0, 0), (0, 0)).training_loss(half)["reconstruction"]
    torch.testing.assert_close(found, (BATCH.image - 0.25).abs()[BATCH.image > 0.5].sum() / 2)


def test_the_responsibilities_of_the_authors_code_are_an_option() -> None:
    """Two components around z = 0, one narrower by e^2: they know it by 3 numbers times 1, the code by 3 times -2."""
    for form, log_odds in (("correct", 3.0), ("legacy", -6.0)):
        grey = settled((0, 0), (0, 0), components=2, c_lambda=0.0, responsibilities=form)
        with torch.no_grad():
            grey.latent.log_precisions.bias[DIM_Z:] = 2.0
        share = 1 / (1 + math.exp(-log_odds))  # of the narrow one
        from_narrow = DIM_Z * 0.5 * (math.exp(2) - 2 - 1)
        entropy = -sum(p * math.log(p) for p in (share, 1 - share))
        found = grey.objective(BATCH.image) - (BATCH.image - 0.25).abs().flatten(1).sum(1)
        expected = share * from_narrow + math.log(2) - entropy
        torch.testing.assert_close(found, torch.full((2,), expected), atol=2e-4, rtol=1e-4)


def test_z_is_drawn_in_training_and_for_samples_and_is_the_mean_for_a_reconstruction() -> None:
    gm = settled((0, 0), (3.0, -4.0), dim_z=4096)
    seen = []
    gm.net.decode = lambda z: seen.append(z) or BATCH.image + z.mean()
    with seeded(2):
        gm.training_loss(BATCH)
        gm.sample(BATCH.image, 2)
    trained, *samples = seen
    for z in seen:
        assert z.mean().item() == pytest.approx(3, abs=0.01)
        assert z.std().item() == pytest.approx(math.exp(-2), rel=0.05)  # a head is log σ², not log σ
    assert not torch.equal(trained[0], trained[1])
    assert not torch.equal(*samples)
    seen.clear()
    with generators_untouched():
        gm.reconstruct(BATCH.image)
        gm.objective(BATCH.image)
    assert all((z == 3).all() for z in seen)
    assert len(seen) == 2


def test_samples_are_shaped_like_images() -> None:
    assert model().sample(BATCH.image, 3).shape == (3, 2, 1, 32, 32)


def test_nothing_drops_out() -> None:
    gm = model()
    with seeded(2):
        training = gm.train().training_loss(BATCH)
    with seeded(2):
        judging = gm.eval().training_loss(BATCH)
    torch.testing.assert_close(training, judging, rtol=0, atol=0)


def test_the_objective_is_per_slice() -> None:
    """A slice costs as much among others as alone, and differs from its neighbour."""
    gm = model(c_lambda=0.0)
    together = gm.objective(BATCH.image)
    alone = torch.cat([gm.objective(BATCH.image[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(together, alone)
    assert together[0] != together[1]


def test_the_objective_is_the_loss_when_nothing_is_left_to_chance() -> None:
    gm = model()
    with torch.no_grad():
        for head in (gm.latent.heads[1], gm.latent.heads[3]):
            head.weight.zero_()
            head.bias.fill_(-40.0)
    torch.testing.assert_close(gm.objective(BATCH.image).mean(), gm.training_loss(BATCH)["loss"])


def test_the_image_comes_from_z_and_all_else_learns_from_the_divergences() -> None:
    gm = model(c_lambda=0.0)
    weights = [(name, p) for name, p in gm.named_parameters() if name.endswith("weight")]
    with seeded(2):
        gm.training_loss(BATCH)["reconstruction"].backward()
    unreached = {name for name, p in weights if p.grad is None}
    assert unreached == {f"latent.{part}.weight" for part in ("heads.0", "heads.1", "means", "log_precisions")}
    with seeded(2):
        gm.training_loss(BATCH)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for _, p in weights)


def test_slices_too_small_to_be_halved() -> None:
    with pytest.raises(UsageError, match="slices of 8 pixels"):
        Model(Options(), 8)
