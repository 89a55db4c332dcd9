"""What the documents at the top say about files, versions and licences is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import uadtk

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere() -> None:
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert PROJECT["version"] == uadtk.__version__ == citation[1]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{uadtk.__version__}] - ")


def test_every_file_that_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(?:pytest |python )?((?:uadtk|tests|docs|\.ci|\.devcontainer)/[\w./-]*)", text))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    linked = set(re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text))
    assert [name for name in sorted(linked) if not (ROOT / name).exists()] == []


def test_every_folder_of_weights_and_data_has_a_licence_in_the_metadata() -> None:
    for folder in {path.parent for path in ROOT.glob("uadtk/**/*") if path.suffix in (".safetensors", ".gz", ".npz")}:
        assert f"{folder.relative_to(ROOT)}/LICENSE" in PROJECT["license-files"]
    for licence in PROJECT["license-files"]:
        assert (ROOT / licence).is_file()
    for card in ROOT.glob("uadtk/weights/*.md"):
        assert "CC BY-NC-SA 4.0" in card.read_text()  # what LICENSE beside it says of all of them


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
def test_what_continuous_integration_runs_is_there(path: str) -> None:
    text = (ROOT / path).read_text()
    assert ("-m pytest" in text) or (".ci/run" in text)


def test_the_declared_pythons_are_those_that_are_tested() -> None:
    declared = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text())
    assert matrix is not None
    assert re.findall(r'"(.*?)"', matrix[1]) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
    assert ", ".join(declared[:-1]) + f" and {declared[-1]}" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_ten_second_lane_holds_nothing_slow_and_loads_no_torch() -> None:
    files = [path for lane in ("core", "io") for path in (ROOT / "tests" / lane).glob("*.py")]
    assert files
    for path in files:
        assert not re.search(r"mark\.slow|^(import|from) torch", path.read_text(), re.MULTILINE), path
    assert "`pytest tests/core tests/io -q`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_hooks_are_local_and_run_the_tools_of_the_house() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}
    house = (ROOT / "tests" / "test_house.py").read_text()
    entries = re.findall(r"entry: (\S+)", hooks)
    assert set(entries) == {"ruff", "mypy", "lint-imports"}
    assert all(f'["{tool}"' in house for tool in entries)
