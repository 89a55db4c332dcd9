"""The histogram of the score inside the brain, with the threshold marked, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.preparation.geometry import parts

BINS = 96
_WIDTH, _HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 38


@dataclass(frozen=True)
class Histogram:
    """``counts`` of voxels per bin of ``width``, from 0 up; ``above`` of ``total`` voxels exceed ``threshold``."""

    counts: NDArray[np.intp]
    width: float
    threshold: float
    above: int
    total: int


def histogram(score: NDArray[Any], brain: NDArray[Any], threshold: float) -> Histogram:
    """Count the scores (>= 0, 0 outside) inside ``brain``; the threshold coincides with an edge between two bins."""
    score, brain = score.T, brain.T  # in the order of a file, boolean indexing is faster
    top = max(float(score.max()), 1.05 * threshold, 1e-12)
    below = round(BINS * threshold / top)
    width = threshold / below if below > 0 else top / BINS
    bins = math.ceil(top / width)
    counts, above = np.zeros(bins, np.intp), 0
    for some in parts(score):  # bins take twice the memory of scores
        values = score[some][brain[some]]
        places = (values * (1.0 / width)).astype(np.intp)
        counts += np.bincount(np.minimum(places, bins - 1), minlength=bins)
        above += int(np.count_nonzero(values > np.float32(threshold)))
    return Histogram(counts, width, threshold, above, int(counts.sum()))


def histogram_svg(hist: Histogram) -> str:
    """Bars on a logarithmic y axis; colours are the page's (classes ``bar``, ``bar hot``, ``cut``, ``axis``)."""
    top = hist.width * len(hist.counts)
    decades = max(1.0, math.ceil(math.log10(max(int(hist.counts.max()), 1) * 1.2)))
    across = (_WIDTH - _LEFT - _RIGHT) / top
    up = (_HEIGHT - _TOP - _BOTTOM) / decades
    base = _HEIGHT - _BOTTOM

    def bars(first: int, last: int) -> str:
        # log 1 = 0 would hide bins with a single voxel.
        steps = [
            f"M{_LEFT + i * hist.width * across:.1f} {base}"
            f"v{-max(math.log10(count), 0.06) * up:.1f}h{hist.width * across - 0.8:.1f}V{base}z"
            for i, count in enumerate(hist.counts.tolist()[first:last], first)
            if count
        ]
        return "".join(steps)

    cut = min(max(round(hist.threshold / hist.width), 0), len(hist.counts))
    x = _LEFT + max(hist.threshold, 0.0) * across
    end = x > 0.6 * _WIDTH
    parts = [
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of the score">',
        *(
            f'<path class="grid" d="M{_LEFT} {base - d * up:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{base - d * up + 4:.1f}" text-anchor="end">{_count(d)}</text>'
            for d in range(int(decades) + 1)
        ),
        f'<path class="bar" d="{bars(0, cut)}"/><path class="bar hot" d="{bars(cut, len(hist.counts))}"/>',
        f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>',
        *(
            f'<text class="tick" x="{_LEFT + v * across:.1f}" y="{base + 15}" text-anchor="middle">{v:.6g}</text>'
            for v in round_steps(top)
        ),
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 5}" text-anchor="end">score</text>',
        '<text class="tick" x="4" y="12">voxels</text>',
        f'<path class="cut" d="M{x:.1f} {_TOP - 12}V{base}"/>',
        f'<text class="label" x="{x - 6 if end else x + 6:.1f}" y="{_TOP - 4}" '
        f'text-anchor="{"end" if end else "start"}">threshold {hist.threshold:.4g}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _count(decade: int) -> str:
    return ("1", "10", "100", "1k", "10k", "100k", "1M", "10M", "100M", "1G")[decade]


def round_steps(top: float) -> list[float]:
    """Five to nine round numbers from 0 to ``top``."""
    step = 10.0 ** math.floor(math.log10(top))
    step *= next(part for part in (0.2, 0.25, 0.5, 1.0, 2.0) if top / (step * part) <= 8)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]
