"""The weight of total variation in restoration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.commands import call
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError, UsageError
from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import read_cohort
from uadtk.networks.seeded import seeded
from uadtk.pipeline.score import build_method
from uadtk.testing.specimens import healthy_slices
from uadtk.training import tune as module
from uadtk.training.tune import GRID, RADII_MM, outcomes_by_weight, restoration_spec, with_discs, with_weight

QUICK = Spec.parse("restoration:steps=6,rate=0.01")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fresh = checkpoints.new("ae-spatial", {}, Preparation())
    with seeded(0):
        weights = checkpoints.pack(fresh.new_model())
    path = tmp_path_factory.mktemp("tune") / "m.safetensors"
    replace(fresh, weights=weights).save(path)
    return path


def test_specs() -> None:
    assert GRID[0] == 0
    assert GRID[-1] == 3.8
    assert len(GRID) == 20
    assert restoration_spec(Spec.parse("residual:polarity=absolute")) == Spec("restoration")
    assert str(with_weight(Spec("restoration"), 1.0)) == "restoration:tv=1"
    assert str(with_weight(restoration_spec(QUICK.having(tv=2)), 0.4)) == f"{QUICK},tv=0.4"


def test_discs_of_every_size_are_planted_where_there_is_room() -> None:
    healthy, radii = healthy_slices(4, 64), (1.5, 4.0, 2.5)
    image, numbers = with_discs(healthy, radii)
    added = image - healthy.image
    assert added.round(decimals=3).unique().tolist() == pytest.approx([0.0, 0.4])
    np.testing.assert_array_equal(added.numpy() > 0.2, numbers > 0)
    assert not (torch.from_numpy(numbers > 0) & ~healthy.brain).any()
    for number, size in enumerate((9, 49, 21), 1):  # pixels within these radii of a pixel
        assert [(own == number).sum() for own in numbers] == [size] * 4
    assert not with_discs(replace(healthy, brain=healthy.brain & False), radii)[1].any()


class Perfect(nn.Module):
    """Knows the slices as they were; finds every change of them."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = known

    def objective(self, x: Tensor) -> Tensor:
        return (x - self.known).abs().flatten(1).sum(1)


@pytest.mark.long
def test_a_perfect_model_needs_a_small_weight(
    untrained: Path, small_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one keeps the small discs, which the least change of healthy slices would not show."""
    checkpoint, cohort = checkpoints.load(untrained), read_cohort(small_cohort)
    method = build_method(checkpoint, Run())

    def perfect(batch: Batch, radii: Any) -> Any:
        image, numbers = with_discs(batch, radii)
        object.__setattr__(method, "model", Perfect(batch.image))
        return image, numbers

    monkeypatch.setattr(module, "with_discs", perfect)
    monkeypatch.setattr(module, "build_method", lambda *_: method)
    found = outcomes_by_weight(
        replace(checkpoint, scorer=Spec.parse("restoration:rate=0.02,late_rate=0.02,steps=100")),
        cohort,
        Run(),
        (0.4, 2.2),
        slices=4,
    )
    assert found[0.4].mean > 0.95
    assert found[2.2].auprc[0] < 0.5 < found[0.4].auprc[0]
    assert found[2.2].auprc[-1] > found[2.2].auprc[0]


def test_without_steps_nothing_is_found(untrained: Path, small_cohort: Path) -> None:
    checkpoint, cohort = checkpoints.load(untrained), read_cohort(small_cohort)
    still = replace(checkpoint, scorer=Spec.parse("restoration:rate=0,late_rate=0,steps=2"))
    (outcome,) = outcomes_by_weight(still, cohort, Run(), (0.4,), slices=2).values()
    assert outcome.healthy == 0
    assert max(outcome.auprc) < 0.1


def test_scans_without_room_are_refused(untrained: Path, small_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RADII_MM", (2.5, 100.0))
    with pytest.raises(DataError, match="no slice has room for a disc of 100 mm"):
        outcomes_by_weight(checkpoints.load(untrained), read_cohort(small_cohort), Run(), (1.0,), slices=1)


def test_the_generators_are_left_alone(untrained: Path, small_cohort: Path) -> None:
    before = torch.get_rng_state()
    outcomes_by_weight(
        replace(checkpoints.load(untrained), scorer=QUICK), read_cohort(small_cohort), Run(), (1.0,), slices=1
    )
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_without_an_objective_is_refused(small_cohort: Path) -> None:
    checkpoint = checkpoints.open_checkpoint("histeq")
    with pytest.raises(UsageError, match="needs objective"):
        outcomes_by_weight(checkpoint, read_cohort(small_cohort), Run())


def test_the_command_prints_the_table_and_writes_the_scorer(
    untrained: Path, small_cohort: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tuned.safetensors"
    words = ["--model", untrained, "--healthy", small_cohort, "--slices", 1, "--scorer", QUICK, "--threads", 1]
    done = call("tune-restoration", *words, "-o", output)
    assert done.code == 0, done.err
    head, *rows, chosen, path = done.out.splitlines()
    table = {float(weight): float(mean) for weight, mean, *_ in (row.split("\t") for row in rows)}
    assert head == "\t".join(["tv", "auprc", *(f"auprc_{2 * radius:g}mm" for radius in RADII_MM), "healthy"])
    assert tuple(table) == GRID
    chosen_weight = Spec.parse(chosen.removeprefix("--scorer ")).values["tv"]
    assert table[float(chosen_weight)] == max(table.values())
    assert chosen == f"--scorer {with_weight(QUICK, float(chosen_weight))}"
    assert path == str(output)
    tuned = checkpoints.load(output)
    assert tuned.scorer == with_weight(QUICK, float(chosen_weight))
    assert tuned.weights == checkpoints.load(untrained).weights
    call("tune-restoration", *words, "-o", output).refused(2, "output exists")
