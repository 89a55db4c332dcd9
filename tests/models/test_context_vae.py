from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.constant import constant, count
from uadtk.models.context_vae import Model, Options
from uadtk.networks.dense import ZimmererAutoencoder
from uadtk.networks.seeded import seeded
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(4, 32)


def model(**options: Any) -> Model:
    with seeded(1):
        return Model(Options(**{"latent": 8, **options}), 32)


def passes(vae: Model) -> tuple[list[Tensor], list[Tensor]]:
    """What encoder and decoder are given in the VAE's pass and in the context's."""
    seen: list[Tensor] = []
    decoded: list[Tensor] = []
    vae.net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    vae.net.latent.expand.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    with seeded(2):
        vae.training_loss(BATCH)
    return seen, decoded


def test_parameters_and_squares_of_the_study() -> None:
    full = Model(Options(), 128)
    assert count(full) == 1_756_977
    assert full.edge == 20
    assert isinstance(Model(Options(network="zimmerer"), 32).net, ZimmererAutoencoder)


def test_the_context_pass_sees_holes_of_its_own_in_every_slice_and_takes_the_mean() -> None:
    vae = model(dropout=0.0, squares=2, edge=0.25).train()
    (whole, cut), (drawn, taken) = passes(vae)
    assert torch.equal(whole, BATCH.image)
    holes = cut != BATCH.image
    assert not cut[holes].any()
    assert len({tuple(hole.nonzero().float().mean(0).tolist()) for hole in holes[:, 0]}) == 4
    assert torch.equal(taken, vae.net.encode(cut)[0])
    assert not torch.equal(drawn, vae.net.encode(whole)[0])


def test_validation_cuts_nothing() -> None:
    (whole, cut), _ = passes(model().eval())
    assert torch.equal(whole, BATCH.image)
    assert torch.equal(cut, BATCH.image)


def test_both_targets_are_the_original_image_and_all_weights_one() -> None:
    """Against a black reconstruction both errors are the image's sum, whatever was cut out of the input."""
    black = constant(model(edge=0.5, dropout=0.0), 0.0).train()
    for head, value in zip(black.net.latent.heads, (0.5, -1.0), strict=True):
        torch.nn.init.constant_(head.bias, value)
    image, kl = BATCH.image.sum() / 4, torch.tensor(8 * 0.5 * (0.5**2 + math.exp(-2) + 2 - 1))
    losses = black.training_loss(BATCH)
    torch.testing.assert_close((losses["reconstruction"], losses["context"], losses["kl"]), (image, image, kl))
    torch.testing.assert_close(losses["loss"], 2 * image + kl)
    torch.testing.assert_close(black.objective(BATCH.image).mean(), image + kl)


def test_the_weights() -> None:
    with seeded(2):
        losses = model(kl_weight=0.5, context_weight=3.0).training_loss(BATCH)
    expected = losses["reconstruction"] + 0.5 * losses["kl"] + 3 * losses["context"]
    torch.testing.assert_close(losses["loss"], expected)


def test_reconstruction_is_from_the_mean_or_from_one_draw_that_repeats() -> None:
    mean, drawing = (model(inference=way).eval() for way in ("mean", "sample"))
    with torch.no_grad(), generators_untouched():
        torch.testing.assert_close(mean.reconstruct(BATCH.image), mean.net.decode(mean.net.encode(BATCH.image)[0]))
        one, two = (drawing.reconstruct(BATCH.image) for _ in range(2))
        assert torch.equal(one, two)
        assert not torch.allclose(one, mean.reconstruct(BATCH.image))


def test_samples_are_draws_of_z_without_dropout() -> None:
    vae = constant(model(dropout=0.9), 0.0).eval()
    torch.nn.init.constant_(vae.net.latent.heads[0].bias, 3.0)
    torch.nn.init.constant_(vae.net.latent.heads[1].bias, -1.0)
    vae.net.decode = lambda z: z[:, None, None]
    with seeded(2):
        z = vae.sample(BATCH.image, 300)
    assert abs(z.mean() - 3) < 0.03
    assert abs(z.std() - math.exp(-1)) < 0.03
