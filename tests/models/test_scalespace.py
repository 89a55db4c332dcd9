from __future__ import annotations

import pytest
import torch

from uadtk.models.scalespace import Model, Options
from uadtk.networks.corruption import Corruption, corrupt
from uadtk.networks.pyramid import Pyramid
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import Decoder, DenseLatent, Encoder, gaussian_kl
from uadtk.plugin import Batch, UsageError
from uadtk.testing.specimens import healthy_slices

SMALL = {"levels": 2, "widths": (4,), "latent": 4}


def batch(side: int = 32, n: int = 2) -> Batch:
    with seeded(0):
        image = torch.rand(n, 1, side, side)
    return Batch(image, torch.ones_like(image, dtype=torch.bool), torch.ones_like(image, dtype=torch.bool))


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameter_counts_of_the_unified_architecture() -> None:
    encoder, decoder = Encoder(4), Decoder(4)
    dense = DenseLatent(128, 8, 128)
    assert count(encoder) == 666_752
    assert count(decoder) == 691_489
    assert count(dense) == 267_536
    assert count(encoder, decoder, dense) == 1_625_777
    assert count(encoder, decoder, DenseLatent(128, 8, 128, heads=2)) == 1_756_977


def test_pyramid_rebuilds_the_image_exactly() -> None:
    image = batch(64).image
    pyramid = Pyramid(3)
    scales = pyramid.scales(image)
    rebuilt = pyramid.rebuild(pyramid.bands(scales), scales[-1])
    torch.testing.assert_close(rebuilt[0], image, atol=1e-6, rtol=0)
    assert [s.shape[-1] for s in scales] == [64, 32, 16, 8]


def test_pyramid_blur_keeps_a_constant_image() -> None:
    pyramid = Pyramid(2)
    image = torch.full((1, 1, 32, 32), 0.7)
    assert all(torch.allclose(scale, torch.tensor(0.7)) for scale in pyramid.scales(image))
    assert all(band.abs().max() < 1e-6 for band in pyramid.bands(pyramid.scales(image)))


@pytest.mark.parametrize("band", ["ae", "vae"])
@pytest.mark.parametrize("bottleneck", ["spatial", "dense"])
@pytest.mark.parametrize("lowpass", [0, 4])
def test_every_variant_trains_and_reconstructs(band: str, bottleneck: str, lowpass: int) -> None:
    with seeded(1):
        model = Model(Options(**SMALL, band=band, bottleneck=bottleneck, lowpass=lowpass), 32)
        losses = model.training_loss(batch())
        losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert ("kl" in losses) == (band == "vae")
    assert model.eval().reconstruct(batch().image).shape == (2, 1, 32, 32)


def test_lowpass_zero_passes_the_rest_through_and_a_number_does_not() -> None:
    """A very smooth change of the image survives reconstruction only where the rest is passed through."""
    x = batch().image
    brighter = x + 0.5
    with seeded(1):
        through, squeezed = (Model(Options(**SMALL, lowpass=n), 32).eval() for n in (0, 2))
    with torch.no_grad():
        moved = (through.reconstruct(brighter) - through.reconstruct(x)).mean()
        kept = (squeezed.reconstruct(brighter) - squeezed.reconstruct(x)).mean()
    assert moved == pytest.approx(0.5, abs=0.01)
    assert abs(kept - 0.5) > 0.1


def test_lesion_pixels_do_not_enter_the_loss() -> None:
    """With everything marked as lesion there is nothing to learn."""
    b = batch()
    with seeded(1):
        model = Model(Options(**SMALL), 32)
    nothing = Batch(b.image, b.brain, torch.zeros_like(b.brain))
    assert model.training_loss(nothing)["loss"] == 0
    assert model.training_loss(b)["loss"] > 0


def test_noise_is_only_inside_the_brain_and_changes_the_loss() -> None:
    b = batch()
    with seeded(1):
        model = Model(Options(**SMALL, lowpass=4, noise=0.5), 32)
    with seeded(2):
        inside = model.training_loss(b)["loss"]
    without = model.training_loss(Batch(b.image, torch.zeros_like(b.brain), b.normal))["loss"]
    quiet = Model(Options(**SMALL, lowpass=4), 32)
    quiet.load_state_dict(model.state_dict())
    assert quiet.training_loss(b)["loss"] == without != inside


def test_kl_divergence_against_torch_distributions() -> None:
    from torch.distributions import Normal, kl_divergence

    with seeded(3):
        mean, log_std = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_kl(mean, log_std), expected)


def test_kl_of_half_precision_is_no_less_than_nothing() -> None:
    """In bfloat16, which has eight bits, it would come out below 0 close to the prior."""
    with seeded(3):
        mean, log_std = 1e-2 * torch.randn(2, 64, 128).bfloat16()
    kl = gaussian_kl(mean, log_std)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, gaussian_kl(mean.double(), log_std.double()).float(), atol=1e-4, rtol=1e-2)
    assert (kl > 0).all()


def test_loss_is_the_sum_over_scales_of_mean_error_times_pixels() -> None:
    b = batch()
    with seeded(1):
        model = Model(Options(**SMALL), 32).eval()
        rebuilt, _ = model._rebuild(b.image, draw=False)
    wanted = model.pyramid.scales(b.image)
    expected = sum(32**2 * (rebuilt[k] - wanted[k]).abs().mean() for k in range(2))
    torch.testing.assert_close(model.training_loss(b)["loss"], expected)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UsageError, match="3 levels reduce 32 pixels to less than 8 x 8"):
        Model(Options(levels=3), 32)
    with pytest.raises(UsageError, match="2 widths for 3 levels"):
        Model(Options(widths=(4, 4)), 128)


@pytest.mark.parametrize("band", ["ae", "vae"])
@pytest.mark.parametrize("lowpass", [0, 4])
def test_objective_is_the_loss_of_each_image(band: str, lowpass: int) -> None:
    """In eval mode the training loss is its mean; one image's does not depend on the others, and it has a gradient."""
    b = batch()
    with seeded(1):
        model = Model(Options(**SMALL, band=band, lowpass=lowpass, kl_weight=0.3), 32).eval().requires_grad_(False)
    x = b.image.clone().requires_grad_()
    objective = model.objective(x)
    assert objective.shape == (2,)
    torch.testing.assert_close(objective.mean(), model.training_loss(b)["loss"])
    torch.testing.assert_close(objective[1:], model.objective(b.image[1:]))
    assert torch.autograd.grad(objective.sum(), x)[0].any()


def test_vae_bands_are_sampled_around_their_mean_and_ae_bands_cannot_be() -> None:
    from uadtk.core.model import capabilities

    x = batch().image
    with seeded(1):
        model = Model(Options(**SMALL, band="vae"), 32).eval().requires_grad_(False)
        drawn = model.sample(x, 3)
    assert drawn.shape == (3, 2, 1, 32, 32)
    assert not torch.equal(drawn[0], drawn[1])
    for band in model.bands:
        torch.nn.init.constant_(band.latent.heads[1].weight, 0)
        torch.nn.init.constant_(band.latent.heads[1].bias, -50)
    torch.testing.assert_close(model.sample(x, 2)[1], model.reconstruct(x))
    assert "sample" in capabilities(model)
    assert "sample" not in capabilities(Model(Options(**SMALL), 32))


@pytest.mark.parametrize("kind", ["implants", "both"])
@pytest.mark.parametrize("learning", [True, False])
def test_implants_are_to_be_taken_away(learning: bool, kind: Corruption) -> None:
    """A pyramid that passes everything leaves the implants, and their error is the loss, on held-out slices too."""
    slices = healthy_slices(6, 32)
    with seeded(1):
        model = Model(Options(**SMALL, corruption=kind), 32).train(learning)
    model._rebuild = lambda x, draw: (model.pyramid.scales(x), [])  # type: ignore[method-assign]
    with seeded(2):
        loss = model.training_loss(slices)["loss"]
    with seeded(2):
        seen, wanted = corrupt(slices, kind, 0.0, learning)
    error, _ = model._misfit(wanted.image, seen, wanted.normal, draw=False)
    torch.testing.assert_close(loss, error.mean())
    assert loss > 1
    bare, _ = model._misfit(wanted.image, wanted.image, wanted.normal, draw=False)
    assert not bare.any()
