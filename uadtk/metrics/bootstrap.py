"""Bootstrap intervals over patients, for any measure computed from sums over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95
_AT_ONCE = 64


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], Any], sums: NDArray[Any], seed: int = 0, draws: int = DRAWS
) -> NDArray[np.float64]:
    """95 % percentile interval of ``statistic`` of the patients' sums, over patients drawn with replacement.

    Parameters
    ----------
    statistic : callable
        Takes sums over patients (m,) and returns one value or several (k,). Draws with a NaN are left out of the
        interval of that value.
    sums : array (patients, m)
        One row per patient, summed over the patient's scans: patients are the units drawn. Scans of one patient are
        not independent, and an interval over scans would be too narrow.
    seed : int
        The same seed draws the same patients.

    Returns
    -------
    array (k, 2)
        Lower and upper end; NaN with fewer than two patients or if no draw has a value.
    """
    of = dict[bytes, NDArray[Any]]()  # two or three patients make few different draws
    drawn = []
    for times, total in _drawn(np.asarray(sums, float), seed, draws):
        if times not in of:
            of[times] = np.atleast_1d(statistic(total))
        drawn.append(of[times])
    values = np.array(drawn)
    if len(sums) < 2:
        return np.full((values.shape[1], 2), np.nan)
    ends = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.quantile(column, ends) if column.size else (np.nan, np.nan) for column in found])


def _drawn(sums: NDArray[np.float64], seed: int, draws: int) -> Iterator[tuple[bytes, NDArray[np.float64]]]:
    """How often each patient was drawn, and the sums; a single draw with fewer than two patients."""
    n = len(sums)
    if n < 2:
        yield b"", sums.sum(axis=0)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _AT_ONCE):
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(_AT_ONCE, draws - start))
        yield from zip((row.tobytes() for row in times), times.astype(float) @ sums, strict=True)
