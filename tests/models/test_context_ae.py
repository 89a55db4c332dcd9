from __future__ import annotations

import torch
from torch import Tensor

from tests.constant import constant, count
from uadtk.core.model import capabilities
from uadtk.models.context_ae import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(4, 32)


def model(**options: float) -> Model:
    with seeded(1):
        return Model(Options(**{"latent": 8, **options}), 32)


def seen_by(ae: Model) -> Tensor:
    """What the encoder is given."""
    seen: list[Tensor] = []
    ae.net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with seeded(2):
        ae.training_loss(BATCH)
    return seen[0]


def test_parameters_and_squares_of_the_study() -> None:
    full = Model(Options(), 128)
    assert count(full) == 1_625_777
    assert full.edge == 20
    assert Model(Options(), 256).edge == 40


def test_training_sees_slices_with_holes_other_ones_in_each() -> None:
    ae = model(squares=2, edge=0.25)
    seen = seen_by(ae.train())
    holes = seen != BATCH.image
    assert not seen[holes].any()
    areas = holes.flatten(1).sum(1)
    assert (areas > 0).all()
    assert (areas <= 2 * 8**2).all()
    centres = {tuple(hole.nonzero().float().mean(0).tolist()) for hole in holes[:, 0]}
    assert len(centres) == 4


def test_validation_and_scoring_see_whole_slices() -> None:
    ae = model().eval()
    assert torch.equal(seen_by(ae), BATCH.image)
    torch.testing.assert_close(ae.training_loss(BATCH)["loss"], ae.objective(BATCH.image).mean())


def test_the_target_is_the_original_image() -> None:
    """Against a grey reconstruction the loss is that of the whole image, whatever was cut out of the input."""
    grey = constant(model(edge=0.5), 0.0).train()
    torch.testing.assert_close(grey.training_loss(BATCH)["loss"], BATCH.image.sum() / 4)


def test_only_a_model_with_dropout_offers_samples() -> None:
    assert "sample" not in capabilities(model(dropout=0.0))
    with seeded(3):
        one, two = model(dropout=0.5).eval().sample(BATCH.image, 2)
    assert not torch.equal(one, two)
