"""The installed weights are those that the index describes, and fit into the package."""

import json
from pathlib import Path

import pytest
import uadtk_thesis

from uadtk.checkpoint import load, open_checkpoint

FOLDER = Path(uadtk_thesis.__file__).parent / "weights"
MODELS = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))["models"]


def test_the_index_lists_every_file_and_no_other():
    listed = {about[key] for about in MODELS.values() for key in ("file", "card")}
    assert {path.name for path in FOLDER.iterdir()} == listed | {"index.json"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25e6


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_found_by_its_name_and_can_segment(name):
    checkpoint = open_checkpoint(name)
    assert checkpoint.digest == load(FOLDER / MODELS[name]["file"]).digest == MODELS[name]["digest"]
    assert checkpoint.point(None)
    assert "Not a medical device" in (FOLDER / MODELS[name]["card"]).read_text(encoding="utf-8")
