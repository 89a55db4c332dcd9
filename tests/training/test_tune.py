"""The weight of total variation in restoration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.commands import call
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import read_cohort
from uadtk.networks.seeded import seeded
from uadtk.training.tune import GRID, changes_by_weight, restoration_spec, with_weight

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


@pytest.mark.slow
def test_the_change_is_that_of_the_scorer_on_lesion_free_slices(untrained: Path, small_cohort: Path) -> None:
    """Without steps nothing changes; without a rate neither; and weights are tried one by one on the same slices."""
    checkpoint, cohort = checkpoints.load(untrained), read_cohort(small_cohort)
    still = changes_by_weight(
        replace(checkpoint, scorer=Spec.parse("restoration:rate=0,steps=2")), cohort, Run(), (0.0, 1.0)
    )
    assert still == {0.0: 0.0, 1.0: 0.0}
    changes = changes_by_weight(replace(checkpoint, scorer=QUICK), cohort, Run(), (0.0, 1.0), slices=3)
    again = changes_by_weight(replace(checkpoint, scorer=QUICK), cohort, Run(), (1.0,), slices=3)
    assert changes[1.0] == again[1.0]
    assert 0 < changes[0.0] != changes[1.0]
    assert changes[0.0] <= 6 * 0.01 * 50


def test_the_generators_are_left_alone(untrained: Path, small_cohort: Path) -> None:
    before = torch.get_rng_state()
    changes_by_weight(
        replace(checkpoints.load(untrained), scorer=QUICK), read_cohort(small_cohort), Run(), (1.0,), slices=1
    )
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_without_an_objective_is_refused(small_cohort: Path) -> None:
    checkpoint = checkpoints.open_checkpoint("histeq")
    with pytest.raises(UsageError, match="needs objective"):
        changes_by_weight(checkpoint, read_cohort(small_cohort), Run())


def test_the_command_prints_the_table_and_writes_the_scorer(
    untrained: Path, small_cohort: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tuned.safetensors"
    words = ["--model", untrained, "--healthy", small_cohort, "--slices", 1, "--scorer", QUICK, "--threads", 1]
    done = call("tune-restoration", *words, "-o", output)
    assert done.code == 0, done.err
    head, *rows, chosen, path = done.out.splitlines()
    table = {float(weight): float(change) for weight, change in (row.split("\t") for row in rows)}
    assert head == "tv\tchange"
    assert tuple(table) == GRID
    best = min(table, key=lambda weight: table[weight])
    assert chosen == f"--scorer {with_weight(QUICK, best)}"
    assert path == str(output)
    tuned = checkpoints.load(output)
    assert tuned.scorer == with_weight(QUICK, best)
    assert tuned.weights == checkpoints.load(untrained).weights
    call("tune-restoration", *words, "-o", output).refused(2, "output exists")
