from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.constant import constant, count
from uadtk.core.model import capabilities
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.models.ae import Model, Options
from uadtk.networks.dense import rebuild
from uadtk.networks.distances import l1
from uadtk.networks.seeded import seeded
from uadtk.pipeline import score
from uadtk.pipeline.score import Method, raw_slices
from uadtk.plugin import Batch
from uadtk.registry import build
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)


def model(**options: float) -> Model:
    with seeded(1):
        return Model(Options(**{"latent": 8, **options}), 32).eval()


def test_parameters_and_sizes_of_the_study() -> None:
    full = Model(Options(), 128)
    assert count(full) == 1_625_777
    assert full.net.encoder(torch.zeros(1, 1, 128, 128)).shape == (1, 128, 8, 8)
    assert full.net.encode(torch.zeros(1, 1, 128, 128))[0].shape == (1, 128)
    assert Model(Options(), 256).net.encoder(torch.zeros(1, 1, 256, 256)).shape == (1, 128, 8, 8)


def test_loss_is_the_sum_over_normal_pixels_and_the_mean_over_slices() -> None:
    grey = constant(model(), 0.25)
    error = (BATCH.image - 0.25).abs()
    torch.testing.assert_close(grey.training_loss(BATCH)["loss"], error.sum() / 2)
    half = Batch(BATCH.image, BATCH.brain, BATCH.image > 0.5)
    torch.testing.assert_close(grey.training_loss(half)["loss"], error[BATCH.image > 0.5].sum() / 2)
    torch.testing.assert_close(grey.objective(BATCH.image), error.flatten(1).sum(1))


def test_training_has_no_dropout() -> None:
    ae = model(dropout=0.5).train()
    torch.testing.assert_close(ae.training_loss(BATCH)["loss"], ae.eval().objective(BATCH.image).mean())


def test_samples_drop_numbers_of_z_and_scale_the_others() -> None:
    ae = model(dropout=0.5)
    ae.net.decode = lambda z: z[:, None, None]  # type: ignore[method-assign]
    (z,) = ae.net.encode(BATCH.image)
    with seeded(3):
        drawn = ae.sample(BATCH.image, 40)[:, :, 0, 0]
    zero = drawn == 0
    assert torch.allclose(drawn, torch.where(zero, 0.0, z / 0.5))
    assert 0.4 < zero.float().mean() < 0.6
    assert len(set(map(tuple, zero.flatten(1).tolist()))) > 1


@pytest.mark.parametrize(("dropout", "has"), [(0.2, True), (0.0, False)])
def test_only_a_model_with_dropout_offers_samples(dropout: float, has: bool) -> None:
    assert ("sample" in capabilities(model(dropout=dropout))) == has


def test_with_neighbours_each_slice_is_reconstructed_from_those_beside_it() -> None:
    """In training they come with the batch; in scoring the slices are those of a scan, and the ends are repeated."""
    ae, scan = model(neighbours=1), healthy_slices(4, 32)
    assert ae.net.encoder[0].in_channels == 3
    beside = torch.cat([scan.image[[0, 0, 1, 2]], scan.image, scan.image[[1, 2, 3, 3]]], dim=1)
    with torch.no_grad():
        rebuilt = rebuild(ae.net, beside)
        torch.testing.assert_close(ae.reconstruct(scan.image), rebuilt)
        torch.testing.assert_close(ae.reconstruct(beside), rebuilt)
        loss = ae.training_loss(Batch(beside, scan.brain, scan.normal))["loss"]
    torch.testing.assert_close(loss, l1(scan.image, rebuilt, scan.normal).mean())
    assert not torch.allclose(ae.reconstruct(scan.image[1:2]), rebuilt[1:2])
    assert capabilities(ae) == {"training_loss", "reconstruct"}


def test_a_scan_scored_in_parts_has_the_neighbours_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = healthy_slices(9, 32)
    prepared = SimpleNamespace(image=slices.image[:, 0].numpy(), brain=slices.brain[:, 0].numpy())
    method = Method(
        checkpoint=None, models=(model(neighbours=2),), scorer=build("scorers", Spec("residual")), cleaners=()
    )
    whole, maps = raw_slices(prepared, method, Run())
    monkeypatch.setattr(score, "SLICES_AT_ONCE", 4)
    parts, of_parts = raw_slices(prepared, method, Run())
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(of_parts["reconstruction"], maps["reconstruction"], atol=1e-5)
