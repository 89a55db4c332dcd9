"""uadtk's contract, and what is true of principal components."""

import pytest
import torch
from uadtk_pca.model import Model, Options

from uadtk.plugin import Batch
from uadtk.testing import checks, run_check
from uadtk.testing.specimens import healthy_slices, planted


@pytest.mark.parametrize("check", checks("models", "pca"), ids=str)
def test_contract(check):
    outcome = run_check(check)
    assert outcome.status != "failed", f"{check.sentence} {outcome.reason}"


def trained(batch: Batch, components: int, steps: int = 1000) -> Model:
    torch.manual_seed(0)
    model = Model(Options(components), batch.image.shape[-1])
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model.training_loss(batch)["loss"].backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


def test_it_finds_the_principal_components():
    batch = healthy_slices(24, 32)
    model = trained(batch, 4)
    lost = torch.linalg.svdvals(batch.image.flatten(1))[4:].square().sum() / batch.image.numel()
    assert lost <= model.training_loss(batch)["loss"] < 1.05 * lost


def test_it_projects():
    model = Model(Options(5), 32).requires_grad_(False)
    x = torch.rand(3, 1, 32, 32)
    once = model.reconstruct(x)
    torch.testing.assert_close(model.reconstruct(once), once)
    torch.testing.assert_close(model.basis().T @ model.basis(), torch.eye(5))


def test_as_many_components_as_pixels_lose_nothing():
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(Model(Options(64), 8).requires_grad_(False).reconstruct(x), x)


def test_lesions_are_left_out_of_the_loss():
    healthy = healthy_slices(4, 32)
    image, lesion = planted(healthy)
    model = Model(Options(3), 32).requires_grad_(False)
    error = (model.reconstruct(image) - image).square()
    loss = model.training_loss(Batch(image, healthy.brain, ~lesion))["loss"]
    torch.testing.assert_close(loss, error[~lesion].mean())
