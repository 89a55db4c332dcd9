"""Variational models learn from the first step: the noise of z does not hide the image from the decoder."""

from __future__ import annotations

import pytest

from tests.slices import error_and_that_of_the_mean, learn, phantom
from uadtk import registry
from uadtk.core import options as opts
from uadtk.core.spec import Spec
from uadtk.networks.dense import ZimmererAutoencoder
from uadtk.networks.mixture import MixtureLatent
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import DenseLatent, SpatialLatent
from uadtk.training.optimisers import make_optimisers, turns_of

STEPS, SIDE = 50, 64


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "vae",
        "context-vae",
        "gmvae",
        "gmvae-spatial",
        "anovaegan:critic_steps=1",
        "scalespace:band=vae,bottleneck=dense",
    ],
)
def test_fifty_steps_lead_below_the_mean_image(spec: str) -> None:
    """On three slices at a time. With σ = 1 at the start all but the last give x̂ = 0 after as many steps."""
    batch, wanted = phantom(SIDE), Spec.parse(spec)
    cls = registry.load("models", wanted.name)
    with seeded(0):
        model = cls(opts.build(cls.Options, wanted.values, wanted.name), SIDE).train()
        learn(turns_of(model, 1), make_optimisers(model, 2e-4), batch, STEPS, at_once=3)
    error, of_mean = error_and_that_of_the_mean(model, batch)
    assert error < of_mean


@pytest.mark.parametrize(
    "network",
    [DenseLatent(16, 4, 5, heads=2), SpatialLatent(16, 5, heads=2), ZimmererAutoencoder(32, 5, heads=2)],
    ids=["dense", "spatial", "zimmerer"],
)
def test_log_std_starts_low_and_the_mean_at_0(network: DenseLatent | SpatialLatent | ZimmererAutoencoder) -> None:
    mean, log_std = network.heads
    assert mean.bias.tolist() == [0] * 5
    assert log_std.bias.tolist() == [-3] * 5


@pytest.mark.parametrize("name", ["vae", "context-vae", "anovaegan"])
def test_by_default_no_variational_model_has_dropout(name: str) -> None:
    """Table II of the study has it for the samples of the Bayesian AE alone; the AE is trained without, too."""
    assert registry.load("models", name).Options().dropout == 0


def test_the_log_variance_of_a_mixtures_z_starts_low() -> None:
    latent = MixtureLatent(16, dim_z=5, dim_w=2, components=3, floor=1, responsibilities="correct")
    assert [head.bias.unique().tolist() for head in latent.heads] == [[0], [0], [0], [-6]]
