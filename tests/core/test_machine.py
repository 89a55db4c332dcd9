"""The machine: memory that can still be had, and what is refused before the work."""

from __future__ import annotations

import subprocess
import sys

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
