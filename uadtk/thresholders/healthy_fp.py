"""Guarantee: false positives on healthy scans stay within a budget, such as 1 lesion per scan.

The budget holds *per scan*, for all but a fraction ``epsilon`` of healthy scans, with confidence 1 - ``delta``. Each
subject i of the calibration set has a lowest threshold T_i at and above which all its scans meet the budget; the
operating point is an order statistic T_(k) of these. Two statements follow if the n calibration subjects and future
subjects are exchangeable, for any model and any distribution of its scores:

* tolerance: over calibration sets, with probability at least 1 - delta, the fraction of future subjects that exceed the
  budget is at most epsilon. The coverage of T_(k) is Beta(k, n - k + 1) or larger, so k is the smallest with
  P(Binomial(n, 1 - epsilon) < k) >= 1 - delta; it exists if n >= ln(delta) / ln(1 - epsilon).
  (Wilks, Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics 1941.)
* marginal: the next subject meets the budget with probability at least k / (n + 1), over draws of both the calibration
  set and the subject. (Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos et al., Conformal Risk
  Control, ICLR 2024.)

Ties, and thresholds below T_i at which a scan happens to meet the budget, make both conservative. Subjects that the
model was trained on, or from another site or scanner, are not exchangeable with future ones: calibrate at that site, on
scans of its own.

The unit of counting is a finding of ``uadtk segment``: a 26-connected component of ``score > threshold`` with at least
``min_voxels`` voxels or ``min_ml`` ml. Millilitres and percentages are of their voxels, so the same filter applies to
these. Excluded voxels, such as a patient's known lesions, score 0: the budget, unscaled, and the guarantee then refer
to the rest of the scan. Only whole scans support a guarantee about whole scans.
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
    budget: str = option(
        "1 lesion/scan", "False positives allowed in a healthy scan: '1 lesion/scan', '0.5 ml/scan', '1 % voxels'."
    )
    epsilon: float = option(0.2, "Fraction of healthy scans that may exceed the budget.", ge=0.001, le=0.5)
    delta: float = option(0.1, "Probability that more than that exceed it: 1 - confidence.", ge=1e-6, le=0.5)
    min_voxels: int = option(8, "Smallest component that counts, in voxels, as in uadtk segment.", ge=1)
    min_ml: float = option(0.0, "The same in ml, in place of voxels; 0 counts voxels.", ge=0, le=100)


class Thresholder:
    Options = Options
    needs_lesions = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.budget = parse_budget(options.budget)

    def check_subjects(self, n: int) -> None:
        """Raises UsageError if ``n`` subjects are too few for the guarantee."""
        epsilon, delta = self.options.epsilon, self.options.delta
        needed = subjects_needed(epsilon, delta)
        if n < needed:
            supported = math.ceil(1000 * (1 - delta ** (1 / n))) / 1000
            raise UsageError(
                f"epsilon={epsilon:g} with delta={delta:g} needs {needed} subjects, not {n}",
                "healthy-fp",
                f"Calibrate on {needed}" + (f", or use epsilon={supported:g}." if supported <= 0.5 else "."),
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
        voxels, ml = (self.options.min_voxels, None) if not self.options.min_ml else (None, self.options.min_ml)
        smallest = f"{voxels} voxels" if ml is None else f"{ml:g} ml"
        target = f"at most {self.budget} in {share}, components of {smallest} or more"
        interval = float(lowest[rank_below(n, epsilon, delta) - 1]), threshold
        return Choice(threshold, target, measured, interval, voxels, ml)

    def lowest(self, scan: CalibrationScan) -> float:
        """T_i: the smallest threshold, at least 0, at and above which the scan meets the budget."""
        limit, unit = self.budget.limit(scan)
        smallest = scan.voxels_in(self.options.min_ml) if self.options.min_ml else self.options.min_voxels
        return max(0.0, healthy_fp_threshold(scan.score_zyx, limit, unit, min_size=smallest))


@dataclass(frozen=True)
class Budget:
    """An amount, and its unit: ``lesions/scan``, ``ml/scan`` or ``% voxels`` (of the brain)."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:g} {'lesion/scan' if (self.amount, self.unit) == (1, 'lesions/scan') else self.unit}"

    def limit(self, scan: CalibrationScan) -> tuple[float, Literal["components", "voxels"]]:
        """The budget of this scan, as a number of components or of voxels."""
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
        raise UsageError(
            "a fraction of a lesion is not a budget", where, "The budget applies to each scan: give a whole number."
        )
    if budget.unit == "% voxels" and budget.amount > 100:
        raise UsageError("exceeds 100 % of the voxels", where, "Give at most 100 %.")
    return budget


def subjects_needed(epsilon: float, delta: float) -> int:
    """Minimum number of subjects for which the highest T_i guarantees epsilon with confidence 1 - delta."""
    return math.ceil(math.log(delta) / math.log1p(-epsilon) / _ROUNDING)


def rank(n: int, epsilon: float, delta: float) -> int:
    """Smallest k in 1..n such that T_(k) covers a fraction 1 - epsilon with probability 1 - delta or more.

    ``n`` must be at least :func:`subjects_needed`.
    """
    fails = bdtrc(np.arange(n), n, 1 - epsilon)  # k = 1, 2, ...: P(at least k of n lie below the quantile)
    return int(np.argmax(fails <= delta * _ROUNDING)) + 1


def rank_below(n: int, epsilon: float, delta: float) -> int:
    """Largest l such that T_(l) is at most the (1 - epsilon)-quantile with probability 1 - delta or more.

    The quantile lies between T_(l) and T_(k) with confidence 1 - 2 delta. At least 1, as epsilon is at most 0.5.
    """
    holds = bdtrc(np.arange(n), n, 1 - epsilon)  # l = 1, 2, ...: P(at least l of n lie at or below the quantile)
    return int(np.count_nonzero(holds >= (1 - delta) / _ROUNDING))


def _per_subject(lowest: Iterable[tuple[str, float]]) -> NDArray[np.float64]:
    """Ascending, the highest of each subject, since scans of one subject are not independent."""
    worst: dict[str, float] = {}
    for subject, threshold in lowest:
        worst[subject] = max(threshold, worst.get(subject, 0.0))
    return np.sort(list(worst.values()))
