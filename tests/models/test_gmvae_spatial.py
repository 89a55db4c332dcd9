from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.constant import constant, count
from uadtk.models.gmvae_spatial import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch, UsageError
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)
DIM_W, DIM_Z = 2, 3
PLACES = 8 * 8  # of 32 pixels halved twice, in either network
NAMES = ("reconstruction", "conditional", "w", "component")
networks = pytest.mark.parametrize("network", ["unified", "you"])


def model(**options: Any) -> Model:
    with seeded(1):
        return Model(Options(**{"components": 4, "dim_w": DIM_W, "dim_z": DIM_Z, **options}), 32).eval()


def settled(w: tuple[float, float], z: tuple[float, float], **options: Any) -> Model:
    """Grey whatever it sees; (mean, log variance) of w and z are these at every place, and the components N(0, 1)."""
    grey = constant(model(**options), 0.25)
    with torch.no_grad():
        for head, value in zip(grey.latent.heads, (*w, *z), strict=True):
            head.bias.fill_(value)
    return grey


def kl(mean: float, log_variance: float) -> float:
    """From N(0, 1)."""
    return 0.5 * (mean**2 + math.exp(log_variance) - log_variance - 1)


def decoded(gm: Model) -> list[torch.Tensor]:
    """Every z that goes into the decoder from now on."""
    seen: list[torch.Tensor] = []
    gm.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


@networks
def test_the_image_changes_when_z_is_put_to_nought(network: str) -> None:
    """The study's code decodes from the encoder's features; then z would not matter, and the image would."""
    gm = model(network=network)
    with torch.no_grad():
        before = gm.reconstruct(BATCH.image)
        nn.init.zeros_(gm.latent.heads[2].weight)
        without = gm.reconstruct(BATCH.image)
    assert not torch.allclose(before, without)
    assert not torch.allclose(before[0], before[1])
    torch.testing.assert_close(without[0], without[1])


def test_parameters_of_the_study() -> None:
    """One number of z and w at each place, and 64 ReLUs between w and 9 components."""
    latent = 4 * (128 + 1) + (64 + 64) + 2 * (64 * 9 + 9)
    assert count(Model(Options(), 128)) == 666_752 + 691_489 + (128 + 128) + latent


def test_parameters_of_you() -> None:
    """Six convolutions down, and up six and one; heads on 64 channels."""
    inner, ends = 64 * 64 * 9 + 64, (9 * 64 + 64) + (9 * 64 + 64) + (9 * 64 + 1)
    latent = 4 * (64 + 1) + (64 + 64) + 2 * (64 * 6 + 6)
    assert count(Model(Options(network="you", components=6), 128)) == 10 * inner + ends + latent


@pytest.mark.parametrize(("network", "places"), [("unified", 8), ("you", 32)])
def test_places_at_128_pixels(network: str, places: int) -> None:
    gm = Model(Options(network=network, dim_z=2), 128)
    seen = decoded(gm)
    x = torch.zeros(1, 1, 128, 128)
    assert gm.reconstruct(x).shape == x.shape
    assert seen[0].shape == (1, 2, places, places)


@networks
@pytest.mark.parametrize("c_lambda", [0.0, 0.5])
def test_the_loss_is_the_error_and_three_divergences_summed_over_places(network: str, c_lambda: float) -> None:
    """Four equal components: nothing tells which z is from, so q(c) is uniform and costs the floor at each place."""
    grey = settled((0.5, -1.0), (-2.0, 0.5), network=network, c_lambda=c_lambda)
    error = (BATCH.image - 0.25).abs().flatten(1).sum(1)
    divergences = (DIM_Z * kl(-2, 0.5), DIM_W * kl(0.5, -1), c_lambda)
    expected = (error.mean(), *(torch.tensor(PLACES * v) for v in divergences))
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
        entropy = -sum(p * math.log(p) for p in (share, 1 - share))
        per_place = share * DIM_Z * 0.5 * (math.exp(2) - 2 - 1) + math.log(2) - entropy
        error = (BATCH.image[0] - 0.25).abs().sum().item()
        assert grey.objective(BATCH.image)[0].item() == pytest.approx(error + PLACES * per_place, rel=1e-4)


def test_z_is_drawn_in_training_and_for_samples_and_is_the_mean_for_a_reconstruction() -> None:
    gm = settled((0, 0), (3.0, -4.0), dim_z=64)
    seen = decoded(gm)
    with seeded(2):
        gm.training_loss(BATCH)
        samples = gm.sample(BATCH.image, 2)
    assert samples.shape == (2, 2, 1, 32, 32)
    for z in seen:
        assert z.mean().item() == pytest.approx(3, abs=0.01)
        assert z.std().item() == pytest.approx(math.exp(-2), rel=0.05)  # a head is log σ², not log σ
        assert not torch.equal(z[0], z[1])
        assert not torch.equal(z[..., 0], z[..., 1])
    assert not torch.equal(*seen[1:])
    seen.clear()
    with generators_untouched():
        gm.reconstruct(BATCH.image)
        gm.objective(BATCH.image)
    assert all((z == 3).all() for z in seen)
    assert len(seen) == 2


def test_nothing_drops_out() -> None:
    gm = model()
    with seeded(2):
        training = gm.train().training_loss(BATCH)
    with seeded(2):
        judging = gm.eval().training_loss(BATCH)
    torch.testing.assert_close(training, judging, rtol=0, atol=0)


@networks
def test_the_objective_is_per_slice(network: str) -> None:
    """A slice costs as much among others as alone, and differs from its neighbour."""
    gm = model(network=network, c_lambda=0.0)
    together = gm.objective(BATCH.image)
    alone = torch.cat([gm.objective(BATCH.image[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(together, alone)
    assert together[0] != together[1]


@networks
def test_the_objective_is_the_loss_when_nothing_is_left_to_chance(network: str) -> None:
    gm = model(network=network)
    with torch.no_grad():
        for head in (gm.latent.heads[1], gm.latent.heads[3]):
            head.weight.zero_()
            head.bias.fill_(-40.0)
    torch.testing.assert_close(gm.objective(BATCH.image).mean(), gm.training_loss(BATCH)["loss"])


@networks
def test_the_image_comes_from_z_and_all_else_learns_from_the_divergences(network: str) -> None:
    gm = model(network=network, c_lambda=0.0)
    weights = [(name, p) for name, p in gm.named_parameters() if name.endswith("weight")]
    with seeded(2):
        gm.training_loss(BATCH)["reconstruction"].backward()
    parts = ("heads.0", "heads.1", "hidden.0", "means", "log_precisions")
    assert {name for name, p in weights if p.grad is None} == {f"latent.{part}.weight" for part in parts}
    with seeded(2):
        gm.training_loss(BATCH)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for _, p in weights)


def test_the_network_of_you_keeps_its_place_and_halves_twice() -> None:
    """Strides 2, 1, 1, 2, 1, 1, each followed by a ReLU; a change in one corner reaches z nearby only."""
    gm, x = model(network="you"), BATCH.image.clone()
    convolutions = gm.encoder[::2]
    assert [c.stride[0] for c in convolutions] == [2, 1, 1, 2, 1, 1]
    assert all(c.kernel_size == (3, 3) and c.out_channels == 64 for c in convolutions)
    assert all(isinstance(layer, nn.ReLU) for layer in gm.encoder[1::2])
    third = [nn.Conv2d, nn.ReLU] * 3 + [nn.Upsample]
    assert [type(layer) for layer in gm.decoder] == [*third, *third, nn.Conv2d]
    seen = decoded(gm)
    with torch.no_grad():
        gm.reconstruct(x)
        x[:, :, :4, :4] += 1
        gm.reconstruct(x)
    moved = (seen[1] - seen[0]).abs().amax((0, 1))
    assert moved[0, 0] > 0
    assert not moved[6:].any()
    assert not moved[:, 6:].any()


@pytest.mark.parametrize(("network", "side"), [("unified", 8), ("you", 34)])
def test_sides_that_do_not_fit(network: str, side: int) -> None:
    with pytest.raises(UsageError, match=f"slices of {side} pixels"):
        Model(Options(network=network), side)
