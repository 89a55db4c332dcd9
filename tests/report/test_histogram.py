from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from uadtk.report.histogram import histogram, histogram_svg, round_steps


def score_and_brain() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.gamma(1.0, 0.1, (30, 31, 32)).astype(np.float32), rng.random((30, 31, 32)) < 0.5


def test_counts_every_brain_voxel_on_the_right_side_of_the_threshold() -> None:
    score, brain = score_and_brain()
    hist = histogram(score, brain, 0.3)
    assert hist.total == hist.counts.sum() == brain.sum()
    assert hist.above == (score[brain] > 0.3).sum()
    edge = round(0.3 / hist.width)
    assert edge * hist.width == pytest.approx(0.3)
    assert hist.counts[edge:].sum() == pytest.approx(hist.above, abs=1)


def test_memory_order_does_not_matter() -> None:
    score, brain = score_and_brain()
    expected = histogram(score, brain, 0.3).counts
    turned = (np.asfortranarray(score), np.asfortranarray(brain))
    for s, b in (turned, (turned[0], brain), (score[::-1], brain[::-1])):
        np.testing.assert_array_equal(histogram(s, b, 0.3).counts, expected)


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.3, 50.0])
@pytest.mark.parametrize("kind", ["usual", "all zero", "no brain", "one voxel far out"])
def test_svg_is_well_formed_and_bounded(kind: str, threshold: float) -> None:
    score, brain = score_and_brain()
    if kind == "all zero":
        score[:] = 0
    elif kind == "no brain":
        brain[:] = False
    elif kind == "one voxel far out":
        score[3, 3, 3], brain[3, 3, 3] = 1e6, True
    hist = histogram(score, brain, threshold)
    assert len(hist.counts) <= 200
    svg = histogram_svg(hist)
    root = ET.fromstring(svg)
    assert len(svg) < 12_000
    assert "nan" not in svg
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = root.findall("text")
    assert all(0 <= float(t.attrib["x"]) <= width and 0 <= float(t.attrib["y"]) <= height for t in texts)
    assert f"threshold {threshold:.4g}" in [t.text for t in texts]


def test_threshold_stands_between_cold_and_hot_bars() -> None:
    root = ET.fromstring(histogram_svg(histogram(*score_and_brain(), 0.3)))
    paths = {path.attrib["class"]: path.attrib["d"] for path in root.findall("path")}
    x = float(paths["cut"][1:].split(" ")[0])
    starts = {name: [float(bar.split(" ")[0]) for bar in paths[name].split("M")[1:]] for name in ("bar", "bar hot")}
    assert max(starts["bar"]) < x
    assert min(starts["bar hot"]) == pytest.approx(x, abs=0.1)


@pytest.mark.parametrize("top", [1e-12, 0.013, 0.5, 0.99, 1.0, 1.7, 3.3, 8.4, 9.99, 123456.0])
def test_ticks_are_few_and_inside(top: float) -> None:
    steps = round_steps(top)
    assert 4 <= len(steps) <= 9
    assert steps[0] == 0
    assert steps[-1] <= top * (1 + 1e-9)
