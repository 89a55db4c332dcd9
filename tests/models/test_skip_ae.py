from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.constant import constant, count
from uadtk import checkpoint as checkpoints
from uadtk.core.model import capabilities
from uadtk.core.preparation import Preparation
from uadtk.models.skip_ae import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.networks.skips import stage_outputs
from uadtk.pipeline.score import check_untrained
from uadtk.plugin import Batch, UsageError
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)


def model(**options: object) -> Model:
    with seeded(1):
        return Model(Options(**options), 32).eval()  # type: ignore[arg-type]


def test_the_unified_encoder_and_a_decoder_with_skips_at_64_32_and_16() -> None:
    full = Model(Options(), 128)
    skips = 25 * (128 * 64 + 64 * 32 + 32 * 32)  # what the concatenated channels add to the decoder
    assert count(full.encoder) == 666_752
    assert count(full.decoder) == 691_489 + skips
    outputs = stage_outputs(full.encoder, torch.zeros(1, 1, 128, 128))
    assert [tuple(o.shape[1:]) for o in outputs] == [(32, 64, 64), (64, 32, 32), (128, 16, 16), (128, 8, 8)]
    with pytest.raises(UsageError):
        Model(Options(), 16)


def test_what_is_dropped_is_the_skip_connections() -> None:
    """Every output of the encoder counts; with the skips gone only the deepest does."""
    with seeded(1):
        skip = Model(Options(), 64)
    with torch.no_grad():
        outputs = stage_outputs(skip.encoder, healthy_slices(1, 64).image)
        for i in range(3):
            moved = [o + (k == i) for k, o in enumerate(outputs)]
            for on_skip, counts in ((torch.clone, True), (torch.zeros_like, i == 2)):
                same = torch.equal(skip.decoder(outputs, on_skip), skip.decoder(moved, on_skip))
                assert same != counts


def test_loss_is_the_sum_over_normal_pixels_and_the_mean_over_slices() -> None:
    grey = constant(model(), 0.25)
    error = (BATCH.image - 0.25).abs()
    torch.testing.assert_close(grey.training_loss(BATCH)["loss"], error.sum() / 2)
    half = Batch(BATCH.image, BATCH.brain, BATCH.image > 0.5)
    torch.testing.assert_close(grey.training_loss(half)["loss"], error[BATCH.image > 0.5].sum() / 2)
    torch.testing.assert_close(grey.objective(BATCH.image), error.flatten(1).sum(1))


@pytest.mark.parametrize("drop", ["numbers", "channels"])
def test_dropout_is_on_in_samples_and_in_training_and_off_in_reconstructions(drop: str) -> None:
    skip = model(drop=drop, dropout=0.25)
    dropped: list[Tensor] = []

    def spy(outputs: list[Tensor], on_skip: object) -> Tensor:
        dropped.append(on_skip(torch.ones(2, 50, 8, 8)))  # type: ignore[operator]
        return torch.zeros_like(BATCH.image)

    skip.decoder.forward = spy  # type: ignore[method-assign]
    with seeded(2):
        skip.sample(BATCH.image, 2)
        skip.train().training_loss(BATCH)
        skip.eval().reconstruct(BATCH.image)
        skip.training_loss(BATCH)
        skip.objective(BATCH.image)
    *noisy, rebuilt, validated, judged = dropped
    assert all(torch.equal(t, torch.ones_like(t)) for t in (rebuilt, validated, judged))
    assert len(noisy) == 3
    for t in noisy:
        torch.testing.assert_close(t.unique(), torch.tensor([0, 1 / 0.75]))
        assert 0.6 < (t > 0).float().mean() < 0.9
        whole = bool((t.amax((2, 3)) == t.amin((2, 3))).all())
        assert whole == (drop == "channels")
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize(("dropout", "has"), [(0.2, True), (0.0, False)])
def test_only_a_model_with_dropout_offers_samples(dropout: float, has: bool) -> None:
    assert ("sample" in capabilities(model(dropout=dropout))) == has


def test_it_is_scored_by_its_samples() -> None:
    assert str(checkpoints.new("skip-ae", {}, Preparation()).scorer) == "montecarlo"
    with pytest.raises(UsageError, match="scorer 'montecarlo' needs sample"):
        check_untrained(checkpoints.new("skip-ae", {"dropout": 0}, Preparation()))


def test_by_default_a_dropped_skip_cannot_be_read_from_its_neighbours() -> None:
    """Whole channels are dropped: of single numbers, half of the patches of the finest skip are nearly complete."""
    skip, dropped = model(), []
    skip.decoder.forward = lambda outputs, on_skip: dropped.append(on_skip(outputs[0])) or BATCH.image  # type: ignore[method-assign]
    with seeded(2):
        skip.sample(BATCH.image, 1)
    outputs = stage_outputs(skip.encoder, BATCH.image)[0]
    gone = (dropped[0] == 0).all(dim=(2, 3)) & (outputs != 0).any(dim=3).any(dim=2)
    assert gone.any()
