"""The registry: built-in names, working plugins, and plugins broken in every way."""

import json
import sys
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from uadtk import registry
from uadtk.checkpoint import new, open_checkpoint
from uadtk.cli import main
from uadtk.core.errors import CheckpointError, DataError, PluginError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Volume
from uadtk.io.cohort import Row
from uadtk.io.read import read_scan
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.score import build_method
from uadtk.pipeline.segment import Rules
from uadtk.testing import installed

HEAD = "from uadtk.plugin import Entry, hookimpl\n"


def offering(*names, module="json:loads", kind="models", api=1):
    entries = ", ".join(f"Entry({name!r}, {module!r}, 'From a plugin.', api={api})" for name in names)
    return f"{HEAD}@hookimpl\ndef uadtk_{kind}():\n    return [{entries}]\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install("dist", source): a plugin of one module; everything is gone after the test."""
    monkeypatch.delenv("UADTK_PLUGINS", raising=False)
    every = metadata.entry_points

    def only_ours(**wanted):  # and not what happens to be installed
        points = every(**wanted)
        if wanted != {"group": "uadtk"}:
            return points
        return [p for p in points if tmp_path in Path(p.dist.locate_file("")).parents]

    monkeypatch.setattr(metadata, "entry_points", only_ours)
    with ExitStack() as stack:

        def add(dist, source, version="1.2"):
            folder = tmp_path / dist
            folder.mkdir()
            module = f"{dist.replace('-', '_')}_entry"
            (folder / f"{module}.py").write_text(source)
            stack.enter_context(installed(folder, dist, {"plugin": module}, version))
            return folder

        yield add
    registry.reload()


def test_built_in_names_are_found_without_looking_at_installed_packages(monkeypatch):
    monkeypatch.delenv("UADTK_PLUGINS", raising=False)
    registry.reload()
    monkeypatch.setattr(metadata, "entry_points", lambda **_: pytest.fail("scanned"))
    assert registry.find("models", "scalespace").dist == "uadtk"
    assert registry.find("models", "uadtk/histeq").entry.target == "uadtk.models.histeq:Model"
    assert registry.load("scorers", "residual").needs == ("reconstruct",)


def test_a_summary_is_the_first_line_of_the_file():
    for kind in ("models", "scorers", "thresholders", "cleaners"):
        for found in registry.entries(kind):
            module, _, attribute = found.entry.target.partition(":")
            assert registry.load(kind, found.entry.name).__name__ == attribute
            assert sys.modules[module].__doc__.splitlines()[0] == found.entry.summary


def test_a_plugin_is_found_by_name_and_by_distribution(install):
    install("alpha", offering("thing"))
    assert registry.find("models", "thing").dist == registry.find("models", "alpha/thing").dist == "alpha"
    assert registry.load("models", "thing").__name__ == "loads"
    assert [p.problem for p in registry.plugins()] == [""]
    assert registry.warnings() == []


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def broken(:", "SyntaxError"),
        (HEAD + "@hookimpl\ndef uadtk_scan_done(segmentaton): pass", "PluginValidationError"),
    ],
)
def test_a_broken_plugin_costs_one_line_and_nothing_else(install, source, cause):
    install("broken", source)
    install("good", offering("thing"))
    (line,) = registry.warnings()
    assert line.startswith("plugin broken 1.2: cannot be loaded (")
    assert cause in line
    assert "\n" not in line
    assert registry.find("models", "thing").dist == "good"
    registry.notify("uadtk_scan_done", pytest.fail, segmentation=None)


def test_who_asks_for_a_broken_plugin_is_told_why(install):
    install("broken", "import no_such_module_anywhere")
    with pytest.raises(PluginError, match=r"broken 1\.2: cannot be loaded .*no_such_module_anywhere"):
        registry.find("models", "broken/thing")
    with pytest.raises(UsageError, match=r"no model 'thing'.*plugin broken 1\.2: cannot be loaded"):
        registry.find("models", "thing")


@pytest.mark.parametrize(
    ("target", "cause"), [("no_such_module:Model", "ModuleNotFoundError"), ("json:Model", "AttributeError")]
)
def test_an_entry_whose_class_is_not_there(install, target, cause):
    install("alpha", offering("thing", module=target))
    with pytest.raises(PluginError, match=rf"alpha 1\.2, model 'thing': cannot be loaded \({cause}") as caught:
        registry.load("models", "thing")
    assert caught.value.exit_code == 5


def test_two_plugins_with_one_name(install):
    install("alpha", offering("thing", module="json:loads"))
    install("beta", offering("thing", module="json:dumps"))
    with pytest.raises(UsageError, match=r"provided by two plugins: alpha and beta\. Name one: alpha/thing"):
        registry.find("models", "thing")
    assert registry.load("models", "beta/thing").__name__ == "dumps"
    with pytest.raises(UsageError, match="no model 'gamma/thing'"):
        registry.find("models", "gamma/thing")


def test_a_plugin_cannot_take_a_built_in_name(install):
    install("alpha", offering("scalespace"))
    assert registry.find("models", "scalespace").dist == "uadtk"
    assert registry.find("models", "alpha/scalespace").dist == "alpha"


def test_an_entry_for_a_newer_uadtk_is_left_out(install):
    install("alpha", offering("new", api=2) + offering("old", kind="scorers"))
    assert registry.warnings() == ["plugin alpha 1.2: 'new' needs a newer uadtk (api 2, this is 1)"]
    assert registry.find("scorers", "old").dist == "alpha"
    with pytest.raises(UsageError, match=r"no model 'new'.*needs a newer uadtk"):
        registry.find("models", "new")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (HEAD + "@hookimpl\ndef uadtk_modls(): return []", "unknown hook 'uadtk_modls'. Did you mean 'uadtk_models'?"),
        ("def uadtk_models(): return []", "'uadtk_models' lacks @hookimpl"),
        (HEAD + "@hookimpl\ndef uadtk_models(): return ['x']", "uadtk_models returned 'x', which is not an Entry"),
        (HEAD + "@hookimpl\ndef uadtk_models(): 1 / 0", "uadtk_models failed (ZeroDivisionError: division by zero)"),
    ],
)
def test_what_is_wrong_with_a_part_of_a_plugin_is_said(install, source, problem):
    install("alpha", source + "\n" + offering("fine", kind="cleaners"))
    assert registry.warnings() == [f"plugin alpha 1.2: {problem}"]
    assert registry.find("cleaners", "fine").dist == "alpha"


def test_half_removed_distributions_do_not_stop_anything(install):
    folder = install("alpha", offering("thing"))
    leftover = folder / "beta-1.0.dist-info"
    leftover.mkdir()
    (leftover / "entry_points.txt").write_text("[uadtk]\nplugin = gone\nworse = not a module!\n")
    registry.reload()
    assert registry.find("models", "thing").dist == "alpha"
    assert [p.dist for p in registry.plugins() if p.problem] == ["unknown", "unknown"]


def test_plugins_can_be_switched_off_and_chosen(install, monkeypatch):
    install("plugin-alpha", offering("one"))
    install("beta", "import no_such_module_anywhere")
    for value, dists in ((None, ["beta", "plugin-alpha"]), ("", []), ("Plugin_Alpha", ["plugin-alpha"])):
        monkeypatch.delenv("UADTK_PLUGINS", raising=False)
        if value is not None:
            monkeypatch.setenv("UADTK_PLUGINS", value)
        registry.reload()
        assert [p.dist for p in registry.plugins()] == dists
    monkeypatch.setenv("UADTK_PLUGINS", "plugin-alpha, gamma")
    registry.reload()
    assert registry.warnings() == ["plugin gamma: named in UADTK_PLUGINS, but not installed"]
    monkeypatch.setenv("UADTK_PLUGINS", "")
    registry.reload()
    with pytest.raises(UsageError, match="no model 'one'"):
        registry.find("models", "one")


def test_trace_prints_every_hook_call(install, monkeypatch, capsys):
    install("alpha", offering("thing"))
    monkeypatch.setenv("UADTK_TRACE", "1")
    registry.reload()
    registry.find("models", "thing")
    registry.notify("uadtk_epoch_done", pytest.fail, record={"epoch": 7}, output=Path("m"), settings={})
    err = capsys.readouterr().err
    assert "uadtk_models" in err
    assert "uadtk_epoch_done" in err
    assert "{'epoch': 7}" in err


def test_observers_are_told_and_a_failing_one_harms_nobody(install):
    observer = HEAD + "seen = []\n@hookimpl\ndef uadtk_epoch_done(record):\n    seen.append(record['epoch'])\n"
    install("alpha", observer)
    install("broken", HEAD + "@hookimpl\ndef uadtk_epoch_done(record):\n    raise ValueError('no\\nnetwork')\n")
    install("zeta", observer)
    said = []
    registry.notify("uadtk_epoch_done", said.append, record={"epoch": 3}, output=Path("m"), settings={})
    assert said == ["warning: plugin broken 1.2: uadtk_epoch_done failed (ValueError: no network)"]
    assert sys.modules["alpha_entry"].seen == sys.modules["zeta_entry"].seen == [3]


FAILING_OBSERVER = (
    HEAD
    + """
@hookimpl
def uadtk_scan_done(segmentation):
    raise OSError("no network")
@hookimpl
def uadtk_scan_failed(path, error):
    raise OSError("no network")
"""
)


def test_a_failing_observer_loses_no_segmentation(install, small_cohort, tmp_path):
    install("broken", FAILING_OBSERVER)
    said = []
    run = Run(say=said.append)
    checkpoint = new("histeq", {}, Preparation())
    point = OperatingPoint("p98", 0.98, Spec("p98"), "", checkpoint.scorer, checkpoint.cleaners, 1, "", "2026-01-01")
    rows = [Row("s4", small_cohort.parent / "s4.nii.gz"), Row("gone", tmp_path / "gone.nii.gz")]
    names, out = ["s4", "gone"], tmp_path / "out"
    done, gone = segment_cohort(rows, names, build_method(checkpoint, run), point, out, run, Rules(), overwrite=False)
    assert done.result.status == "done"
    assert (out / "s4_label-lesion_mask.nii.gz").exists()
    assert "no such file" in str(gone.error)
    assert [line for line in said if line.startswith("warning")] == [
        "warning: plugin broken 1.2: uadtk_scan_done failed (OSError: no network)",
        "warning: plugin broken 1.2: uadtk_scan_failed failed (OSError: no network)",
    ]


READER = (
    HEAD
    + """
@hookimpl
def uadtk_read(path):
    if path.suffix != ".raw":
        return None
    import numpy as np
    from uadtk.plugin import Volume
    voxels = np.frombuffer(path.read_bytes(), np.uint8).reshape(2, 3, 4)
    return Volume(voxels, np.eye(4))
"""
)


def test_a_reader_adds_a_format(install, tmp_path):
    assert registry.readers() == {}
    install("alpha", READER)
    install("beta", HEAD)
    assert [*registry.readers()] == ["alpha"]
    path = tmp_path / "scan.raw"
    path.write_bytes(bytes(range(24)))
    scan = read_scan(path)
    assert scan.voxels.dtype == np.float32
    assert scan.voxels[1, 2, 3] == 23
    path.rename(tmp_path / "scan.other")
    with pytest.raises(DataError, match="no installed plugin reads it"):
        read_scan(tmp_path / "scan.other")


def test_a_reader_that_exits_ends_no_run_as_a_success(install, tmp_path, small_cohort, capsys):
    install("alpha", HEAD + "@hookimpl\ndef uadtk_read(path):\n    raise SystemExit(0)\n")
    (tmp_path / "scan.raw").write_bytes(b"1")
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit) as end:
        main(["segment", str(tmp_path / "scan.raw"), "-o", out])
    assert end.value.code == 5
    assert "a plugin called sys.exit(0)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["segment", str(tmp_path / "scan.raw"), str(small_cohort.parent / "s0.nii.gz"), "-o", out, "--json"])
    assert end.value.code == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["name"]: event["event"] for event in events[:-1] if event["event"] != "started"} == {
        "scan": "failed",
        "s0": "done",
    }
    assert (tmp_path / "out" / "scan_failure.json").exists()


def test_wherever_a_plugin_exits_a_command_of_ours_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr("uadtk.interface.open", lambda *_, **__: sys.exit(0))
    with pytest.raises(SystemExit) as end:
        main(["segment", "scan.nii"])
    assert end.value.code == 1
    assert capsys.readouterr().err == "uadtk: a plugin called sys.exit. Report it to its author.\n"


def test_nifti_is_read_before_any_plugin_is_asked(install, small_cohort):
    install("alpha", HEAD + "@hookimpl\ndef uadtk_read(path):\n    raise AssertionError(path)\n")
    volume = read_scan(small_cohort.parent / "s0.nii.gz")
    assert isinstance(volume, Volume)


COMMAND = """
def count(to: int = 3) -> None:
    print(*range(to))
"""


def test_a_plugin_adds_a_command(install, capsys):
    folder = install("alpha", offering("count", module="alpha_commands:count", kind="commands"))
    (folder / "alpha_commands.py").write_text(COMMAND)
    with pytest.raises(SystemExit) as end:
        main(["count", "--to", "4"])
    assert end.value.code in (None, 0)
    assert capsys.readouterr().out == "0 1 2 3\n"


def test_the_command_line_lists_plugins_and_their_problems(install, capsys):
    install("alpha", offering("thing", kind="models"))
    install("broken", "import no_such_module_anywhere")
    for command in ("models", "plugins"):
        with pytest.raises(SystemExit):
            main([command])
    out = capsys.readouterr().out
    assert "thing From a plugin. [alpha 1.2]" in " ".join(out.split())
    assert "broken 1.2  problem: cannot be loaded (ModuleNotFoundError" in out


def test_the_kit_cleans_up_after_itself(install, tmp_path):
    before = list(sys.path)
    folder = tmp_path / "omega"
    folder.mkdir()
    (folder / "omega_entry.py").write_text(offering("thing"))
    with installed(folder, "omega", {"plugin": "omega_entry"}):
        assert [p.dist for p in registry.plugins()] == ["omega"]
    assert sys.path == before
    assert "omega_entry" not in sys.modules
    assert registry.plugins() == []


WEIGHTS = (
    HEAD
    + """from pathlib import Path

@hookimpl
def uadtk_weights():
    return [Path(__file__).parent / "weights"]
"""
)
ABOUT = '{"file": "a.safetensors", "digest": "d", "card": "a.md", "licence": "CC0-1.0"}'


def test_weights_of_a_plugin_are_listed_and_never_replace_ours(install):
    folder = install("other", WEIGHTS) / "weights"
    folder.mkdir()
    (folder / "index.json").write_text(f'{{"models": {{"mine": {ABOUT}, "implant": {ABOUT}}}}}')
    found = registry.weights()
    assert found["mine"] == {
        "file": str(folder / "a.safetensors"),
        "card": str(folder / "a.md"),
        "digest": "d",
        "licence": "CC0-1.0",
        "dist": "other",
    }
    assert found["implant"]["dist"] == "uadtk"
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_checkpoint("mine")


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (None, "no list of weights"),
        ("[", "no list of weights"),
        ('{"models": {"a": {"file": "a"}}}', "no list of weights"),
        (f'{{"models": {{"a b": {ABOUT}}}}}', "is no name"),
    ],
)
def test_a_plugin_without_a_valid_list_of_weights_is_reported(install, index, problem):
    folder = install("other", WEIGHTS) / "weights"
    folder.mkdir()
    if index is not None:
        (folder / "index.json").write_text(index)
    (plugin,) = registry.plugins()
    assert problem in plugin.problem
    assert "a" not in registry.weights()
    assert "implant" in registry.weights()
