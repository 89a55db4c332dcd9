"""Training: learns, keeps the best, stops early, resumes bit for bit, refuses what it should."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from uadtk import checkpoint as checkpoints
from uadtk.core.errors import CheckpointError, UadtkError, UsageError
from uadtk.core.model import Batch, Turn
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.io.read import read_scan
from uadtk.preparation.brain import find_brain
from uadtk.training import train as training
from uadtk.training.resume import refuse_checkpoint, state_path
from uadtk.training.slices import split_rows
from uadtk.training.train import Schedule, train, turn_at_precision

SMALL = {"levels": 2, "widths": "4", "latent": 4, "lowpass": 4, "noise": 0.1}
QUICK = Schedule(epochs=3, batch=16, learning_rate=1e-3)


def fresh() -> checkpoints.Checkpoint:
    return checkpoints.new("scalespace", SMALL, Preparation())


@pytest.fixture(scope="module")
def cohort(small_cohort: Path) -> Cohort:
    return read_cohort(small_cohort)


@pytest.fixture(scope="module")
def trained(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "model.safetensors"
    train(fresh(), cohort, QUICK, output, Run())
    return output


def test_training_learns_and_logs(trained: Path) -> None:
    log = [json.loads(line) for line in trained.with_name("model.log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert {"validation_loss", "validation_reconstruction", "learning_rate", "seconds"} <= set(log[0])
    assert not state_path(trained).exists()
    facts = checkpoints.load(trained).training
    assert facts["finished"]
    assert facts["best_validation_loss"] == min(line["validation_loss"] for line in log)
    assert facts["scans"] == {"train": 3, "validation": 1}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    cohort: Cohort, trained: Path, tmp_path: Path
) -> None:
    again = train(fresh(), cohort, QUICK, tmp_path / "again.safetensors", Run())
    other = train(fresh(), cohort, replace(QUICK, epochs=1, seed=1), tmp_path / "other.safetensors", Run())
    assert again.weights == checkpoints.load(trained).weights != other.weights


def test_a_killed_training_resumes_bit_for_bit(
    cohort: Cohort, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed inside the second epoch, twice; the third run ends with the weights of an undisturbed training."""
    output = tmp_path / "killed.safetensors"
    real, steps = training.take_turns, []

    def dying(*turn: Any) -> object:
        steps.append(1)
        if len(steps) in (6, 10):
            raise KeyboardInterrupt
        return real(*turn)

    monkeypatch.setattr(training, "take_turns", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(fresh(), cohort, QUICK, output, Run())
        assert state_path(output).exists()
        assert not output.exists()
    said: list[str] = []
    resumed = train(fresh(), cohort, QUICK, output, Run(say=said.append))
    assert said[0].startswith("resuming after epoch")
    assert resumed.weights == checkpoints.load(trained).weights


def test_a_pause_saves_and_the_same_command_goes_on(cohort: Cohort, trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "paused.safetensors"
    first = train(fresh(), cohort, QUICK, output, Run(), minutes=1e-9)
    assert not first.training["finished"]
    assert first.training["epochs"] == 1
    assert train(fresh(), cohort, QUICK, output, Run()).weights == checkpoints.load(trained).weights


def test_the_weights_of_the_last_epochs_are_averaged(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    real = training.save_state

    def spy(output: Path, plan: Any, model: torch.nn.Module, *rest: Any) -> None:
        seen.append({name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
        real(output, plan, model, *rest)

    schedule = replace(QUICK, epochs=3, patience=3, average=2)
    monkeypatch.setattr(training, "save_state", spy)
    whole = train(fresh(), cohort, schedule, tmp_path / "whole.safetensors", Run())
    found = load(whole.weights)
    assert len(seen) == 3
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (seen[1][name] + seen[2][name]) / 2)
    output, calls = tmp_path / "stopped.safetensors", len(seen)

    def stop(*arguments: Any) -> None:
        spy(*arguments)
        if len(seen) == calls + 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), cohort, schedule, output, Run())
    assert train(fresh(), cohort, schedule, output, Run()).weights == whole.weights


def test_another_training_is_not_resumed(cohort: Cohort, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    train(fresh(), cohort, QUICK, output, Run(), minutes=1e-9)
    with pytest.raises(UsageError, match="other schedule"):
        train(fresh(), cohort, replace(QUICK, batch=8), output, Run())


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts, tensors: ([], tensors),
        lambda facts, tensors: ({}, tensors),
        lambda facts, tensors: ({**facts, "plan": None}, tensors),
        lambda facts, tensors: ({**facts, "best_epoch": "x"}, tensors),
        lambda facts, tensors: ({**facts, "best_loss": []}, tensors),
        lambda facts, tensors: ({**facts, "log": 7}, tensors),
        lambda facts, tensors: (facts, {}),
        lambda facts, tensors: (facts, {**tensors, "optimiser/model/x/y": torch.ones(1)}),
        lambda facts, tensors: (facts, {name: tensor[:1] for name, tensor in tensors.items() if tensor.ndim}),
    ],
)
def test_a_state_that_was_changed_is_one_error(cohort: Cohort, tmp_path: Path, damage: Any) -> None:
    output = tmp_path / "model.safetensors"
    train(fresh(), cohort, QUICK, output, Run(), minutes=1e-9)
    with safe_open(state_path(output), "pt") as file:
        facts = json.loads(file.metadata()["uadtk-resume"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed, tensors = damage(facts, tensors)
    save_file(tensors, state_path(output), {"uadtk-resume": json.dumps(changed)})
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train(fresh(), cohort, QUICK, output, Run())


def test_the_best_weights_are_kept_and_patience_ends_it(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses 3, 1, 2, 2: the weights of epoch 2 are saved, and two epochs of patience end it."""
    weights, losses = [], iter([3.0, 1.0, 2.0, 2.0, 0.0])

    def scripted(model: torch.nn.Module, *_: object) -> dict[str, float]:
        weights.append(checkpoints.pack(model))
        return {"loss": next(losses)}

    monkeypatch.setattr(training, "_mean_losses", scripted)
    done = train(fresh(), cohort, replace(QUICK, epochs=9, patience=2), tmp_path / "model.safetensors", Run())
    assert done.training["epochs"] == 4
    assert done.training["best_epoch"] == 2
    assert done.weights == weights[1]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    train(fresh(), cohort, QUICK, output, Run(), minutes=1e-9)
    kept = state_path(output).read_bytes()
    monkeypatch.setattr(training, "_mean_losses", lambda *_: {"loss": float("nan")})
    with pytest.raises(UadtkError, match="not finite in epoch 2"):
        train(fresh(), cohort, QUICK, output, Run())
    assert state_path(output).read_bytes() == kept


def test_the_global_generators_are_left_alone(cohort: Cohort, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(fresh(), cohort, replace(QUICK, epochs=1), tmp_path / "model.safetensors", Run())
    assert torch.equal(before, torch.get_rng_state())


def test_splits_are_by_subject_and_held_out_without_a_split_column(cohort: Cohort) -> None:
    bare = Cohort(tuple(replace(row, split="") for row in cohort), cohort.source)
    train_rows, held = split_rows(bare, seed=0)
    assert len(held) == 1
    assert not {r.subject for r in train_rows} & {r.subject for r in held}
    assert split_rows(bare, seed=0)[1] == held


def test_the_cosine_rises_for_an_epoch_and_falls_to_two_percent() -> None:
    schedule = Schedule(epochs=10, learning_rate=1.0, decay="cosine")
    rates = [training._learning_rate(schedule, passed / 2) for passed in range(20)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[2] > 0.95
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0.02 < rates[-1] < 0.04
    assert training._learning_rate(Schedule(learning_rate=0.5), 7) == 0.5


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_precision_is_that_of_all_of_a_turn(precision: Literal["float32", "bfloat16"], dtype: torch.dtype) -> None:
    layer, image = torch.nn.Linear(2, 1), torch.rand(1, 1, 2, 2)

    def loss(batch: Batch, given: Tensor) -> dict[str, Tensor]:
        return {"loss": layer(batch.image), "given": given}

    turn = Turn("model", loss, once=lambda batch: layer(batch.image))
    reduced = turn_at_precision(turn, Schedule(precision=precision))
    assert reduced.once is not None
    batch = Batch(image, image > 0, image > 0)
    assert {one.dtype for one in reduced.loss(batch, reduced.once(batch)).values()} == {dtype}


def test_bfloat16_learns_as_float32_does(cohort: Cohort, trained: Path, tmp_path: Path) -> None:
    done = train(fresh(), cohort, replace(QUICK, precision="bfloat16"), tmp_path / "m.safetensors", Run())
    assert all(p.dtype == torch.float32 for p in done.build().parameters())
    expected = checkpoints.load(trained).training["best_validation_loss"]
    assert done.training["best_validation_loss"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("fast", [False, True])
def test_bfloat16_that_is_emulated_is_said_once(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr("uadtk.training.train.fast_bfloat16", lambda _: fast)
    said: list[str] = []
    schedule = replace(QUICK, epochs=1, precision="bfloat16")
    train(fresh(), cohort, schedule, tmp_path / "m.safetensors", Run(say=said.append))
    line = "bfloat16 is slower than float32 here: this machine emulates it"
    assert said.count(line) == (not fast)


DUEL = {"latent": 8, "warm_up": 1, "critic_steps": 2}


def duel() -> checkpoints.Checkpoint:
    return checkpoints.new("aae", DUEL, Preparation())


@pytest.mark.slow
def test_an_adversarial_model_resumes_bit_for_bit_with_all_its_optimisers(cohort: Cohort, tmp_path: Path) -> None:
    schedule = replace(QUICK, epochs=2)
    whole = train(duel(), cohort, schedule, tmp_path / "whole.safetensors", Run())
    output = tmp_path / "paused.safetensors"
    train(duel(), cohort, schedule, output, Run(), minutes=1e-9)
    with safe_open(state_path(output), "pt") as file:
        players = {name.split("/")[1] for name in file.keys() if name.startswith("optimiser/")}  # noqa: SIM118
    assert players == {"autoencoder", "critic", "encoder"}
    assert train(duel(), cohort, schedule, output, Run()).weights == whole.weights
    log = json.loads((tmp_path / "whole.log.jsonl").read_text().splitlines()[-1])
    assert {"train_autoencoder", "train_critic", "train_encoder", "train_distance", "validation_loss"} <= set(log)


def test_epochs_before_the_first_judged_one_are_not_compared(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses 1, 2, 9, 8, 8, 8 and judged from the third: the fourth is the best, and patience starts at the third."""
    losses, weights = iter([1.0, 2.0, 9.0, 8.0, 8.0, 8.0, 0.0]), []

    def scripted(model: torch.nn.Module, *_: object) -> dict[str, float]:
        weights.append(checkpoints.pack(model))
        return {"loss": next(losses)}

    monkeypatch.setattr(training, "_mean_losses", scripted)
    monkeypatch.setattr(training, "judged_from", lambda _: 3)
    done = train(fresh(), cohort, replace(QUICK, epochs=9, patience=2), tmp_path / "model.safetensors", Run())
    assert done.training["best_epoch"] == 4
    assert done.training["epochs"] == 6
    assert done.weights == weights[3]


def test_a_training_too_short_to_be_judged_says_so(cohort: Cohort, tmp_path: Path) -> None:
    said: list[str] = []
    train(duel(), cohort, replace(QUICK, epochs=1), tmp_path / "m.safetensors", Run(say=said.append))
    assert said[0] == "1 epochs end before the first whose validation loss counts (7): the last weights are kept"


def test_what_is_never_judged_keeps_its_last_weights(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "judged_from", lambda _: math.inf)
    output = tmp_path / "model.safetensors"
    train(fresh(), cohort, replace(QUICK, patience=1), output, Run(), minutes=1e-9)  # its state can be read again
    done = train(fresh(), cohort, replace(QUICK, patience=1), output, Run())
    assert done.training["best_epoch"] == done.training["epochs"] == QUICK.epochs
    assert math.isfinite(done.training["best_validation_loss"])


def test_accumulated_parts_learn_as_the_whole_batch_does(cohort: Cohort, tmp_path: Path) -> None:
    calm = checkpoints.new("scalespace", {**SMALL, "noise": 0}, Preparation())
    schedule = replace(QUICK, epochs=2, augment=False)
    losses = [
        train(calm, cohort, replace(schedule, accumulate=n), tmp_path / f"{n}.safetensors", Run()).training[
            "best_validation_loss"
        ]
        for n in (1, 3)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("guard", [{"trim": 80.0}, {"discriminate": 0.1}], ids=["trim", "discriminate"])
def test_contamination_is_looked_for_after_the_epochs_of_trust(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: dict[str, float]
) -> None:
    """From the second epoch on fewer pixels, or slices, are learned from; and training goes on."""
    learned: list[int] = []
    real = training.take_turns

    def counting(turns: object, optimisers: object, parts: list[Batch], *rest: object) -> object:
        learned.append(sum(int(part.normal.sum()) for part in parts))
        return real(turns, optimisers, parts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "take_turns", counting)
    schedule = replace(QUICK, epochs=2, trust=1, augment=False, **guard)  # type: ignore[arg-type]
    train(fresh(), cohort, schedule, tmp_path / "model.safetensors", Run())
    half = len(learned) // 2
    assert set(learned[:half]) == {16 * 128 * 128}
    assert max(learned[half:]) < 16 * 128 * 128


def test_ways_that_do_not_go_together_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    with pytest.raises(UsageError, match="a batch of 2 slices cannot be shared out to 4 parts on 1 processes"):
        train(fresh(), cohort, replace(QUICK, batch=2, accumulate=4), output, Run())
    with pytest.raises(UsageError, match="learns nothing"):
        train(checkpoints.new("histeq", {}, Preparation()), cohort, QUICK, output, Run())
    assert not list(tmp_path.iterdir())


def break_scan(monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    """From here on the brain of this scan is not found, for a reason that leaves its file as it is."""
    broken = read_scan(row.image).voxels

    def fails(scan: Scan, *rest: Any) -> tuple[Mask, str]:
        if np.array_equal(scan.voxels, broken):
            raise RuntimeError("shapes differ")
        return find_brain(scan, *rest)

    monkeypatch.setattr("uadtk.preparation.find_brain", fails)


def test_a_training_does_not_resume_on_other_scans(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of its epochs would have learned from other scans than the rest; with the same ones it ends as if whole."""
    output, said = tmp_path / "model.safetensors", list[str]()
    words = "interrupted training on other scans is here: s1 could be used then and not now, or the reverse"
    with monkeypatch.context() as patch:
        break_scan(patch, cohort.rows[1])
        train(fresh(), cohort, QUICK, output, Run(say=said.append), minutes=1e-9)
    assert sum(line.startswith("s1: failed: ") for line in said) == 1
    paused = output.read_bytes(), state_path(output).read_bytes()
    with pytest.raises(UsageError, match=words) as caught:
        train(fresh(), cohort, QUICK, output, Run())
    assert (caught.value.where, "delete the file" in caught.value.fix) == (str(state_path(output)), True)
    assert (output.read_bytes(), state_path(output).read_bytes()) == paused
    with monkeypatch.context() as patch:
        break_scan(patch, cohort.rows[1])
        resumed = train(fresh(), cohort, QUICK, output, Run(), cache=tmp_path / "again")
        whole = train(fresh(), cohort, QUICK, tmp_path / "whole.safetensors", Run())
    assert resumed.training["scans"] == {"train": 2, "validation": 1}
    assert resumed.weights == whole.weights


def test_a_training_does_not_resume_without_a_scan_that_it_had(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    train(fresh(), cohort, QUICK, output, Run(), minutes=1e-9)
    assert "1 epochs, " in (tmp_path / "model.training.html").read_text()  # drawn while the training goes on
    break_scan(monkeypatch, cohort.rows[2])
    with pytest.raises(UsageError, match="other scans is here: s2 could be used"):
        train(fresh(), cohort, QUICK, output, Run(), cache=tmp_path / "other")
    train(fresh(), cohort, QUICK, output, Run())  # its slices are still there


def test_prepared_slices_are_kept_where_asked_and_nowhere_else(cohort: Cohort, tmp_path: Path) -> None:
    one = replace(QUICK, epochs=1)
    train(fresh(), cohort, one, tmp_path / "a.safetensors", Run(), cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    train(fresh(), cohort, one, tmp_path / "b.safetensors", Run())
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{name}.{end}" for name in "ab" for end in ("safetensors", "log.jsonl", "training.html")), "cache"
    }  # fmt: skip


def test_a_name_that_is_too_long_for_the_state_beside_it_is_refused_before_the_work(tmp_path: Path) -> None:
    refuse_checkpoint(tmp_path / f"{'n' * 236}.safetensors", overwrite=False)
    with pytest.raises(UsageError, match=r"\.resume: cannot be written \(File name too long\)"):
        refuse_checkpoint(tmp_path / f"{'n' * 238}.safetensors", overwrite=False)


def test_a_kill_while_the_slices_are_removed_leaves_a_training_that_ends(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"

    def killed(folder: Path, **_: Any) -> None:
        next(folder.rglob("image.f32")).unlink()
        raise KeyboardInterrupt

    one = replace(QUICK, epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(training, "shutil", SimpleNamespace(rmtree=killed))
        with pytest.raises(KeyboardInterrupt):
            train(fresh(), cohort, one, output, Run())
    before = output.read_bytes()
    (tmp_path / "model.training.html").unlink()  # as if the kill had come before it
    refuse_checkpoint(output, overwrite=False)
    train(fresh(), cohort, one, output, Run())
    assert output.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.log.jsonl", "model.training.html"}
