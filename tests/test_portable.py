"""The main commands without the parts of Linux and Unix that Windows or macOS lack.

Each command runs in a process in which these parts are hidden, and must give the same result as without hiding.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from uadtk.cli import main
from uadtk.core.machine import usable_cores

pytestmark = pytest.mark.slow

# torch and numba are imported first: their builds are specific to this system and need its libraries.
_HIDE = """
import builtins, ctypes, io, os, platform, sys
import numba, torch

for name in ("sched_getaffinity", "getloadavg", "getuid", "geteuid"):
    delattr(os, name)
for name in ("resource", "fcntl"):
    sys.modules[name] = None
sys.platform, platform.system = "elsewhere", lambda: "Elsewhere"

def hidden(function):
    def without_proc(path, *arguments, **options):
        if isinstance(path, str | os.PathLike) and str(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path, *arguments, **options)
    return without_proc

builtins.open = io.open = hidden(open)
os.open = hidden(os.open)

class NoLibc(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name is None or os.path.basename(name).startswith("libc."):
            raise OSError("no C library")
        super().__init__(name, *arguments, **options)

ctypes.CDLL = NoLibc

from uadtk.cli import main
main(sys.argv[1:])
"""


def run_hidden(*arguments: object) -> str:
    command = [sys.executable, "-c", _HIDE, *map(str, arguments)]
    # Windows names its user here; torch asks for it as soon as an optimiser is made.
    env = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**env, "USERNAME": "somebody"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(*arguments: object) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    torch.set_num_threads(threads)
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def model(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "histeq.safetensors"
    run_here("threshold", "--model", "histeq", "--healthy", small_cohort, "--split", "train", "-o", path)
    return path


def test_doctor() -> None:
    assert f"{os.cpu_count()} cores" in run_hidden("doctor")


def test_segment(model: Path, small_cohort: Path, tmp_path: Path) -> None:
    scan = small_cohort.parent / "s4.nii.gz"
    run_here("segment", scan, "--model", model, "-o", tmp_path / "here")
    run_hidden("segment", scan, "--model", model, "-o", tmp_path / "hidden")
    for file in ("s4_label-lesion_mask.nii.gz", "s4_desc-anomaly_statmap.nii.gz", "s4_findings.tsv"):
        assert (tmp_path / "hidden" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
    assert np.asarray(nib.load(tmp_path / "hidden" / "s4_label-lesion_mask.nii.gz").dataobj).any()
    assert not list(tmp_path.glob("*/.*"))


def test_train(small_cohort: Path, tmp_path: Path) -> None:
    options = ("--epochs", 1, "--threads", 1, "--latent", 8, "--batch", 32, "--no-augment")
    run_here("train", "ae", small_cohort, "-o", tmp_path / "here.safetensors", *options)
    run_hidden("train", "ae", small_cohort, "-o", tmp_path / "hidden.safetensors", *options)
    here, hidden = (load_file(tmp_path / f"{name}.safetensors") for name in ("here", "hidden"))
    assert here.keys() == hidden.keys()
    for name, weights in here.items():
        np.testing.assert_array_equal(weights, hidden[name])


def test_evaluate(model: Path, small_cohort: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All measures are equal except peak memory, which is not measured."""
    run_here("evaluate", model, small_cohort, "--split", "test", "--json")
    here = json.loads(capsys.readouterr().out)[0]
    table = tmp_path / "table.tsv"
    hidden = json.loads(run_hidden("evaluate", model, small_cohort, "--split", "test", "--json", "-o", table))[0]
    assert hidden["measures"].pop("peak_mb") == {"value": None, "interval": None}
    assert here["measures"].pop("peak_mb")["value"] > 50
    for found in (here, hidden):
        assert found["measures"].pop("seconds")["value"] > 0
    assert hidden["measures"] == here["measures"]
    with table.open(encoding="utf-8", newline="") as lines:
        cells = {line["measure"]: line["histeq"] for line in csv.DictReader(lines, delimiter="\t")}
    assert cells["peak_mb"] == "-"
    assert float(cells["dice"].partition(" ")[0]) > 0


def test_a_console_without_the_characters_gets_question_marks() -> None:
    code = "import uadtk.cli as cli; cli.run = lambda *_: print('⌈DICE⌉') or 0; cli.main([])"
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env)
    assert done.stdout.split() == [b"?DICE?"]


@pytest.mark.parametrize(("present", "cores"), [(("sched_getaffinity", "process_cpu_count"), 1), ((), os.cpu_count())])
def test_usable_cores(monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2, raising=False)
    for name in {"sched_getaffinity", "process_cpu_count"} - {*present}:
        monkeypatch.delattr(os, name)
    assert usable_cores() == cores


def test_usable_cores_of_python_3_13_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert usable_cores() == 5
