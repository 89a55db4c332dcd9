"""FLAIR contrast: the intensity of each tissue and its variation between scans and within a scan.

Measured on ``../shared/data``: kirby113, mslesseg39 and eight training gliomas, without the lesion and 8 mm around it;
ICBM's tissues were mapped by affine registration, or by the MNI grid for scans on it. Medians relative to the brain's
98th percentile, range over the scans:

    white matter 0.72-0.86      cortex 0.73-0.84 (with partial volume)   deep grey 0.76-0.91   brainstem 0.72-0.88
    cerebellum 0.74-0.91, its white matter 0.68-0.84                     ventricles 0.08-0.31, if in the field of view
    robust standard deviation within white matter 0.06-0.10; noise of the in-plane Laplacian 0.003-0.019
    brain quantiles: 5 % 0.08-0.47, 25 % 0.46-0.70, 50 % 0.72-0.82, 75 % 0.79-0.88, 95 % 0.94-0.97, 99 % 1.03-1.07
    lesions / median of the rest of the brain: MS 1.85, white-matter hyperintensities 1.39, gliomas 1.17-1.56-2.01
"""

from __future__ import annotations

import numpy as np

from uadtk.phantom.anatomy import TISSUES, Anatomy
from uadtk.phantom.fields import Field, smooth_field

# Mean and standard deviation over scans. Grey matter is given as a ratio to white matter, which is 1.
RATIO = {
    "white": (1.0, 0.0),
    "cortex": (1.19, 0.06),
    "deep": (1.10, 0.04),
    "brainstem": (1.02, 0.04),
    "cerebellum": (1.12, 0.05),
    "cerebellum_white": (0.99, 0.04),
    "ventricle": (0.18, 0.06),
    "csf": (0.28, 0.08),
}
SPREAD = {"white": 0.035, "cortex": 0.06, "csf": 0.35}  # standard deviation of the slow variation within a tissue


def draw_ratios(rng: np.random.Generator) -> dict[str, float]:
    """One scan's tissue intensities; white matter is 1."""
    draws = {name: RATIO[name][0] + RATIO[name][1] * float(np.clip(rng.normal(), -2, 2)) for name in TISSUES}
    return {name: round(value, 3) for name, value in draws.items()}


def signal(rng: np.random.Generator, anatomy: Anatomy, ratios: dict[str, float]) -> Field:
    """Noise-free FLAIR of ``anatomy`` on its grid, with white matter at about 1.

    The width of sulci varies locally; tissue intensities drift over 20 mm; white matter next to the ventricles is
    brighter, as in healthy adults. Fluid is continued outside the brain, so that resampling causes no dark seam.
    """
    parts = anatomy.fractions
    shape = parts["white"].shape
    slow = {name: 1 + spread * smooth_field(rng, shape, (20.0,) * 3) for name, spread in SPREAD.items()}
    slow["white"] += np.float32(rng.uniform(0.02, 0.16)) * anatomy.near_ventricle
    slow["csf"] = np.clip(slow["csf"], 0.2, 2)
    sulci = np.exp(np.float32(rng.normal(0.8, 0.5)) + 0.5 * smooth_field(rng, shape, (25.0,) * 3))
    drift = {"deep": "white", "cerebellum": "cortex", "brainstem": "white", "cerebellum_white": "white"}
    bright, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for name, part in parts.items():
        amount = part * sulci if name == "csf" else part
        field = slow["csf" if name in ("csf", "ventricle") else drift.get(name, name)]
        bright += np.float32(ratios[name]) * amount * field
        weight += amount
    fluid = np.float32(ratios["csf"])
    if anatomy.myelin is not None:
        bright *= 1 - np.float32(rng.uniform(0.4, 1.0)) * anatomy.myelin
    return np.where(weight > 0, bright / np.maximum(weight, 1e-6), fluid)


def flat_signal(anatomy: Anatomy, ratios: dict[str, float]) -> Field:
    """The same without any variation within a tissue: its mean intensity, mixed at borders by partial volume."""
    weight = np.asarray(sum(anatomy.fractions.values()))
    bright = np.asarray(sum(np.float32(ratios[name]) * part for name, part in anatomy.fractions.items()))
    return np.where(weight > 0, bright / np.maximum(weight, 1e-6), np.float32(ratios["csf"])).astype(np.float32)


def texture(rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Field:
    """Fine structure absent from tissue maps: a factor about 1 with features of 2 and 6 mm, 3 % each."""
    fine = smooth_field(rng, shape, tuple(2 / s for s in spacing))
    fine += smooth_field(rng, shape, tuple(6 / s for s in spacing))
    return 1 + np.float32(0.03) * fine
