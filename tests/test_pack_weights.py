"""Trained checkpoints become a package: half precision, points, cards; and ``--model`` finds them by name."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.commands import call
from tests.scans import labelled
from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.core.preparation import Preparation
from uadtk.networks.seeded import seeded
from uadtk.pipeline.point import uncalibrated
from uadtk.testing import installed

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "plugins" / "uadtk-thesis" / "src" / "uadtk_thesis"
TINY = {"widths": [4], "latent": 4}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("pack_weights")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return labelled(tmp_path / "data", ("lgg train", "lgg train", "lgg validation", "lgg validation"))


def trained(path: Path, finished: bool = True) -> checkpoints.Checkpoint:
    """As `train_all.py` leaves it, but for its size: random weights."""
    fresh = checkpoints.new("scalespace", TINY, Preparation())
    with seeded(5):
        weights = checkpoints.pack(fresh.new_model())
    facts = {
        "finished": finished,
        "epochs": 3,
        "best_epoch": 2,
        "schedule": {"epochs": 3},
        "slices": {"train": 34, "validation": 17},
        "scans": {"train": 2, "validation": 1},
    }
    made = replace(fresh, weights=weights, training=facts)
    made.save(path)
    return made


@pytest.mark.slow
def test_packed_models_are_found_by_name_and_segment(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, package = tmp_path / "models", tmp_path / "site" / "uadtk_thesis"
    work.mkdir()
    original = trained(work / "vae.safetensors")
    trained(work / "ae.safetensors", finished=False)
    shutil.copytree(PLUGIN, package)
    (package / "weights" / "old.safetensors").touch()
    monkeypatch.setattr(sys, "argv", ["pack_weights", str(data), str(work), "-o", str(package / "weights")])
    script.main()

    assert {path.name for path in (package / "weights").iterdir()} == {"index.json", "vae.md", "vae.safetensors"}
    card = (package / "weights" / "vae.md").read_text(encoding="utf-8")
    for text in ("# Model card: `vae`", "34 slices of 2", "6 batches of 16", "Not a medical device", "\n| AUPRC | "):
        assert text in card
    assert "{" not in card
    monkeypatch.setenv("UADTK_PLUGINS", "uadtk-thesis")
    with installed(package.parent, "uadtk-thesis", {"thesis": "uadtk_thesis"}):
        about = registry.weights()["vae"]
        found = checkpoints.open_checkpoint("vae")
        assert (about["digest"], about["dist"]) == (found.digest, "uadtk-thesis")
        assert len(found.weights) < 0.6 * len(original.weights)
        for name, tensor in found.build().state_dict().items():
            torch.testing.assert_close(tensor, original.build().state_dict()[name], atol=1e-3, rtol=1e-3)
        done = call("segment", data / "s3.nii.gz", "--model", "vae", "-o", tmp_path / "out")
        assert done.code == 0, done.err
        assert str(package / "weights" / "vae.md") in call("inspect", "vae").out
        (row,) = [row for row in json.loads(call("models", "--json").out) if row["name"] == "vae"]
        assert "  weights vae: CC-BY-NC-SA-4.0" in call("plugins").out.splitlines()
        assert row["weights"] == "weights of uadtk-thesis"


@pytest.mark.parametrize(
    ("model", "words"), [("ae", "the difference to a reconstruction"), ("ocsvm", "of whole slices")]
)
def test_a_card_says_what_the_score_is(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str
) -> None:
    cells = ["x"] * len(script.COLUMNS)
    monkeypatch.setattr(script, "Bench", lambda *_: SimpleNamespace(row=lambda *_: cells))
    monkeypatch.setattr(script, "gliomas", lambda _: None)
    facts = {"slices": {"train": 34}, "scans": {"train": 2}, "epochs": 3, "best_epoch": 2}
    fresh = checkpoints.new(model, {}, Preparation())
    point = uncalibrated(fresh, "p98", 0.1, "")
    card = script.card(model, replace(fresh, training=facts, points=(point,)), tmp_path, tmp_path)
    assert f"\n* The score is {words}" in card


def test_only_what_fits_is_packed(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vae", "ae", "gmvae"):
        trained(tmp_path / f"{name}.safetensors")
    size = len(script.halved(checkpoints.load(tmp_path / "ae.safetensors")).weights)
    monkeypatch.setattr(script, "LIMIT", 2 * (size + script.CARD_ROOM))
    assert list(script.choose(tmp_path, None)) == ["vae", "ae"]
    assert list(script.choose(tmp_path, ["gmvae"])) == ["gmvae"]
    with pytest.raises(SystemExit, match="gmvae does not fit"):
        script.choose(tmp_path, ["vae", "ae", "gmvae"])
    with pytest.raises(SystemExit, match="not trained in full"):
        script.choose(tmp_path, ["aae"])


def test_numbers_beyond_half_precision_are_refused(script: Any, tmp_path: Path) -> None:
    made = trained(tmp_path / "vae.safetensors")
    large = checkpoints.pack_tensors({"w": torch.tensor([1e6])})
    with pytest.raises(SystemExit, match="w is out of the range"):
        script.halved(replace(made, weights=large))
