"""The author's guide, plugins/README.md: its code makes a plugin, and the plugin does what the guide says."""

import inspect
import logging
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from uadtk import hookspecs, registry
from uadtk.cli import main
from uadtk.core import model as core_model
from uadtk.io.read import read_scan
from uadtk.testing import KINDS, checks, installed, run_check

GUIDE = (Path(__file__).parents[2] / "plugins" / "README.md").read_text(encoding="utf-8")
FILES = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)
SESSIONS = re.findall(r"```\n\$ uadtk (.*?)\n(.*?)```", GUIDE, re.DOTALL)
OFFERS = {"models": "atlas", "scorers": "blurred", "cleaners": "floor", "thresholders": "highest"}


@pytest.fixture
def plugin(request, tmp_path, monkeypatch):
    """The guide's package as if installed; with ``param`` "first", as it is after its first section."""
    for name, text in FILES if request.param == "all" else FILES[:3]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    monkeypatch.setenv("UADTK_PLUGINS", project["name"])
    with installed(tmp_path / "src", project["name"], project["entry-points"]["uadtk"], project["version"]):
        yield tmp_path
    registry.reload()


first, whole = (pytest.mark.parametrize("plugin", [what], indirect=True) for what in ("first", "all"))


def uadtk(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


@first
def test_three_files_make_a_model(plugin, capsys):
    assert len(list(plugin.rglob("*.py"))) == 2
    assert uadtk("check", "atlas") == 0
    out = capsys.readouterr().out
    assert "ok      loss_falls" in out
    assert "FAILED" not in out


@first
def test_the_model_trains_from_the_command_line(plugin, small_cohort, capsys):
    output = plugin / "atlas.safetensors"
    arguments = ["train", "atlas", str(small_cohort), "-o", str(output), "--epochs", "1", "--threads", "1"]
    assert uadtk(*arguments, "--start", "1.5") == 2
    assert not output.exists()
    assert uadtk(*arguments, "--start", "0.5") == 0
    assert uadtk("inspect", str(output)) == 0
    out = capsys.readouterr().out
    assert "model        atlas (uadtk-atlas 1.0)" in out
    assert "start = 0.5" in out


@whole
@pytest.mark.parametrize("kind", KINDS)
def test_everything_in_the_guide_keeps_its_contract(plugin, kind):
    outcomes = [run_check(check) for check in checks(kind, OFFERS[kind])]
    assert {o.check.title: o.reason for o in outcomes if o.status == "failed"} == {}
    assert sum(o.status == "ok" for o in outcomes) >= 6


@whole
def test_the_adversarial_model_keeps_its_contract(plugin):
    outcomes = [run_check(check) for check in checks("models", "duel")]
    assert {o.check.title: o.reason for o in outcomes if o.status == "failed"} == {}


@whole
def test_the_guides_test_passes(plugin):
    code = (plugin / "tests" / "test_contract.py").read_text()
    module: dict = {}
    exec(compile(code, "test_contract.py", "exec"), module)
    (mark,) = module["test_contract"].pytestmark
    for check in mark.args[1]:
        module["test_contract"](check)


@whole
def test_printed_sessions_are_real(plugin, capsys):
    assert [command for command, _ in SESSIONS] == ["check atlas", "plugins"]
    for command, output in SESSIONS:
        assert uadtk(*command.split()) == 0
        printed = capsys.readouterr().out
        assert printed == (output or printed)


@whole
def test_the_reader_reads(plugin, tmp_path):
    np.save(tmp_path / "scan.npy", np.arange(24.0).reshape(2, 3, 4))
    assert read_scan(tmp_path / "scan.npy").voxels[1, 2, 3] == 23


@whole
def test_the_command_adds_up(plugin, tmp_path, capsys):
    (tmp_path / "a_findings.tsv").write_text("label\tvolume_ml\n1\t0.5\n2\t0.25\n")
    assert uadtk("total", str(tmp_path)) == 0
    assert capsys.readouterr().out == "a_findings.tsv\t2\t0.750\n"


@whole
def test_the_observers_are_told(plugin, caplog):
    class Segmentation:
        findings = (1, 2)

    with caplog.at_level(logging.INFO, "uadtk_atlas"):
        registry.notify("uadtk_scan_done", pytest.fail, segmentation=Segmentation)
        registry.notify("uadtk_scan_failed", pytest.fail, path=Path("a.nii"), error=ValueError("no brain"))
        record = {"epoch": 2, "validation_loss": 0.25}
        registry.notify("uadtk_epoch_done", pytest.fail, record=record, output=Path("m"), settings={})
    assert caplog.messages == ["2 findings", "a.nii failed: no brain", "epoch 2: 0.25"]


def test_every_hook_is_in_the_guide_with_its_arguments():
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("uadtk_")}
    table = dict(re.findall(r"^\| `(uadtk_\w+)\((.*?)\)` \|", GUIDE, re.MULTILINE))
    assert table == {name: ", ".join(inspect.signature(hook).parameters) for name, hook in hooks.items()}


def test_every_capability_is_in_the_guide():
    assert set(re.findall(r"^\| `(\w+)\(.*?\)` ->", GUIDE, re.MULTILINE)) == set(core_model.CAPABILITIES)


def test_every_attribute_of_a_model_is_in_the_guide_with_its_default():
    methods = {*core_model.CAPABILITIES, "capabilities", "players", "turns", "conclude"}
    table = dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`? \|", GUIDE, re.MULTILINE))
    defaults = {name: value for name, value in vars(core_model.Traits()).items() if name not in methods}
    assert table.keys() == defaults.keys()
    assert {name: eval(table[name]) for name in table if name != "scorer"} == {
        name: value for name, value in defaults.items() if name != "scorer"
    }


def test_the_entry_module_is_light():
    entry = next(text for name, text in FILES if name.endswith("__init__.py"))
    assert not re.search(r"import (torch|numpy)", entry)
