"""Seconds and memory of what runs inside."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from uadtk.metrics.cost import measured


def test_seconds_are_those_inside() -> None:
    with measured() as cost:
        time.sleep(0.05)
    assert 0.05 <= cost.seconds < 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux: elsewhere no peak is forgotten")
def test_an_earlier_peak_is_forgotten_and_one_inside_is_seen() -> None:
    np.ones(200 << 17)  # 200 MiB, freed at once
    with measured() as small:
        pass
    with measured() as large:
        np.ones(100 << 17)
    assert 90 <= large.peak_mb - small.peak_mb <= 150
