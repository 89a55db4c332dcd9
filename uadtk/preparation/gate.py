"""The gate: is this a scan that the checkpoint can read? Green, amber or red, with the reasons.

It works in two steps. The first, before the brain mask, checks file name, DICOM tags and the type of values. The second
examines the brain: the order of its tissues, its size, coverage, noise, ghosts and bias. Red means another kind of
image, or no brain; amber means something unusual. Limits are wide: large tumours, many white matter lesions, wide
ventricles and slices of 8 mm are the intended use.

The limits were set on the 60 ``lgg`` training scans and on phantoms, well outside the range of both.
``benchmarks/gate.md`` has the counts for all other images, and which of those were seen while the limits were set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import quantiles
from typing import Any

import numpy as np

from uadtk.core.finding import Gate, Light, Reason
from uadtk.core.volume import Mask, Scan
from uadtk.kernels._box import bounding_box
from uadtk.preparation import kinds
from uadtk.preparation.background import background
from uadtk.preparation.contrast import Coarse, coarse, tissue_contrast, to_average
from uadtk.preparation.kinds import FLAIR
from uadtk.preparation.plausibility import measure

T1, T2, UNSURE = "T1", "T2 or PD", "unsure"
_OTHER = {
    FLAIR: "fluid is dark and white matter is not brighter than grey, as on a FLAIR",
    T1: "white matter is much brighter than grey, as on a T1",
    T2: "fluid is brighter than grey matter, as on a T2, proton density or echo-planar image",
}
# Measurements compared with those of the training scans, and the distance from their range that is always tolerated.
_COMPARED = {
    "in_plane_mm": 0.5,
    "slice_mm": 4.0,
    "volume_ml": 500.0,
    "level_25": 0.2,
    "level_50": 0.15,
    "level_75": 0.1,
    "noise": 0.05,
    "bias": 0.1,
}


def first_look(scan: Scan, name: str, wanted: str = FLAIR) -> Gate:
    """Before the brain mask: name, tags, values."""
    tags: Mapping[str, Any] = getattr(scan, "facts", {})
    reasons = [*kinds.by_name(name, wanted), *kinds.by_tags(tags, wanted), *kinds.by_values(scan)]
    return Gate(tuple(reasons))


def look(scan: Scan, brain: Mask, first: Gate, statistics: Mapping[str, Any] | None = None) -> Gate:
    """With the brain: tissue order, plausibility, distance from what the checkpoint was trained on.

    ``statistics`` as returned by ``statistics_of``. If the name claims another contrast and the tissues agree, or are
    inconclusive, amber becomes red.
    """
    low = coarse(scan, brain)
    measured = _numbers(scan, brain, low)
    known = statistics or {}
    wanted = wanted_by(known)
    found = [
        *_contrast(measured, wanted),
        *_kind_of_brain(scan, brain, measured, wanted),
        *_brain(measured),
        *_image(measured),
    ]
    if not any(reason.light == "red" for reason in (*first.reasons, *found)):
        found += far_from_training(measured, known)
    reached = Gate(_agreed((*first.reasons, *found)), measured)
    return replace(reached, average=to_average(low)) if _aligned(reached) else reached


def numbers(scan: Scan, brain: Mask) -> dict[str, float]:
    """All measurements of a scan with its brain, by name; to six digits, since the last bits depend on the threads."""
    return _numbers(scan, brain, coarse(scan, brain))


def _aligned(gate: Gate) -> bool:
    """Whether the average brain is aligned well enough to name lobes: this is a brain of its shape, and whole."""
    return gate.light != "red" and not any(reason.check in ("brain", "coverage") for reason in gate.reasons)


def _numbers(scan: Scan, brain: Mask, low: Coarse) -> dict[str, float]:
    measured = {**asdict(tissue_contrast(low)), **measure(scan, brain, low)}
    return {name: float(f"{value:.6g}") for name, value in measured.items()}


def contrast_of(measured: Mapping[str, float]) -> str:
    """FLAIR, T1, ``T2 or PD``, or ``unsure``, by the order of tissues.

    Diseased white matter of a FLAIR may be brighter than grey matter, but not by half of the distance between grey
    matter and fluid, and not in all quarters of the brain; on PET and maps of grey matter it is much darker. Another
    contrast is named only if the evidence is clear.
    """
    white, fluid, plain = measured["white"], measured["fluid"], measured["explained"] > 0.08
    if measured["overlap"] < 0.8:
        return UNSURE
    if fluid > 0.08 and plain:
        return T2
    if white > 0.17 and measured["worst_white"] > 0.1 and white > -0.5 * fluid and plain:
        return T1
    return FLAIR if fluid < -0.08 and -0.3 < white < 0.16 and measured["worst_white"] < 0.15 else UNSURE


def wanted_by(statistics: Mapping[str, Any]) -> str:
    """The contrast that most of the training scans have; FLAIR where nothing is known."""
    counts = {name: n for name, n in statistics.get("contrasts", {}).items() if name != UNSURE}
    return max(counts, key=lambda name: counts[name]) if counts else FLAIR


def statistics_of(scans: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What a checkpoint stores about its training scans: counts of contrasts, and quantiles of every measurement."""
    if len(scans) < 2:
        return {}
    found = [contrast_of(scan) for scan in scans]
    spread = {}
    for name in sorted(scans[0]):
        values = [scan[name] for scan in scans]
        _, *middle, _ = quantiles(values, n=20, method="inclusive")
        row = (min(values), middle[0], middle[8], middle[-1], max(values))
        spread[name] = [float(f"{value:.4g}") for value in row]
    return {
        "scans": len(scans),
        "contrasts": {name: found.count(name) for name in sorted(set(found))},
        "columns": ["min", "q10", "median", "q90", "max"],
        "numbers": spread,
    }


def united(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of trainings on overlapping scans as one: the widest range, and the mean of each quantile."""
    whole = [part for part in parts if part]
    if not whole:
        return {}
    contrasts = [part["contrasts"] for part in whole]
    spread = {}
    for name in whole[0]["numbers"]:
        low, *middle, high = zip(*(part["numbers"][name] for part in whole), strict=True)
        spread[name] = [min(low), *(float(f"{sum(values) / len(values):.4g}") for values in middle), max(high)]
    return {
        "scans": max(part["scans"] for part in whole),
        "contrasts": {
            name: max(one.get(name, 0) for one in contrasts)
            for name in sorted({name for one in contrasts for name in one})
        },
        "columns": whole[0]["columns"],
        "numbers": spread,
    }


def _contrast(measured: Mapping[str, float], wanted: str) -> list[Reason]:
    found = contrast_of(measured)
    value = f"white - grey {measured['white']:+.2f}, fluid - grey {measured['fluid']:+.2f} (ranks)"
    limit = f"as on the checkpoint's {wanted} scans"
    if found == UNSURE:
        return [Reason("amber", "contrast", f"its tissues do not show that it is a {wanted}", value, limit)]
    if found != wanted:
        return [Reason("red", "contrast", _OTHER[found], value, limit)]
    darkest = measured["level_5"]
    if wanted == FLAIR and darkest > 0.62:
        what = f"fluid is hardly darker than tissue ({darkest:.0%} of the bright end), as on proton density"
        return [Reason("amber", "contrast", what, darkest, "a 5th percentile below 62 % of the 98th")]
    return []


def _kind_of_brain(scan: Scan, brain: Mask, measured: Mapping[str, float], wanted: str) -> list[Reason]:
    """Other kinds of images with something brain-like in them."""
    reasons = []
    level = background(scan)
    darker = np.count_nonzero((scan.voxels < np.float32(level)) & brain.voxels)
    below = darker / max(1, int(np.count_nonzero(brain.voxels)))
    if 0.1 < below < 0.9 and contrast_of(measured) != wanted:
        what = f"it may be a statistical map: {below:.0%} of the brain lies below the background"
        reasons.append(Reason("red", "values", what, below, f"above the background, or a {wanted}'s tissue order"))
    middle = measured["level_50"]
    if middle < 0.25:
        what = f"most of the brain is dark ({middle:.0%} of its bright end), as on an angiogram or a statistical map"
        light: Light = "red" if middle < 0.15 else "amber"
        reasons.append(Reason(light, "values", what, middle, "a median of at least 25 % of the 98th percentile"))
    ring = _ring(scan, brain, level)
    if ring > 2.5:
        what = f"what surrounds the brain is {ring:.1f} times as bright as the brain, as the skull is on CT"
        reasons.append(Reason("red", "values", what, ring, "at most 2.5 times"))
    return reasons


def _ring(scan: Scan, brain: Mask, level: float) -> float:
    """Upper quartile of the brightness 5 to 12 mm outside the brain, divided by the brain's median."""
    from scipy import ndimage

    step = [max(1, round(4 / mm)) for mm in scan.spacing_mm]
    beyond = [int(12 / mm) + 1 for mm in scan.spacing_mm]
    sides = zip(bounding_box(brain.voxels), beyond, step, strict=True)
    thin = tuple(slice(max(0, side.start - more) // n * n, side.stop + more, n) for side, more, n in sides)
    inside, image = brain.voxels[thin], scan.voxels[thin] - level
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=np.multiply(step, scan.spacing_mm))
    around = (distance_mm > 5) & (distance_mm < 12)
    middle = float(np.median(image[inside])) if inside.any() else 0.0
    return float(np.quantile(image[around], 0.75)) / middle if around.any() and middle > 0 else 0.0


def _brain(measured: Mapping[str, float]) -> Iterable[Reason]:
    """Size, shape and coverage."""
    volume, width, length, height = (measured[k] for k in ("volume_ml", "width_mm", "length_mm", "height_mm"))
    parts, overlap = measured["largest_part"], measured["overlap"]
    if parts < 0.8:
        what = f"the brain is in pieces: the largest holds {parts:.0%} of it"
        yield Reason("red" if parts < 0.5 else "amber", "brain", what, parts, "at least 80 %")
    if not 600 <= volume <= 2200:
        light: Light = "red" if not 100 <= volume <= 3000 else "amber"
        yield Reason(light, "brain", f"a brain of {volume:.0f} ml", volume, "600 to 2200 ml")
    if not 0.6 <= width / length <= 1.05:
        what = f"the brain is {width:.0f} mm wide and {length:.0f} mm long"
        yield Reason("amber", "brain", what, width / length, "width 0.6 to 1.05 of the length")
    elif overlap < 0.84:
        what = f"it does not have the shape of a brain (overlap with an average one {overlap:.2f})"
        yield Reason("red" if overlap < 0.7 else "amber", "brain", what, overlap, "at least 0.84")
    for side in ("left", "right", "back", "front"):
        if (share := measured[f"cut_{side}"]) > 0.05:
            what = f"the field cuts the brain off at the {side}"
            yield Reason("amber", "coverage", what, share, "at most 5 % of its largest section")
    for side in ("top", "bottom"):
        if (share := measured[f"cut_{side}"]) > 0.5:
            what = f"the {side} of the brain is missing: the last slice has {share:.0%} of the largest section"
            yield Reason("amber", "coverage", what, share, "at most 50 %")
    if height < 90:
        yield Reason("amber", "coverage", f"only {height:.0f} mm of the brain's height", height, "at least 90 mm")


def _image(measured: Mapping[str, float]) -> Iterable[Reason]:
    for name, limit, what in (
        ("in_plane_mm", 2.0, "pixels of {:.3g} mm"),
        ("slice_mm", 9.0, "slices {:.3g} mm apart"),
    ):
        if measured[name] > limit:
            yield Reason("amber", "resolution", what.format(measured[name]), measured[name], f"at most {limit:g} mm")
    for name, limit, what in (
        ("noise", 0.15, "much noise: {:.0%} of the brain's brightness"),
        ("ghosts", 0.16, "fine structure repeats ({:.2f}), as ghosts of motion do"),
        ("jumps", 0.12, "brightness jumps by {:.0%} from slice to slice, as with motion between them"),
        ("bias", 0.35, "brightness drifts by {:.0%} across the brain"),
    ):
        if measured[name] > limit:
            yield Reason("amber", name, what.format(measured[name]), measured[name], f"at most {limit:g}")


def far_from_training(measured: Mapping[str, float], statistics: Mapping[str, Any]) -> Iterable[Reason]:
    """Numbers far outside the range of the training scans: by more than its width, and more than is harmless."""
    for name, (low, *_, high) in statistics.get("numbers", {}).items():
        if name not in _COMPARED or name not in measured:
            continue
        beyond = max(low - measured[name], measured[name] - high)
        if beyond > max(high - low, _COMPARED[name]):
            what = f"far from the training scans: {name} is {measured[name]:.3g}, theirs {low:.3g} to {high:.3g}"
            yield Reason("amber", "training", what, measured[name], f"{low:g} to {high:g}")


def _agreed(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Name or tags that claim another contrast, and tissues that do not contradict them: together they are certain."""
    claims = [reason for reason in reasons if reason.check in ("name", "tags")]
    doubts = any(reason.check == "contrast" for reason in reasons)
    if not (claims and doubts):
        return tuple(reasons)
    return tuple(
        Reason("red", r.check, r.what, r.measured, r.limit) if r.check in ("name", "tags") else r for r in reasons
    )
