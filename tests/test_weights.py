"""The shipped weights are those that their index describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import call
from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.builtin import DEFAULT_MODEL

SHIPPED = Path(registry.__file__).parent / "weights"


def test_the_index_lists_every_file_and_no_other() -> None:
    listed = {Path(about[key]) for about in registry.weights().values() for key in ("file", "card")}
    assert listed == {path for path in SHIPPED.iterdir() if path.suffix in (".safetensors", ".md")}
    assert json.loads((SHIPPED / "index.json").read_text())["default"] == DEFAULT_MODEL


@pytest.mark.parametrize("name", sorted(registry.weights()))
def test_a_shipped_model_is_the_one_of_its_index_and_card(name: str) -> None:
    about, checkpoint = registry.weights()[name], checkpoints.open_checkpoint(name)
    assert (checkpoint.model, checkpoint.digest) == (name, about["digest"])
    assert Path(about["file"]).stat().st_size < 10e6
    card = Path(about["card"]).read_text(encoding="utf-8")
    assert card.startswith(f"# Model card: `{name}`")
    assert about["licence"].replace("-", " ", 1) in card.replace("CC BY-NC-SA 4.0", "CC BY-NC-SA-4.0")
    for point in checkpoint.points:
        assert f"`{point.name}`" in card
    assert "Not a medical device" in card


def test_the_default_point_is_a_budget_of_findings() -> None:
    point = checkpoints.open_checkpoint(DEFAULT_MODEL).point(None)
    assert (point.name, point.strategy.name, point.min_ml) == ("default", "healthy-fp", 0.05)
    assert point.lesion_free
    shown = call("inspect", DEFAULT_MODEL).out
    assert registry.weights()[DEFAULT_MODEL]["card"] in shown
