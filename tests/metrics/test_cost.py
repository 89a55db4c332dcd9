"""Seconds and peak memory of a block."""

from __future__ import annotations

import math
import mmap
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from uadtk.metrics import cost as module
from uadtk.metrics.cost import measured


def test_seconds_are_those_inside() -> None:
    with measured() as cost:
        time.sleep(0.05)
    assert 0.05 <= cost.seconds < 5


def held(mib: int) -> None:
    """Use this much memory and return it at once: freed arrays would stay in a process that has scored something."""
    with mmap.mmap(-1, mib << 20) as block:
        for page in range(0, mib << 20, mmap.PAGESIZE):
            block[page] = 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")
def test_an_earlier_peak_is_forgotten_and_one_inside_is_seen() -> None:
    held(200)
    with measured() as small:
        pass
    with measured() as large:
        held(100)
    assert 90 <= large.peak_mb - small.peak_mb <= 150


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)], ids=["macOS, bytes", "BSD, kB"])
def test_without_proc_the_peak_is_the_processs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, unit: int
) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=300 * 2**20 // unit))
    monkeypatch.setattr(module, "_OWN", tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setitem(sys.modules, "resource", usage)
    with measured() as cost:
        pass
    assert cost.peak_mb == 300


def test_without_any_count_the_peak_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_OWN", tmp_path / "absent")
    monkeypatch.setitem(sys.modules, "resource", None)
    with measured() as cost:
        pass
    assert math.isnan(cost.peak_mb)
    assert cost.seconds > 0
