"""Guarantee: false positives on healthy scans stay within a budget, such as 1 lesion per scan.

The budget is kept *per scan*, by all but a share ``epsilon`` of healthy scans, and that is promised with confidence
1 - ``delta``. Each subject i of the calibration set has a lowest threshold T_i from which on all its scans keep the
budget, whatever the higher threshold; the operating point is an order statistic T_(k) of them. What then holds, if
the n calibration subjects and those to come are exchangeable, whatever the model and the distribution of its scores:

* tolerance: over calibration sets, with probability at least 1 - delta, the share of subjects to come that exceed the
  budget is at most epsilon. The coverage of T_(k) is Beta(k, n - k + 1) or larger, so k is the smallest with
  P(Binomial(n, 1 - epsilon) < k) >= 1 - delta; there is one if n >= ln(delta) / ln(1 - epsilon).
  (Wilks, Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics 1941.)
* marginal: the next subject keeps the budget with probability at least k / (n + 1), calibration set and subject both
  being drawn. (Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos et al., Conformal Risk Control,
  ICLR 2024.)

Ties, and thresholds below T_i at which a scan happens to keep the budget, make both conservative. Subjects are not
exchangeable with those to come if the model was trained on them, or if they come from another site or scanner:
calibrate there, on scans of its own.

What is counted is what ``uadtk segment`` would call a finding: 26-connected components of ``score > threshold`` with at
least ``min_voxels`` voxels. Millilitres and percentages are of their voxels, so the filter holds for these too.
Voxels that do not count, such as slices of a patient that hold lesions, score 0: the budget is then for the rest of the
scan, unscaled, and so is the promise. Only whole scans give one about whole scans.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv

from uadtk.kernels import healthy_fp_threshold
from uadtk.plugin import CalibrationScan, CalibrationSet, Choice, UsageError, option

_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Options:
    budget: str = option("1 lesion/scan", "What a healthy scan may hold: '1 lesion/scan', '0.5 ml/scan', '1 % voxels'.")
    epsilon: float = option(0.2, "Share of healthy scans that may exceed the budget.", ge=0.001, le=0.5)
    delta: float = option(0.1, "Probability that more exceed it than that: 1 - confidence.", ge=1e-6, le=0.5)
    min_voxels: int = option(8, "Smallest component that counts, in voxels, as in segment.", ge=1)


class Thresholder:
    Options = Options
    needs_lesions = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.budget = parse_budget(options.budget)

    def check_subjects(self, n: int) -> None:
        """Raises UsageError if ``n`` subjects cannot support the promise."""
        epsilon, delta = self.options.epsilon, self.options.delta
        needed = subjects_needed(epsilon, delta)
        if n < needed:
            supported = math.ceil(1000 * (1 - delta ** (1 / n))) / 1000
            raise UsageError(
                f"epsilon={epsilon:g} with delta={delta:g} needs {needed} subjects, not {n}",
                "healthy-fp",
                f"Calibrate on {needed}" + (f", or ask for epsilon={supported:g}." if supported <= 0.5 else "."),
            )

    def choose(self, scans: CalibrationSet) -> Choice:
        """Raises UsageError if there are too few subjects."""
        epsilon, delta = self.options.epsilon, self.options.delta
        lowest = _per_subject((scan.subject, self.lowest(scan)) for scan in scans)
        n = lowest.size
        self.check_subjects(n)
        k = rank(n, epsilon, delta)
        threshold = float(lowest[k - 1])
        measured = {
            "over_budget": float((lowest > threshold).mean()),
            "over_budget_limit": epsilon,
            "bound": 1 - float(betaincinv(k, n - k + 1, delta)),
            "next_within": k / (n + 1),
            "rank": float(k),
            "subjects": float(n),
            "needed_for_half_epsilon": float(subjects_needed(epsilon / 2, delta)),
        }
        share = f"{100 * (1 - epsilon):g} % of healthy scans, confidence {100 * (1 - delta):g} %"
        target = f"at most {self.budget} in {share}, components of {self.options.min_voxels} voxels or more"
        interval = float(lowest[rank_below(n, epsilon, delta) - 1]), threshold
        return Choice(threshold, target, measured, interval, self.options.min_voxels)

    def lowest(self, scan: CalibrationScan) -> float:
        """T_i: the smallest threshold, at least 0, such that there and at all higher ones the scan keeps the budget."""
        limit, unit = self.budget.limit(scan)
        return max(0.0, healthy_fp_threshold(scan.score_zyx, limit, unit, min_size=self.options.min_voxels))


@dataclass(frozen=True)
class Budget:
    """An amount, and its unit: ``lesions/scan``, ``ml/scan`` or ``% voxels`` (of the brain)."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:g} {'lesion/scan' if (self.amount, self.unit) == (1, 'lesions/scan') else self.unit}"

    def limit(self, scan: CalibrationScan) -> tuple[float, Literal["components", "voxels"]]:
        """What this scan may hold, as a number of components or of voxels."""
        if self.unit == "lesions/scan":
            return self.amount, "components"
        if self.unit == "ml/scan":
            return math.floor(self.amount / scan.voxel_ml * _ROUNDING), "voxels"
        return self.amount * int(np.count_nonzero(scan.brain)) / 100, "voxels"


def parse_budget(text: str) -> Budget:
    """``1 lesion/scan``, ``0.5 ml/scan`` or ``1 % voxels``. Raises UsageError for anything else."""
    where = f"healthy-fp: budget={text}"
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(lesions?/scan|ml/scan|% voxels)", " ".join(text.split()))
    if found is None:
        raise UsageError("not a budget", where, "Write '1 lesion/scan', '0.5 ml/scan' or '1 % voxels'.")
    budget = Budget(float(found[1]), found[2].replace("lesion/", "lesions/"))
    if budget.unit == "lesions/scan" and budget.amount % 1:
        raise UsageError("half a lesion cannot be kept", where, "The budget is for each scan: give a whole number.")
    if budget.unit == "% voxels" and budget.amount > 100:
        raise UsageError("more than all voxels", where, "Give at most 100 %.")
    return budget


def subjects_needed(epsilon: float, delta: float) -> int:
    """Fewest subjects of which even the highest T_i promises epsilon with confidence 1 - delta."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon) / _ROUNDING)


def rank(n: int, epsilon: float, delta: float) -> int:
    """Smallest k in 1..n such that T_(k) covers a share 1 - epsilon with probability 1 - delta or more.

    ``n`` must be at least :func:`subjects_needed`.
    """
    fails = bdtrc(np.arange(n), n, 1 - epsilon)  # k = 1, 2, ...: P(at least k of n lie below the quantile)
    return int(np.argmax(fails <= delta * _ROUNDING)) + 1


def rank_below(n: int, epsilon: float, delta: float) -> int:
    """Largest l such that T_(l) is at most the (1 - epsilon)-quantile with probability 1 - delta or more.

    From T_(l) to T_(k) the quantile lies with confidence 1 - 2 delta. At least 1, as epsilon is at most 0.5.
    """
    holds = bdtrc(np.arange(n), n, 1 - epsilon)  # l = 1, 2, ...: P(at least l of n lie at or below the quantile)
    return int(np.count_nonzero(holds >= (1 - delta) / _ROUNDING))


def _per_subject(lowest: Iterable[tuple[str, float]]) -> NDArray[np.float64]:
    """Rising, one for each subject: scans of one subject are not independent, and count as its worst."""
    worst: dict[str, float] = {}
    for subject, threshold in lowest:
        worst[subject] = max(threshold, worst.get(subject, 0.0))
    return np.sort(list(worst.values()))
