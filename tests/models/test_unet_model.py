"""U-Net: what it learns, from what, and that its score is a probability."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.constant import count
from tests.scans import brighter
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError, UsageError
from uadtk.core.model import Batch, capabilities, default_scorer
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.models.unet import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices, planted
from uadtk.training.optimisers import make_optimisers, take_turns
from uadtk.training.slices import to_judge, to_learn
from uadtk.training.train import Schedule, train


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the few slices of a test is an epoch."""
    monkeypatch.setattr("uadtk.training.batches.LEAST_STEPS", 1)


HEALTHY = healthy_slices(6, 32)
IMAGE, LESION = planted(HEALTHY)
ALL = HEALTHY.brain | True
LABELLED = Batch(IMAGE, HEALTHY.brain, ALL, lesion=LESION, known=ALL)
FIRST = torch.arange(6)[:, None, None, None].expand_as(ALL) < 3
HALF = replace(LABELLED, lesion=LESION & FIRST, known=ALL & FIRST, hint=LESION & ~FIRST, hinted=ALL & ~FIRST)


def model(**options: Any) -> Model:
    with seeded(0):
        return Model(Options(**{"width": 4, "depth": 3, "dropout": 0.0, **options}), 32).eval()


def turn(unet: Model, batch: Batch, epoch: int = 1) -> dict[str, torch.Tensor]:
    (only,) = unet.turns(epoch)
    with seeded(1):
        return only.loss(batch)


def test_the_papers_layout() -> None:
    """Three halvings from 64 to 512 channels."""
    with_64 = count(Model(Options(width=64), 128))
    assert with_64 == 7_185_729  # as uadtk-dae, which has the same layout
    assert count(Model(Options(), 128)) == 450_897
    assert count(Model(Options(neighbours=2), 128)) - count(Model(Options(), 128)) == 4 * 9 * 16


def test_its_score_is_the_probability_of_lesion() -> None:
    unet = model()
    assert capabilities(unet) == {"training_loss", "score"}
    assert default_scorer(unet) == "own"
    with torch.no_grad():
        torch.testing.assert_close(unet.score(IMAGE, HEALTHY.brain), unet.net(IMAGE).sigmoid() * HEALTHY.brain)
        unet.net.out.weight.zero_()
        unet.net.out.bias.fill_(0.0)
        assert (unet.score(IMAGE, HEALTHY.brain)[HEALTHY.brain] == 0.5).all()


def test_the_loss_is_dice_and_cross_entropy_over_known_brain() -> None:
    unet = model()
    with torch.no_grad():
        unet.net.out.weight.zero_()
        unet.net.out.bias.fill_(0.0)
        losses = unet.training_loss(HALF)
    counts = HEALTHY.brain & FIRST
    n, lesion = int(counts.sum()), int((LESION & FIRST).sum())
    assert float(losses["dice"]) == pytest.approx(1 - (lesion + 1) / (n / 2 + lesion + 1))
    assert float(losses["cross_entropy"]) == pytest.approx(math.log(2))
    assert float(losses["loss"]) == pytest.approx(float(losses["dice"]) + math.log(2))


def test_what_is_outside_the_brain_is_not_seen() -> None:
    unet, noisy = model(), torch.where(HEALTHY.brain, IMAGE, 7.0)
    with torch.no_grad():
        assert torch.equal(unet.score(noisy, HEALTHY.brain), unet.score(IMAGE, HEALTHY.brain))
        assert torch.equal(
            unet.training_loss(replace(LABELLED, image=noisy))["loss"], unet.training_loss(LABELLED)["loss"]
        )


def test_neighbours_in_scoring_are_those_of_training() -> None:
    """The slices beside each in the scan; at its ends the last again."""
    unet, n = model(neighbours=1), len(IMAGE)
    beside = torch.cat(
        [IMAGE[[max(0, i - 1) for i in range(n)]], IMAGE, IMAGE[[min(n - 1, i + 1) for i in range(n)]]], 1
    )
    with torch.no_grad():
        expected = unet.net(beside * HEALTHY.brain).sigmoid() * HEALTHY.brain
        torch.testing.assert_close(unet.score(IMAGE, HEALTHY.brain), expected)


def test_a_scan_of_many_slices_is_scored_in_parts() -> None:
    unet, many = model(), IMAGE.repeat(7, 1, 1, 1)  # 42 slices
    with torch.no_grad():
        score = unet.score(many, HEALTHY.brain.repeat(7, 1, 1, 1))
        torch.testing.assert_close(score, unet.score(IMAGE, HEALTHY.brain).repeat(7, 1, 1, 1))


def test_without_embedding_and_adaptation_it_trains_on_what_it_is_judged_by() -> None:
    unet = model()
    assert torch.equal(turn(unet, HALF)["loss"], unet.training_loss(HALF)["loss"])


@pytest.mark.parametrize("distance", ["l2", "cosine", "angular"])
def test_embedding_is_added_with_its_weight_and_logged_with_the_divergences(distance: str) -> None:
    plain, unet = model(), model(embedding=0.3, distance=distance)
    losses = turn(unet, HALF)
    expected = plain.training_loss(HALF)["loss"] + 0.3 * losses["embedding"]
    torch.testing.assert_close(losses["loss"], expected)
    assert losses["embedding"] > 0
    assert 0 < losses["embedding_js"] < math.log(2)
    assert losses["embedding_kl"] > losses["embedding_js"]


def test_the_embedding_acts_from_its_epoch_on_and_is_logged_before() -> None:
    unet = model(embedding=0.3, embed_from=35)
    losses = {epoch: turn(unet, HALF, epoch) for epoch in (34, 35)}
    plain = unet.training_loss(HALF)["loss"]
    torch.testing.assert_close(losses[34]["loss"], plain)
    torch.testing.assert_close(losses[35]["loss"], plain + 0.3 * losses[35]["embedding"])
    assert set(losses[34]) == set(losses[35])


def test_embedding_pulls_the_features_of_a_class_together() -> None:
    unet = model(embedding=1.0, points=50).train()
    optimisers = make_optimisers(unet, 3e-3)
    said = []
    for _ in range(30):
        with seeded(3):
            said.append(float(take_turns(unet.turns(1), optimisers, [HALF])["embedding"]))
    assert said[-1] < 0.7 * said[0]


def test_what_neither_a_label_nor_a_hint_speaks_of_has_no_part_in_the_embedding() -> None:
    unet = model(embedding=1.0)
    silent = replace(HALF, hinted=ALL & False)
    other = replace(silent, hint=~silent.hint)
    assert torch.equal(turn(unet, silent)["embedding"], turn(unet, other)["embedding"])
    assert not torch.equal(turn(unet, silent)["embedding"], turn(unet, HALF)["embedding"])


def test_adaptation_turns_the_gradient_around_and_rises() -> None:
    """Below the discriminator the gradient is that of segmentation minus a share of its own, which rises to 1 %."""
    unet = model(adapt=0.01, adapt_from=2, adapt_full=4)
    below, judge = list(unet.net.parameters()), list(unet.discriminator.parameters())

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        found = torch.autograd.grad(loss, [*below, *judge], retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip([*below, *judge], found, strict=True)]

    plain = gradients(unet.training_loss(HALF)["loss"])
    *levels, _ = unet.net.levels(HALF.image * HALF.brain)
    told = torch.nn.functional.binary_cross_entropy_with_logits(unet.discriminator(levels), FIRST[:, 0, 0, 0].float())
    domain = gradients(told)
    assert any(g.any() for g in domain[: len(below)])
    for epoch, strength in ((1, 0.0), (3, 0.005), (9, 0.01)):
        losses = turn(unet, HALF, epoch)
        torch.testing.assert_close(losses["domain"], told)
        for k, gradient in enumerate(gradients(losses["loss"])):
            expected = plain[k] - strength * domain[k] if k < len(below) else domain[k]
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_adaptation_needs_both_domains() -> None:
    with pytest.raises(UsageError, match="either all slices of a batch have labels, or none"):
        turn(model(adapt=0.05), LABELLED)


def relabelled(cohort: Cohort) -> Cohort:
    """The patient in every split, a little brighter each time: labelled, hinted at, and to validate on."""
    (patient,) = [row for row in cohort if row.lesion_mask]
    folder = Path(tempfile.mkdtemp())
    unlabelled = replace(patient, subject="u", lesion_mask=None, prior_mask=patient.lesion_mask, split="train")
    unlabelled = replace(unlabelled, image=brighter(patient.image, 1.01, folder))
    rows = [replace(patient, subject="l", split="train"), unlabelled]
    rows.append(replace(patient, subject="v", split="validation", image=brighter(patient.image, 1.02, folder)))
    return Cohort((*rows, *(row for row in cohort if row.split == "validation")), "here")


SMALL = {"width": 4, "depth": 3}
QUICK = Schedule(epochs=2, batch=8, learning_rate=1e-3)


def test_it_is_trained_saved_and_logged_like_any_other(small_cohort: Path, tmp_path: Path) -> None:
    cohort, output = relabelled(read_cohort(small_cohort)), tmp_path / "unet.safetensors"
    options = {**SMALL, "neighbours": 1, "embedding": 0.1, "adapt": 0.05, "adapt_from": 0, "adapt_full": 1}
    train(checkpoints.new("unet", options, Preparation()), cohort, QUICK, output, Run())
    loaded = checkpoints.load(output)
    assert loaded.scorer == Spec("own")
    assert loaded.training["scans"] == {"train": 2, "validation": 1}  # the validation scan without labels is left out
    first, last = (json.loads(line) for line in output.with_name("unet.log.jsonl").read_text().splitlines())
    names = {"loss", "dice", "cross_entropy", "embedding", "embedding_kl", "embedding_js", "domain"}
    assert {f"train_{name}" for name in names} <= set(first)
    assert last["train_dice"] + last["train_cross_entropy"] < first["train_dice"] + first["train_cross_entropy"]
    assert {name for name in first if name.startswith("validation")} == {
        "validation_loss",
        "validation_dice",
        "validation_cross_entropy",
    }


def test_scans_without_labels_are_not_read_for_nothing(small_cohort: Path, tmp_path: Path) -> None:
    cohort, fresh = relabelled(read_cohort(small_cohort)), checkpoints.new("unet", SMALL, Preparation())
    trained = train(fresh, cohort, replace(QUICK, epochs=1), tmp_path / "plain.safetensors", Run())
    assert trained.training["scans"] == {"train": 1, "validation": 1}


def test_annotated_scans_are_judged_by_where_there_are_any() -> None:
    people, teacher, nobody = (
        Row("a", Path("a"), lesion_mask=Path("m")),
        Row("b", Path("b"), lesion_mask=Path("m"), label_source="teacher"),
        Row("c", Path("c")),
    )
    assert to_judge([people, teacher, nobody]) == [people]
    assert to_judge([teacher, nobody]) == [teacher]
    assert to_learn([people, teacher, nobody], False) == [people, teacher]
    assert to_learn([people, teacher, nobody], True) == [people, teacher, nobody]


def test_labels_are_asked_for(small_cohort: Path, tmp_path: Path) -> None:
    cohort, fresh = relabelled(read_cohort(small_cohort)), checkpoints.new("unet", SMALL, Preparation())
    for split, verb in (("train", "train on"), ("validation", "validate on")):
        rows = tuple(replace(row, lesion_mask=None) if row.split == split else row for row in cohort)
        with pytest.raises(DataError, match=f"no scan to {verb} is labelled"):
            train(fresh, Cohort(rows, ""), QUICK, tmp_path / "refused.safetensors", Run())
