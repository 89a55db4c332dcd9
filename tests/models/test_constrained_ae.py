from __future__ import annotations

import pytest
import torch

from tests.constant import constant, count
from tests.slices import learn, phantom
from uadtk.core.model import capabilities
from uadtk.models.constrained_ae import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices
from uadtk.training.optimisers import make_optimisers, turns_of

BATCH = healthy_slices(2, 32)


def model(**options: object) -> Model:
    with seeded(1):
        return Model(Options(**{"latent": 4, "dropout": 0.0, **options}), 32)  # type: ignore[arg-type]


def test_parameters_of_the_study() -> None:
    assert count(Model(Options(), 128)) == 1_625_777


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_losses_of_a_grey_reconstruction(loss: str) -> None:
    """z is the first four pixels of the image, so its own after reconstruction is four times the grey."""
    ae = constant(model(loss=loss, weight=0.5), 0.25)
    ae.net.encode = lambda x: [x[:, 0, 16, 14:18]]
    error, latent = BATCH.image - 0.25, 0.25 - BATCH.image[:, 0, 16, 14:18]
    assert latent.any()
    if loss == "l1":
        expected = error.abs().sum() / 2, latent.square().sum() / 2
    else:
        expected = error.square().mean(), latent.square().mean()
    losses = ae.training_loss(BATCH)
    torch.testing.assert_close((losses["reconstruction"], losses["latent"]), expected)
    torch.testing.assert_close(losses["loss"], expected[0] + 0.5 * expected[1])
    torch.testing.assert_close(ae.objective(BATCH.image).mean(), losses["loss"])


def test_gradients_flow_through_both_passes_and_the_decoder() -> None:
    """The gradient of the latents' distance is that of both ends; holding either end still gives another one."""
    ae = model()
    weight = ae.net.encoder[0].weight
    ae.training_loss(BATCH)["latent"].backward()
    assert all(p.grad is not None and p.grad.any() for name, p in ae.named_parameters() if name.endswith("weight"))

    def gradient(hold_first: bool, hold_second: bool) -> torch.Tensor:
        (z,) = ae.net.encode(BATCH.image)
        (again,) = ae.net.encode(ae.net.decode(z))
        distance = (again.detach() if hold_second else again) - (z.detach() if hold_first else z)
        return torch.autograd.grad(distance.square().sum() / 2, weight)[0]

    torch.testing.assert_close(weight.grad, gradient(False, False))
    assert not torch.allclose(weight.grad, gradient(True, False))
    assert not torch.allclose(weight.grad, gradient(False, True))


def test_training_has_no_dropout() -> None:
    """Else its noise, and not the reconstruction, would make the distance of the two latents."""
    ae = constant(model(dropout=0.5), 0.0).train()
    with torch.no_grad():
        ae.net.latent.heads[0].bias.fill_(3.0)  # either z is (3, 3, 3, 3)
    assert ae.training_loss(BATCH)["latent"] == 0


def test_only_a_model_with_dropout_offers_samples() -> None:
    assert "sample" not in capabilities(model())
    with seeded(3):
        one, two = model(dropout=0.5).eval().sample(BATCH.image, 2)
    assert not torch.equal(one, two)


@pytest.mark.slow
def test_the_default_weight_pulls_the_latents_together() -> None:
    """To a quarter of the distance that they have without, at much the same error."""
    batch, found = phantom(32), {}
    for weight in (0.0, Options().weight):
        ae = model(latent=128, weight=weight).train()
        with seeded(0):
            learn(turns_of(ae, 1), make_optimisers(ae, 3e-4), batch, 100)
        with torch.inference_mode():
            losses = ae.eval().training_loss(batch)
        found[weight] = losses["latent"], losses["reconstruction"]
    (apart, free), (together, error) = found.values()
    assert together < apart / 4
    assert error < 1.15 * free
