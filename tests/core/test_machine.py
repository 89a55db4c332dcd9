"""The machine: memory that can still be had, and what is refused before the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uadtk.core import machine
from uadtk.core.errors import OutOfMemoryError


def test_work_that_fits_is_let_through_and_other_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 2_000_000_000)
    machine.require_memory(1_999_999_999, "it")
    with pytest.raises(OutOfMemoryError, match=r"reading it takes about 3.0 GB of memory, 2.0 GB are free"):
        machine.require_memory(3_000_000_000, "reading it")


def test_what_is_not_known_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: None)
    machine.require_memory(10**18, "it")


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_of_machine", lambda: 8)
    monkeypatch.setattr(machine, "_of_container", lambda: 5)
    monkeypatch.setattr(machine, "_of_limit", lambda: None)
    assert machine.free_memory() == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ulimit -v and /proc")
def test_the_limit_of_a_shell_is_seen() -> None:
    code = "from uadtk.core import machine; print(machine.free_memory())"
    done = subprocess.run(["bash", "-c", f'ulimit -v 3000000; {sys.executable} -c "{code}"'], capture_output=True)
    assert 1e9 < int(done.stdout) < 3e9 + 1e8


def test_a_header_that_promises_more_than_there_is_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import nibabel as nib
    import numpy as np

    from uadtk.io.read import read_scan

    path = tmp_path_factory.mktemp("m") / "large.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4)), path)
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match="reading it takes") as error:
        read_scan(path)
    assert error.value.where == str(path)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "100000 0\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_of_time(files: dict[str, str], cores: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine._quota(tmp_path) == cores


def test_no_more_cores_are_used_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, cores in ((2, 2), (16, 8), (None, 8)):
        monkeypatch.setattr(machine, "_quota", lambda quota=quota: quota)
        assert machine.usable_cores() == cores


@pytest.mark.parametrize("chosen", [None, "50"])
def test_threads_of_a_command_spin_briefly_unless_told_otherwise(chosen: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    env |= {"GOMP_SPINCOUNT": chosen} if chosen else {}
    code = "import uadtk.cli, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [chosen or "1000", "False"]
