"""The study from nothing: two models, a few tiny scans, one epoch each; and once more, with nothing to do."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.commands import call
from tests.scans import labelled
from uadtk import checkpoint as checkpoints
from uadtk.core.preparation import Preparation

ROOT = Path(__file__).parent.parent
STEPS = ["--steps", "3"]
ROWS = ("lgg train", "lgg train", "lgg train", "lgg validation", "lgg test", "ms validation", "ms test", "wmh test")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """cohort.tsv with a lesion in every scan; ``wmh`` has none to calibrate on."""
    return labelled(tmp_path / "data", ROWS)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[str]]:
    """``train_all`` and ``study``, whose commands run in this process, and the names of those that ran."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    train_all, study = (importlib.import_module(name) for name in ("train_all", "study"))
    ran: list[str] = []

    def uadtk(*words: str) -> int:
        ran.append(words[0])
        done = call(*words)
        assert done.code == 0, done
        return done.code

    def says(*words: str) -> str:
        ran.append(words[0])
        return call(*words).out

    def run(command: list[str], **_: Any) -> Any:
        return SimpleNamespace(returncode=uadtk(*command[3:]))  # python -m uadtk

    monkeypatch.setattr(train_all, "subprocess", SimpleNamespace(run=run, STDOUT=None))
    monkeypatch.setattr(train_all, "PLANS", plans := {name: train_all.PLANS[name] for name in ("ae", "vae", "ae-25d")})
    monkeypatch.setattr(study, "uadtk", uadtk)
    monkeypatch.setattr(study, "uadtk_says", says)
    monkeypatch.setattr(study, "PLANS", plans)
    monkeypatch.setattr(study, "SIZES", (2,))
    monkeypatch.setattr(study, "SIZED", ("vae",))
    monkeypatch.setattr(study, "CHAINS", study.CHAINS[:1])
    monkeypatch.setattr(study, "SCORERS", {"vae": ("residual", "restoration")})
    monkeypatch.setattr(study, "COLLECTIONS", ("lgg", "ms"))
    monkeypatch.setattr(study, "POOLED", ("lgg", "ms"))
    monkeypatch.setattr(study, "ORDERINGS", study.ORDERINGS[:2])
    return train_all, study, ran


def started(script: Any, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
    script.main()


@pytest.mark.long
@pytest.mark.slow
def test_the_study_runs_from_nothing_and_resumes(
    data: Path, scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_all, study, ran = scripts
    models, output = tmp_path / "models", tmp_path / "study"
    started(train_all, monkeypatch, data, models, "--trained")
    assert capsys.readouterr().out.splitlines()[-1].startswith("| histeq | ")
    assert ran == []
    started(train_all, monkeypatch, data, models, *STEPS)
    assert ran == ["train"] * 3
    for name in ("ae", "vae", "ae-25d"):
        schedule = checkpoints.load(models / f"{name}.safetensors").training["schedule"]
        slices = checkpoints.load(models / f"{name}.safetensors").training["slices"]["train"]
        assert schedule["epochs"] == schedule["patience"] == train_all.epochs_of(slices, 3)
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in printed.splitlines()[-4:]] == ["| ae", "| vae", "| ae-25d", "| histeq"]

    stages = ["sizes", "tune", "select", "test", "carried", "chosen", "orderings"]
    output.mkdir()
    (output / "vae.restoration.txt").write_text("restoration:tv=0.4,steps=2")  # as if tuned before
    started(study, monkeypatch, data, models, output, *STEPS, "--stages", *stages)
    assert ran[3:] == ["train", *["benchmark"] * 4]
    text = (output / "test" / "table.txt").read_text()
    for row in ("ae residual", "vae residual", "vae restoration:tv=0.4,steps=2", "vae-2 residual", "ae-25d residual"):
        assert row in text
    printed = capsys.readouterr().out
    assert "| VAE > AE | lgg | 1 |" in printed
    assert "| restoration > reconstruction (VAE) | ms | 1 |" in printed

    del ran[:]
    started(train_all, monkeypatch, data, models, *STEPS)
    assert ran == []
    receipts = {path: path.stat().st_mtime_ns for path in output.rglob("rows/*.json")}
    started(study, monkeypatch, data, models, output, *STEPS, "--stages", *stages)
    assert "train" not in ran
    assert receipts == {path: path.stat().st_mtime_ns for path in output.rglob("rows/*.json")}
    with pytest.raises(SystemExit, match=r"ae\.safetensors was trained for another budget"):
        started(train_all, monkeypatch, data, models, "--steps", "50")


def test_what_there_is_is_published_without_scans(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, here = tmp_path / "build" / "study", tmp_path / "study"
    (output / "test").mkdir(parents=True)
    mosaics = '<a href="#mosaics">Scans</a><section id="mosaics"><img></section>'
    (output / "test" / "report.html").write_text(f"<p>{tmp_path}/build/models/vae</p>{mosaics}")
    scripts[1].publish(output, here)
    assert (here / "test" / "report.html").read_text() == "<p>build/models/vae</p>"
    assert [path.name for path in here.rglob("*.*")] == ["report.html"]
    assert "carried/table.txt: not there, left as it was" in capsys.readouterr().err


def test_epochs_of_a_budget(scripts: Any) -> None:
    train_all, _, _ = scripts
    assert [train_all.epochs_of(slices, 100) for slices in (1600, 1615, 170, 5)] == [1, 1, 10, 100]


def test_the_others_are_trained_after_a_failure(scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train_all, _, ran = scripts

    def train(row: str, *_: Any) -> None:
        ran.append(row)
        if row == "ae":
            raise SystemExit("the training of ae failed")

    monkeypatch.setattr(train_all, "train", train)
    benches = {"": SimpleNamespace(train=range(16))}
    wanted = SimpleNamespace(steps=1, jobs=1, data=tmp_path)
    failed = train_all.train_rows(["ae", "vae"], tmp_path / "lgg.tsv", benches, wanted)
    assert failed == {"ae": "the training of ae failed"}
    assert ran == ["ae", "vae"]


def test_phantoms_are_made_once_for_the_rows_that_learn_from_them(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train_all, _, ran = scripts

    def phantom(*words: str) -> None:
        ran.append(words[0])
        (tmp_path / "simulated").mkdir()
        (tmp_path / "simulated" / "slices.npy").touch()

    monkeypatch.setattr(train_all, "uadtk", phantom)
    monkeypatch.setattr(train_all, "train", lambda row, *_: ran.append(row))
    plans = {"vae": train_all.Plan(), **{name: train_all.Plan("--simulated {simulated}") for name in ("one", "two")}}
    monkeypatch.setattr(train_all, "PLANS", plans)
    benches = {"": SimpleNamespace(train=range(16))}
    wanted = SimpleNamespace(steps=1, jobs=1, data=tmp_path)
    assert train_all.train_rows(list(plans), tmp_path / "lgg.tsv", benches, wanted) == {}
    assert ran == ["vae", "phantom", "one", "two"]


def test_a_training_that_outlived_its_script_is_waited_for(scripts: Any, tmp_path: Path) -> None:
    train_all, _, _ = scripts
    with (tmp_path / "ae.txt").open("a") as said:
        train_all.wait_for(said, "ae")
        training, start = subprocess.Popen(["sleep", "1"], stdout=said), time.monotonic()
    with training, (tmp_path / "ae.txt").open("a") as said:
        train_all.wait_for(said, "ae")
        assert time.monotonic() - start > 0.9


def test_verdicts_of_orderings(scripts: Any) -> None:
    _, study, _ = scripts
    pair = {"pairs": "9", "difference": "-0.2", "low": "-0.3", "high": "-0.1", "p": "0.01"}
    alone = {**pair, "pairs": "1", "low": "", "high": "", "p": ""}
    assert study.ordering("a > b", "lgg", pair, -1) == "| a > b | lgg | 9 | +0.200 [+0.100, +0.300] | 0.01 | holds |"
    assert study.ordering("a > b", "lgg", pair, 1).endswith("| does not hold |")
    assert study.ordering("a > b", "lgg", alone, 1).endswith("| open: too few patients |")
    assert study.ordering("a > b", "lgg", {**pair, "pairs": "5"}, -1).endswith("| open: too few patients |")


def test_chi_squared_is_compared_with_auprc_over_the_rows_of_a_collection(scripts: Any) -> None:
    _, study, _ = scripts
    rows = [{"collection": "lgg", "chi_squared": f"{n}", "auprc": f"{n**2}"} for n in range(1, 9)]
    rows += [
        {"collection": "lgg", "chi_squared": "", "auprc": "9"},
        {"collection": "ms", "chi_squared": "1", "auprc": "9"},
    ]
    assert study.chi_squared_against_auprc("lgg", rows) == "| lgg | 8 | +1.00 [+1.00, +1.00] |"
    assert study.chi_squared_against_auprc("ms", rows) == "| ms | 1 | open: too few rows |"
    rows[0]["auprc"], rows[7]["auprc"] = rows[7]["auprc"], rows[0]["auprc"]
    assert "-" in study.chi_squared_against_auprc("lgg", rows).rpartition("[")[2]


def test_rows_that_are_not_trained_in_full_are_left_out(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused training leaves a checkpoint, too."""
    _, study, _ = scripts
    fresh = checkpoints.new("ae", {"latent": 4}, Preparation())
    for name, done in {"ae": True, "vae": False, "vae-2": False}.items():
        one = replace(fresh, weights=checkpoints.pack(fresh.new_model()), training={"finished": done})
        one.save(tmp_path / f"{name}.safetensors")
    asked: list[str] = []
    monkeypatch.setattr(study, "benchmark", lambda *words: asked.extend(map(str, words)))
    started(study, monkeypatch, tmp_path, tmp_path, tmp_path / "study", "--stages", "select", "test")
    assert {Path(word).name for word in asked if word.endswith(".safetensors")} == {"ae.safetensors"}


def test_rows_are_found_by_their_labels(scripts: Any) -> None:
    _, study, _ = scripts
    assert study.row_of("vae restoration:tv=0.4,precision=bfloat16") == ("vae", "restoration")
    assert study.row_of("/m/scale-space.safetensors multiscale (erode median)") == ("scale-space", "multiscale")


@pytest.mark.slow
def test_every_plan_names_a_model_and_options_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of the original papers and 256 pixels can be asked for by options alone."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    plans = importlib.import_module("train_all").PLANS
    for name in plans.keys() - {"dae"}:  # a plugin
        prepare = ("--prepare", plans[name].prepare) if plans[name].prepare else ()
        own = plans[name].options.format(half=1, simulated="x.npy").split()
        done = call("train", plans[name].model or name, "none.tsv", "-o", "x.safetensors", *own, *prepare)
        done.refused(3, "none.tsv")
