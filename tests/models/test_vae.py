from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.constant import constant, count
from uadtk.models.vae import Model, Options
from uadtk.networks.dense import ZimmererAutoencoder
from uadtk.networks.seeded import seeded
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)


def model(mean: float | None = None, log_std: float = 0.0, **options: Any) -> Model:
    """With ``mean`` it says of every image that z is N(mean, exp(log_std)²), and z itself is its reconstruction."""
    with seeded(1):
        vae = Model(Options(**{"latent": 8, **options}), 32).eval()
    if mean is not None:
        constant(vae, 0.25)
        with torch.no_grad():
            for head, value in zip(vae.net.latent.heads, (mean, log_std), strict=True):
                head.bias.fill_(value)
        vae.net.decode = lambda z, dropout=0.0: z[:, None, None]
    return vae


def test_parameters_of_the_study() -> None:
    assert count(Model(Options(), 128)) == 1_756_977


def test_weight_one_of_a_summed_divergence_beside_a_summed_error() -> None:
    vae = constant(model(), 0.25)
    for head, value in zip(vae.net.latent.heads, (0.5, -1.0), strict=True):
        torch.nn.init.constant_(head.bias, value)
    reconstruction = (BATCH.image - 0.25).abs().sum() / 2
    kl = torch.tensor(8 * 0.5 * (0.5**2 + math.exp(-2) + 2 - 1))
    losses = vae.training_loss(BATCH)
    torch.testing.assert_close((losses["reconstruction"], losses["kl"]), (reconstruction, kl))
    torch.testing.assert_close(losses["loss"], reconstruction + kl)
    torch.testing.assert_close(vae.objective(BATCH.image), (BATCH.image - 0.25).abs().flatten(1).sum(1) + kl)


def test_the_weight_of_the_divergence() -> None:
    with seeded(2):
        losses = model(kl_weight=0.5).training_loss(BATCH)
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.5 * losses["kl"])


def test_reconstruction_is_from_the_mean_or_from_one_draw_that_repeats() -> None:
    assert (model(mean=3, log_std=-1).reconstruct(BATCH.image) == 3).all()
    drawing = model(mean=3, log_std=-1, inference="sample", latent=4096)
    with generators_untouched():
        z = drawing.reconstruct(BATCH.image)
    assert torch.equal(z, drawing.reconstruct(BATCH.image))
    assert torch.equal(z[0], z[1])
    assert z.mean().item() == pytest.approx(3, abs=0.03)
    assert z.std().item() == pytest.approx(math.exp(-1), abs=0.03)


def test_samples_are_draws_of_z_without_dropout() -> None:
    with seeded(2):
        z = model(mean=3, log_std=-1, dropout=0.9).sample(BATCH.image, 600)
    assert z.mean().item() == pytest.approx(3, abs=0.03)
    assert z.std().item() == pytest.approx(math.exp(-1), abs=0.03)
    assert not torch.equal(z[0, 0], z[0, 1])


def test_training_draws_z_and_a_dropped_number_is_from_the_prior() -> None:
    """Mean 100 is scaled or gone; log σ -9 is scaled or gone; z shows which."""
    vae = model(mean=100, log_std=-9, dropout=0.5, latent=4096)
    drawn = []
    vae.net.decode = lambda z, dropout=0.0: drawn.append((z, dropout)) or BATCH.image
    with seeded(2):
        vae.train().training_loss(BATCH)
        vae.eval().training_loss(BATCH)
    (z, decoder_dropout), (whole, none) = drawn
    assert (decoder_dropout, none) == (0.5, 0.0)
    gone = z.abs() < 100
    assert gone.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (z[~gone] - 200).std().item() == pytest.approx(math.sqrt(0.5), abs=0.05)  # σ is 1 or next to nothing
    assert torch.allclose(whole, torch.tensor(100.0), atol=1e-2)
    assert whole.std() > 0


def test_zimmerers_network() -> None:
    full = Model(Options(network="zimmerer"), 128)
    assert isinstance(full.net, ZimmererAutoencoder)
    assert count(full) == 34_179_489
    small = model(network="zimmerer")
    small.training_loss(BATCH)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    assert small.reconstruct(BATCH.image).shape == BATCH.image.shape
