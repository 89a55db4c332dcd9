"""Seconds and memory of what runs inside."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import pytest

from uadtk.metrics.cost import measured


def test_seconds_are_those_inside() -> None:
    with measured() as cost:
        time.sleep(0.05)
    assert 0.05 <= cost.seconds < 5


def held(mib: int) -> None:
    """So much memory, given back at once: freed arrays are kept by a process that has scored something."""
    with mmap.mmap(-1, mib << 20) as block:
        for page in range(0, mib << 20, mmap.PAGESIZE):
            block[page] = 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux: elsewhere no peak is forgotten")
def test_an_earlier_peak_is_forgotten_and_one_inside_is_seen() -> None:
    held(200)
    with measured() as small:
        pass
    with measured() as large:
        held(100)
    assert 90 <= large.peak_mb - small.peak_mb <= 150
