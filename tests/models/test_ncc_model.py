"""Templates are cut out of lesions and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.scans import brighter
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError
from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, read_cohort
from uadtk.models.ncc import Model, Options
from uadtk.networks.ncc import template_match
from uadtk.training.train import Schedule, train

SIDE = 24
VOLUME = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))  # five slices of one scan
YES = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)


def marked(*places: tuple[int, int]) -> Batch:
    """The middle slice with its neighbours, and lesions of 3 x 3 pixels."""
    lesion = YES & False
    for y, x in places:
        lesion[..., y - 1 : y + 2, x - 1 : x + 2] = True
    return Batch(VOLUME.transpose(0, 1), YES, YES, lesion=lesion & YES, known=YES)


def fitted(batch: Batch, templates: int = 30) -> Model:
    model = Model(Options(templates), SIDE)
    model.conclude([batch])
    return model


def test_a_template_is_what_lies_around_the_middle_of_a_lesion() -> None:
    model = fitted(marked((8, 9), (16, 14)))
    assert model.count == 2
    first, second = (VOLUME[:, 0, y - 2 : y + 3, x - 2 : x + 3] for y, x in ((8, 9), (16, 14)))
    assert any(torch.equal(model.pieces[:2], torch.stack(order)) for order in ((first, second), (second, first)))


def test_the_lesion_it_was_cut_from_scores_highest() -> None:
    model, brain = fitted(marked((8, 9))), YES.expand(5, 1, -1, -1)
    score = model.score(VOLUME, brain)
    assert score.argmax() == (2 * SIDE + 8) * SIDE + 9
    assert float(score.max()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(score[:, 0], template_match(VOLUME[:, 0], model.pieces[:1]))


def test_at_the_border_there_are_zeros_around() -> None:
    piece = fitted(marked((1, 1))).pieces[0]
    assert not piece[:, 0].any()
    assert not piece[:, :, 0].any()
    torch.testing.assert_close(piece[:, 1:, 1:], VOLUME[:, 0, :4, :4])


def test_no_more_than_asked_for_are_kept() -> None:
    model = fitted(marked((4, 4), (4, 12), (12, 4), (12, 12)), templates=3)
    assert model.count == 3
    assert model.pieces.flatten(1).any(1).all()


def test_lesions_that_are_flat_or_not_known_give_no_template() -> None:
    batch = marked((8, 9))
    for without in (replace(batch, image=torch.ones_like(batch.image)), replace(batch, known=YES & False)):
        with pytest.raises(DataError, match="no lesion to cut a template from"):
            fitted(without)


def test_without_templates_the_score_is_0() -> None:
    assert not Model(Options(), SIDE).score(VOLUME, YES.expand(5, 1, -1, -1)).any()


def test_it_is_trained_and_saved_like_any_other(small_cohort: Path, tmp_path: Path) -> None:
    (patient,) = [row for row in read_cohort(small_cohort) if row.lesion_mask]
    (tmp_path / "data").mkdir()
    held = replace(patient, subject="b", split="validation", image=brighter(patient.image, 1.01, tmp_path / "data"))
    rows = (replace(patient, subject="a", split="train"), held)
    output = tmp_path / "out" / "ncc.safetensors"
    output.parent.mkdir()
    train(checkpoints.new("ncc", {"templates": 4}, Preparation()), Cohort(rows, ""), Schedule(), output, Run())
    loaded = checkpoints.load(output)
    assert loaded.build().count == 4
    assert loaded.training["epochs"] == 0
    assert loaded.training["finished"]
    assert [path.name for path in output.parent.iterdir()] == ["ncc.safetensors"]
