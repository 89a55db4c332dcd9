"""Two methods on the same patients: the paired permutation test.

Under the null hypothesis each patient's two values are exchangeable. The p-value is the share of all swaps whose mean
difference is at least as large, in either direction, as the observed one (Fisher 1935; Pitman 1937). It makes no
assumption about the distribution of the values. With n patients it is never below 2 / 2^n: five patients cannot show a
difference at 5 %. When all pairs of several methods are compared on a collection, Holm's correction (1979) controls the
family-wise error rate of that collection; collections are not corrected for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.metrics.bootstrap import bootstrap

EXACT_PAIRS = 16  # 65 536 swaps
DRAWS = 2**EXACT_PAIRS - 1
_AT_ONCE, _COLUMNS = 4096, 256  # swaps, pairs


@dataclass(frozen=True)
class Paired:
    """``pairs``: patients with both values; ``difference``: mean of one - other; ``p``: two-sided, in (0, 1].

    ``difference`` is NaN without a pair, ``p`` with fewer than two.
    """

    pairs: int
    difference: float
    p: float


@dataclass(frozen=True)
class Pair:
    """Two rows of a collection, by label, on the patients they share: :class:`Paired`, and ``p_holm`` in (0, 1].

    ``measure``: ``dice`` or ``auprc``. ``difference``: mean of ``one`` - ``other``; ``low`` and ``high``: its 95 %
    bootstrap interval over patients, NaN with fewer than two.
    """

    collection: str
    measure: str
    one: str
    other: str
    pairs: int
    difference: float
    p: float
    p_holm: float
    low: float = math.nan
    high: float = math.nan


def all_pairs(values: Mapping[str, Mapping[str, float]], collection: str, measure: str, seed: int = 0) -> list[Pair]:
    """The paired test of all pairs of ``values`` (label -> patient -> value), Holm-corrected over all of them."""
    labels = list(combinations(values, 2))
    differences = [_differences(values[one], values[other]) for one, other in labels]
    ps = _shared(lambda columns: permutations(columns, seed), differences)
    corrected = holm(ps)
    intervals = _shared(lambda columns: _intervals(columns, seed), differences)
    return [
        Pair(collection, measure, one, other, len(values), _mean(values), p, p_holm, low, high)
        for (one, other), values, p, p_holm, (low, high) in zip(
            labels, differences, ps, corrected, intervals, strict=True
        )
    ]


def _differences(one: Mapping[str, float], other: Mapping[str, float]) -> NDArray[np.float64]:
    """Of the patients with both values."""
    return np.array([value - other[subject] for subject, value in one.items() if subject in other])


def _mean(differences: NDArray[np.float64]) -> float:
    return float(differences.mean()) if len(differences) else math.nan


def _shared(result: Callable[[NDArray[np.float64]], Any], differences: Sequence[NDArray[np.float64]]) -> list[Any]:
    """``result`` of columns (n, k), k values, for all differences of one length together: their draws are the same."""
    found: list[Any] = [None] * len(differences)
    for n in {len(column) for column in differences}:
        same = [place for place, column in enumerate(differences) if len(column) == n]
        values = result(np.column_stack([differences[place] for place in same])).tolist()
        for place, value in zip(same, values, strict=True):
            found[place] = value
    return found


def _intervals(differences: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Bootstrap intervals of the means of columns (n, k): (k, 2)."""
    n, k = differences.shape
    if n < 2:
        return np.full((k, 2), math.nan)
    return bootstrap(lambda total: total / n, differences, seed)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given: the k-th smallest of m times m - k + 1, monotonic, at most 1.

    NaN means no test: it stays NaN and is not counted. Holm, Scand. J. Statist. 6 (1979) 65-70.
    """
    tested = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    corrected, least = list(ps), 0.0
    for k, (p, place) in enumerate(tested):
        corrected[place] = least = max(least, min(1.0, p * (len(tested) - k)))
    return corrected


def compare(one: Mapping[str, float], other: Mapping[str, float], seed: int = 0) -> Paired:
    """The paired test of values by patient; patients without both values are left out."""
    differences = _differences(one, other)
    return Paired(len(differences), _mean(differences), paired_permutation(differences, seed))


def paired_permutation(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p-value that the mean of ``differences`` (n,) is 0; NaN with fewer than two.

    Exact up to 16 patients. Beyond, 65 535 random swaps and the observed one: never 0, and within 0.002 of an exact
    0.05 (2 standard errors). ``seed`` draws the swaps.
    """
    return float(permutations(differences[:, None], seed)[0]) if len(differences) > 1 else math.nan


def permutations(differences: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """The same for each column of ``differences`` (n, k), with the same swaps: (k,)."""
    n, k = differences.shape
    if n < 2:
        return np.full(k, math.nan)
    found = np.abs(differences.sum(axis=0))
    found -= 1e-12 * np.abs(differences).sum(axis=0)  # tolerance for sums that differ by rounding only
    as_large = np.zeros(k, np.int64)
    for signs in _signs(n, seed):
        for start in range(0, k, _COLUMNS):
            some = slice(start, start + _COLUMNS)
            as_large[some] += np.count_nonzero(np.abs(signs @ differences[:, some]) >= found[some], axis=0)
    shares: NDArray[np.float64] = as_large / 2**n if n <= EXACT_PAIRS else (as_large + 1) / (DRAWS + 1)
    return shares


def _signs(n: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Swaps as signs -1 and 1, (at most 4096, n) at a time: all of them, or ``DRAWS`` random ones."""
    rng = np.random.default_rng(seed)
    ways = 2**n if n <= EXACT_PAIRS else DRAWS
    for start in range(0, ways, _AT_ONCE):
        many = min(_AT_ONCE, ways - start)
        if n <= EXACT_PAIRS:
            bits = (np.arange(start, start + many)[:, None] >> np.arange(n)) & 1
        else:
            bits = rng.integers(0, 2, (many, n))
        yield np.where(bits, 1.0, -1.0)
