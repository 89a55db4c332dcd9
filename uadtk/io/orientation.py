"""The voxel grid in a NIfTI header: sform, qform and pixdim, and how contradictions between them are resolved.

The sform is used if its code is not 0, else the qform, else the spacing alone, as nibabel does. A header whose parts
disagree is reported; if the volume of a voxel depends on which part is right, it is refused unless one is chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.core.errors import DataError
from uadtk.core.volume import MAX_SPACING_MM, MIN_SPACING_MM, Affine, Header

TRUST = ("sform", "qform")
VOLUME_SHARE = 0.01  # relative difference of the voxel volume from which a header is refused
SPACING_SHARE = 0.001  # relative difference of a spacing, angle in degrees and shift in mm that are reported
ANGLE_DEG = 1.0
SHIFT_MM = 1.0
_UNITS_MM = {1: 1000.0, 3: 0.001}  # metres, micrometres


def choose_affine(header: Any, trust: str = "") -> tuple[Affine, Header, tuple[str, ...]]:
    """The affine to RAS+ mm, the claims of the header, and its contradictions in words.

    Parameters
    ----------
    trust
        ``sform`` or ``qform``: use this one, whatever the other says; '' uses the first that is set.

    Raises
    ------
    DataError
        The parts of the header give voxel volumes that differ by more than 1 %, or the trusted one is not set.
    """
    codes = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    scale, remarks = _unit(header)
    if trust and not codes[trust]:
        raise DataError(f"has no {trust} (its code is 0)", fix=f"Use --trust {_other(trust)}, or leave it out.")
    forms: dict[str, Affine] = {}
    if codes["sform"]:
        forms["sform"] = _scaled(header.get_sform(), scale)
    if codes["qform"]:
        try:
            forms["qform"] = _scaled(header.get_qform(), scale)
        except ValueError:  # nibabel's HeaderDataError is one: quaternions that are none
            if not forms or trust == "qform":
                raise
            remarks.append("the qform cannot be read; the sform is used")
    spacing = np.asarray(header["pixdim"][1:4], np.float64) * scale
    used = trust or next(iter(forms), "")
    if not used:
        remarks.append("orientation unknown: sform and qform codes are 0, so left and right are a guess")
        return _scaled(header.get_base_affine(), scale), Header(0, 0), tuple(remarks)
    affine = forms[used]
    if not np.isfinite(affine).all():
        return affine, Header(), ()  # refused by Volume, in its own words
    for name, other in (*forms.items(), ("pixdim", None)):
        if name == used or (name == "pixdim" and "qform" in forms):  # the qform takes its spacing from pixdim
            continue
        differs = _spacing_difference(affine, spacing, used) if other is None else _difference(affine, other, used)
        theirs = spacing if other is None else np.linalg.norm(other[:3, :3], axis=0)
        ours = np.linalg.norm(affine[:3, :3], axis=0)
        off = abs(float(np.prod(theirs / np.maximum(ours, 1e-30))) - 1)  # of the voxel's volume, shears aside
        if off > VOLUME_SHARE and not trust:
            fix = "Repair the header, or choose one with --trust sform or --trust qform."
            if other is None:
                fix = "Repair the header, or use it as it is with --trust sform."
            raise DataError(f"its header contradicts itself: {differs}", fix=fix)
        if differs:
            remarks.append(f"header contradicts itself: {differs}; {used} is used")
    qform = forms.get("qform")
    keep = None if qform is None or np.allclose(qform, affine, atol=1e-4) else qform
    return affine, Header(codes["sform"], codes["qform"], keep, trust), tuple(remarks)


def _unit(header: Any) -> tuple[float, list[str]]:
    """One unit of the header in mm. Units other than mm are believed only where mm would be impossible."""
    code = int(header["xyzt_units"]) & 7
    factor = _UNITS_MM.get(code)
    if factor is None:
        return 1.0, []
    spacing = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    name = {1: "metres", 3: "micrometres"}[code]
    plausible = bool((spacing >= MIN_SPACING_MM).all() and (spacing <= MAX_SPACING_MM).all())
    if plausible:
        return 1.0, [f"the header gives its unit as {name}, which is impossible for this spacing; mm is used"]
    return factor, [f"the header is in {name}; converted to mm"]


def _scaled(affine: Any, factor: float) -> Affine:
    scaled = np.array(affine, np.float64)
    scaled[:3] *= factor
    return scaled


def _difference(affine: Affine, other: Affine, used: str) -> str:
    """The differences between sform and qform in words; '' if they are negligible."""
    ours, theirs = (np.linalg.norm(a[:3, :3], axis=0) for a in (affine, other))
    found = []
    if (np.abs(theirs / np.maximum(ours, 1e-30) - 1) > SPACING_SHARE).any():
        found.append(f"{used} has spacing {_mm(ours)}, {_other(used)} {_mm(theirs)}")
    one, two = affine[:3, :3] / np.maximum(ours, 1e-30), other[:3, :3] / np.maximum(theirs, 1e-30)
    if np.linalg.det(one) * np.linalg.det(two) < 0:
        found.append(f"{used} and {_other(used)} have left and right exchanged")
    else:
        angle = np.degrees(np.arccos(np.clip((np.trace(one.T @ two) - 1) / 2, -1, 1)))
        if angle > ANGLE_DEG:
            found.append(f"{used} and {_other(used)} are rotated by {angle:.0f} degrees against each other")
    shift = float(np.linalg.norm(affine[:3, 3] - other[:3, 3]))
    if not found and shift > SHIFT_MM:
        found.append(f"{used} and {_other(used)} are {shift:.1f} mm apart")
    return "; ".join(found)


def _spacing_difference(affine: Affine, spacing: Any, used: str) -> str:
    ours = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.abs(np.asarray(spacing) / np.maximum(ours, 1e-30) - 1) > SPACING_SHARE).any():
        return ""
    return f"{used} has spacing {_mm(ours)}, pixdim {_mm(spacing)}"


def _other(form: str) -> str:
    return "qform" if form == "sform" else "sform"


def _mm(spacing: Any) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing) + " mm"
