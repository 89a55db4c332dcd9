"""The charts of a benchmark: positions match the numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from uadtk.report.charts import COLOURS, DASHES, Axis, Curve, curves_svg, histograms_svg, interval_svg, style

UNIT = Axis("recall", 0, 1, (0, 0.5, 1))


def paths(svg: str, name: str) -> list[str]:
    return [p.get("d", "") for p in ET.fromstring(svg).iter("path") if name in p.get("class", "").split()]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split() for point in path[1:].split("L"))]


def test_a_straight_line_is_straight_and_rises_to_the_right() -> None:
    svg = curves_svg([Curve("a", "c0 d0", [(0, 0), (0.5, 0.5), (1, 1)])], UNIT, UNIT)
    (x0, y0), (x1, y1), (x2, y2) = points(paths(svg, "curve")[0])
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2))


def test_chance_is_a_level_line_at_its_height() -> None:
    svg = curves_svg([Curve("a", "c0 d0", [(0, 0.25), (1, 0.25)])], UNIT, UNIT, chance=0.25)
    assert paths(svg, "chance")[0].split()[1].startswith(f"{points(paths(svg, 'curve')[0])[0][1]}H")
    assert not paths(curves_svg([], UNIT, UNIT), "chance")


def test_a_logarithmic_axis_puts_the_geometric_mean_in_the_middle() -> None:
    axis = Axis("scans", 10, 1000, (), logarithmic=True)
    assert [axis.share(v) for v in (10, 100, 1000)] == pytest.approx([0, 0.5, 1])


def test_points_with_intervals_have_dots_and_those_without_no_bar() -> None:
    svg = curves_svg([Curve("a", "c0 d0", [(0, 0.5), (1, 0.5)], [(0.25, 1.0), None])], UNIT, UNIT)
    assert len(list(ET.fromstring(svg).iter("circle"))) == 2
    (bar,) = paths(svg, "bar")
    low, high = map(float, re.fullmatch(r"M[\d.]+ ([\d.]+)V([\d.]+)", bar).groups())
    dot = points(paths(svg, "curve")[0])[0][1]
    assert (low - dot, dot - high) == pytest.approx(((low - high) / 3, (low - high) * 2 / 3), abs=0.15)


def test_names_are_escaped() -> None:
    svg = curves_svg([Curve("<a&b>", "c0", [(0, 0)])], UNIT, UNIT)
    assert [title.text for title in ET.fromstring(svg).iter("title")] == ["<a&b>"]


def test_18_curves_differ() -> None:
    assert len({style(k) for k in range(COLOURS * DASHES)}) == 18
    assert style(18) == style(0)


def heights(path: str) -> list[float]:
    base = float(path.split()[1].split("V")[0])
    return [base - float(tops) for tops in re.findall(r"V([\d.]+)H", path)]


def test_each_histogram_is_divided_by_its_own_sum_and_a_decade_has_one_height() -> None:
    svg = histograms_svg([900, 90, 10, 0], [9, 0, 1, 0], 4.0)
    normal, anomalous = (heights(paths(svg, name)[0]) for name in ("normal", "anomalous"))
    assert len(normal) == len(anomalous) == 3  # nothing lies in the last bin
    assert normal[0] == anomalous[0]  # 90 % of both
    assert normal[0] - normal[1] == pytest.approx(128 / 5, abs=0.2)  # ten times fewer: one of five decades
    assert anomalous[1] == 0
    assert anomalous[2] - normal[2] == pytest.approx(128 / 5, abs=0.2)  # 10 % and 1 %
    assert svg.endswith(">3</text></svg>")


def test_a_histogram_ends_where_all_but_a_thousandth_lie_to_the_left() -> None:
    svg = histograms_svg([9989, 10, 0, 1], [1, 0, 0, 0], 4.0)
    assert len(heights(paths(svg, "normal")[0])) == 2


def test_an_interval_lies_around_its_dot() -> None:
    svg = interval_svg(2.0, (1.0, 3.0), 1.0, 3.0)
    assert paths(svg, "bar") == ["M5.0 7H115.0"]
    assert next(ET.fromstring(svg).iter("circle")).get("cx") == "60.0"
    assert not paths(interval_svg(2.0, None, 1.0, 3.0), "bar")
    assert next(ET.fromstring(interval_svg(1.0, None, 1.0, 1.0)).iter("circle")).get("cx") == "5.0"
