"""Kernels without a writable folder: the same results, compiled again, and one line that says so."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import uadtk
from uadtk.kernels._cache import ADVICE, cache_folder

PACKAGE = Path(uadtk.__file__).parent
MEDIAN = (
    "import numpy as np; from uadtk.kernels import median3d;"
    "print(float(median3d(np.arange(27.0).reshape(3, 3, 3), 3).sum()))"
)


def as_nobody(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run as a user who may write nowhere: root could."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become another user")
    settings = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")}
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        [*prefix, sys.executable, *command],
        cwd=folder,
        env={**settings, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A folder that anybody can read, with a copy of the package: the checkout may be closed to others."""
    shutil.copytree(PACKAGE, tmp_path / "uadtk", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path, *tmp_path.parents, *tmp_path.rglob("*")):
        if path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0))
    return tmp_path


@pytest.mark.slow
def test_a_kernel_runs_where_nothing_can_be_written(readable: Path) -> None:
    done = as_nobody("-c", MEDIAN, folder=readable)
    if "Permission denied" in done.stderr and "site-packages" in done.stderr:
        pytest.skip("the interpreter itself is closed to other users")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 13.0 * 27


def test_the_folder_is_the_one_that_numba_would_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert cache_folder() is None
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    found = cache_folder()
    assert found is not None
    assert found.name in ("__pycache__", "numba")


def test_the_line_is_said_once_and_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from uadtk.pipeline.run import make_run

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    make_run("cpu", 1)
    assert capsys.readouterr().err.count(ADVICE) == 1


def test_numba_falls_back_to_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file" / "below")}
    done = subprocess.run([sys.executable, "-c", MEDIAN], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 13.0 * 27
