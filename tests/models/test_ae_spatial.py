from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.constant import constant, count
from uadtk.core.model import capabilities
from uadtk.models.ae_spatial import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)


def model(**options: float) -> Model:
    with seeded(1):
        return Model(Options(**options), 32).eval()


def test_parameters_and_sizes_of_the_study() -> None:
    """The code has no layer between encoder and decoder, the paper one convolution."""
    assert count(Model(Options(convolution=False), 128)) == 1_358_241
    full = Model(Options(), 128)
    assert count(full) == 1_358_241 + 128 * 128 + 128
    assert full.latent(full.encoder(torch.zeros(1, 1, 128, 128))).shape == (1, 128, 8, 8)
    assert full.latent.bias.abs().max() == 0


def test_loss_is_the_sum_over_normal_pixels_and_the_mean_over_slices() -> None:
    grey = constant(model(), 0.25)
    error = (BATCH.image - 0.25).abs()
    torch.testing.assert_close(grey.training_loss(BATCH)["loss"], error.sum() / 2)
    half = Batch(BATCH.image, BATCH.brain, BATCH.image > 0.5)
    torch.testing.assert_close(grey.training_loss(half)["loss"], error[BATCH.image > 0.5].sum() / 2)
    torch.testing.assert_close(grey.objective(BATCH.image), error.flatten(1).sum(1))


@pytest.mark.parametrize("convolution", [True, False])
def test_dropout_acts_on_z_in_samples_only(convolution: bool) -> None:
    ae = model(convolution=convolution, dropout=0.5).train()
    with torch.no_grad():
        z = ae.latent(ae.encoder(BATCH.image))
        with seeded(2):
            drawn = list(ae.sample(BATCH.image, 2))
        with seeded(2):
            rebuilt = [ae.decoder(F.dropout(z, 0.5)) for _ in range(2)]
        torch.testing.assert_close(drawn, rebuilt)
        torch.testing.assert_close(ae.training_loss(BATCH)["loss"], ae.objective(BATCH.image).mean())
        torch.testing.assert_close(ae.reconstruct(BATCH.image), ae.decoder(z))


def test_z_keeps_its_place() -> None:
    """A change in one corner changes z there only."""
    ae, x = model(), BATCH.image.clone()
    with torch.no_grad():
        before = ae.latent(ae.encoder(x))
        x[:, :, :4, :4] += 1
        moved = (ae.latent(ae.encoder(x)) - before).abs().amax((0, 1))
    assert moved[0, 0] > 0
    assert not moved[4:].any()
    assert not moved[:, 4:].any()


@pytest.mark.parametrize(("dropout", "has"), [(0.2, True), (0.0, False)])
def test_only_a_model_with_dropout_offers_samples(dropout: float, has: bool) -> None:
    assert ("sample" in capabilities(model(dropout=dropout))) == has
