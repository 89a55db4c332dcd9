"""Charts of a benchmark as SVG: curves, pairs of histograms, intervals. Colours and dashes are classes of study.css."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uadtk.core.text import shown

COLOURS, DASHES = 6, 3  # 18 curves, distinguishable with any colour vision; in greyscale, three dash patterns
_WIDTH, _HEIGHT = 620, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 32, 44
_SMALL, _LOW = 300, 150  # width and height of a small multiple
_DECADES = 5  # of a histogram's logarithmic y axis


@dataclass(frozen=True)
class Curve:
    """``points`` (x, y) in drawing order; ``ends``: lower and upper y of each point, or empty."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    ends: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``, with a number at each of ``ticks``."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Position of ``value``: 0 at ``low``, 1 at ``high``."""
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)


def style(place: int) -> str:
    """Classes of the ``place``-th curve; they repeat after 18."""
    return f"c{place % COLOURS} d{place // COLOURS % DASHES}"


def key_svg(classes: str) -> str:
    """A sample of a curve, for a legend."""
    return f'<svg class="key" viewBox="0 0 34 10" aria-hidden="true"><path class="curve {classes}" d="M1 5H33"/></svg>'


def curves_svg(curves: Sequence[Curve], x: Axis, y: Axis, chance: float | None = None) -> str:
    """Curves, with dots and bars if they have intervals; ``chance``: height of a dashed line labelled so."""

    def across(value: float) -> float:
        return _LEFT + x.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - y.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    def drawn(curve: Curve) -> str:
        line = "L".join(f"{across(a):.1f} {up(b):.1f}" for a, b in curve.points)
        name = html.escape(shown(curve.name))
        parts = [f'<g><title>{name}</title><path class="curve {curve.style}" d="M{line}"/>']
        for (a, b), ends in zip(curve.points, curve.ends, strict=False):
            parts.append(f'<circle class="dot {curve.style}" cx="{across(a):.1f}" cy="{up(b):.1f}" r="4"/>')
            if ends:
                bar = f"M{across(a):.1f} {up(ends[0]):.1f}V{up(ends[1]):.1f}"
                parts.append(f'<path class="bar {curve.style}" d="{bar}"/>')
        return "".join([*parts, "</g>"])

    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{y.name} against {x.name}">',
        *(
            f'<path class="grid" d="M{_LEFT} {up(t):.1f}H{right}"/>'
            f'<text x="{_LEFT - 7}" y="{up(t) + 5:.1f}" text-anchor="end">{t:g}</text>'
            for t in y.ticks
        ),
        f'<path class="axis" d="M{_LEFT} {base}H{right}"/>',
        *(f'<text x="{across(t):.1f}" y="{base + 18}" text-anchor="middle">{t:g}</text>' for t in x.ticks),
        f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{x.name}</text>',
        f'<text x="4" y="14">{y.name}</text>',
        "" if chance is None else f'<path class="chance" d="M{_LEFT} {up(chance):.1f}H{right}"/>',
        *map(drawn, curves),
        "</svg>",
    ]
    return "".join(parts)


def histograms_svg(normal: Sequence[int], anomalous: Sequence[int], top: float) -> str:
    """Two histograms of equal bins from 0 to ``top``, each normalised, on a logarithmic y axis of five decades.

    The x axis ends at the bin below which 99.9 % of the voxels of both lie. Neither may be empty.
    """
    shares = [np.array(counts) / sum(counts) for counts in (normal, anomalous)]
    drawn = max(int(np.searchsorted(share.cumsum(), 0.999)) + 1 for share in shares)
    step, base, up = _SMALL / drawn, _LOW - 22, (_LOW - 22) / _DECADES

    def steps(share: float) -> float:
        return base - max(math.log10(share) + _DECADES, 0) * up if share > 0 else base

    def outline(counts: Sequence[float]) -> str:
        tops = "".join(f"V{steps(share):.1f}H{(i + 1) * step:.1f}" for i, share in enumerate(counts[:drawn]))
        return f"M0 {base}{tops}V{base}"

    parts = [
        f'<svg class="chart small" viewBox="0 0 {_SMALL} {_LOW}" role="img" aria-label="Histograms of the score">',
        *(f'<path class="grid" d="M0 {base - d * up:.1f}H{_SMALL}"/>' for d in range(1, _DECADES + 1)),
        f'<path class="normal" d="{outline(shares[0].tolist())}z"/>',
        f'<path class="anomalous" d="{outline(shares[1].tolist())}"/>',
        f'<path class="axis" d="M0 {base}H{_SMALL}"/><text x="0" y="{_LOW - 6}">0</text>',
        f'<text x="{_SMALL}" y="{_LOW - 6}" text-anchor="end">{top * drawn / len(normal):.3g}</text></svg>',
    ]
    return "".join(parts)


def interval_svg(value: float, ends: tuple[float, float] | None, low: float, high: float) -> str:
    """A dot at ``value`` and a bar between ``ends``, on a line from ``low`` to ``high``."""

    def across(at: float) -> float:
        return 5 + 110 * (at - low) / (high - low if high > low else 1)

    bar = f'<path class="bar" d="M{across(ends[0]):.1f} 7H{across(ends[1]):.1f}"/>' if ends else ""
    return (
        '<svg class="interval" viewBox="0 0 120 14" aria-hidden="true"><path class="grid" d="M5 7H115"/>'
        f'{bar}<circle class="dot" cx="{across(value):.1f}" cy="7" r="4"/></svg>'
    )
