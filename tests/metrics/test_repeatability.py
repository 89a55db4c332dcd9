"""Limits from pairs of volumes, and those that are shipped."""

from __future__ import annotations

import numpy as np
import pytest

from uadtk.metrics.repeatability import FEWEST, Repeatability, shipped


def record(pairs: list[tuple[float, float]]) -> dict[str, object]:
    point = {"name": "default", "threshold": 0.5}
    rest = {"heads": 3, "command": "python x.py", "slices_mm": [1.0, 1.0, 3.0]}
    return {"checkpoint": "ab", "point": point, **rest, "pairs_ml": pairs}


def test_the_limit_is_what_95_in_100_keep() -> None:
    pairs = [(1.0, 1 - share / 1000) for share in range(100)]
    assert Repeatability.of(record(pairs)).limit_ml(1.0) == pytest.approx(0.095)
    assert Repeatability.of(record(pairs)).limit_ml(2.0) == pytest.approx(0.19)
    assert Repeatability.of(record([(after, before) for before, after in pairs])).limit_ml(1.0) == pytest.approx(0.095)


def test_findings_in_one_scan_only_are_counted_apart() -> None:
    (size,) = Repeatability.of(record([(1.0, 0.9)] * 30 + [(1.0, 0.0)] * 6 + [(0.0, 1.0)] * 4)).sizes
    assert (size.n, size.once, size.limit) == (40, 10, pytest.approx(0.1))
    assert Repeatability.of(record([(1.0, 0.9)] * 30 + [(1.0, 0.0)] * 10)).once(3.0) == 0.25


def test_sizes_differ_and_are_joined_where_few() -> None:
    small, large = [(0.15, 0.09)] * FEWEST, [(5.0, 4.5)] * FEWEST
    found = Repeatability.of(record(small + large))
    assert [size.n for size in found.sizes] == [FEWEST, FEWEST]
    assert found.limit_ml(0.15) == pytest.approx(0.06)
    assert found.limit_ml(0.01) == pytest.approx(0.004)
    assert found.limit_ml(500.0) == pytest.approx(50.0)
    between = found.limit_ml(1.0)
    assert 0.1 < between < 0.4
    assert len(Repeatability.of(record(small + large[1:])).sizes) == 1


def test_what_is_shipped_names_its_command_and_is_of_the_default_model() -> None:
    limits = shipped()
    assert limits.command.startswith("python benchmarks/repeatability.py uadtk/metrics/repeatability.json")
    assert sum(size.n for size in limits.sizes) >= 150
    assert all(0 < size.limit < 1 for size in limits.sizes)
    shares = [size.once / size.n for size in limits.sizes]
    assert shares[0] == max(shares)
    volumes = np.geomspace(0.05, 100, 50)
    assert all(limits.limit_ml(volume) < volume for volume in volumes)


def test_it_was_measured_with_the_weights_that_are_shipped() -> None:
    from uadtk.checkpoint import open_checkpoint

    shipped_model = open_checkpoint("implant")
    limits = shipped()
    assert (limits.checkpoint, limits.threshold) == (shipped_model.digest, shipped_model.point(None).threshold)
