"""The kind of image in a file, without its brain: by its name, its DICOM tags and its values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.finding import Reason
from uadtk.core.volume import Scan
from uadtk.preparation.background import background

FLAIR = "FLAIR"
# Suffixes of BIDS 1.9 for images that are not FLAIR, by what they are; the suffix is the last part of a name.
_SUFFIXES = {
    "a T1-weighted image": "T1w T1rho T1map UNIT1 MP2RAGE inplaneT1 R1map",
    "a T2-weighted image": "T2w T2map R2map inplaneT2 MESE",
    "a T2*-weighted image": "T2star T2starw T2starmap R2starmap MEGRE swi minIP Chimap",
    "a proton density image": "PDw PDmap PDT2 PDT2map",
    "an angiogram": "angio",
    "a functional series": "bold sbref",
    "a perfusion image": "asl m0scan cbf",
    "diffusion": "dwi epi ADC",
    "a magnetisation transfer image": "MTR MTS MTVmap MTsat MTw",
    "a field map": "phasediff phase1 phase2 magnitude magnitude1 magnitude2 fieldmap TB1map TB1DAM TB1EPI RB1COR",
    "PET": "pet",
    "CT": "ct",
    "a mask": "mask brainmask lesionmask",
    "a label map": "dseg seg aseg aparc label labels parcellation",
    "a probability map": "probseg",
    "a statistical map": "statmap zstat tstat zmap tmap spmT",
}
# Words that people use in any part of a name, in any case. FLAIR is one of them: `T2_FLAIR` is a FLAIR.
_WORDS = {
    "a T1-weighted image": "t1 t1w t1n t1c t1ce t1gd t1post mprage spgr",
    "a T2-weighted image": "t2 t2w t2tse",
    "a T2*-weighted image": "t2star swi gre swan",
    "a proton density image": "pd pdw",
    "an angiogram": "mra tof angio",
    "a functional series": "bold fmri epi rest",
    "a perfusion image": "asl pcasl cbf cbv perf dsc dce",
    "diffusion": "dwi dti adc trace",
    "PET": "pet fdg suv",
    "CT": "ct cta ncct",
    "a mask": "mask brainmask lesionmask roi",
    "a label map": "seg dseg aseg labels aparc",
    "a statistical map": "zstat tstat zmap tmap statmap",
}
# Those of them that mean nothing else; `t1`, `rest` or `mask` may be part of the name of a study.
_CERTAIN = {
    *("t1w", "t1ce", "mprage", "t2w", "pdw", "t2star", "mra", "fmri", "bold", "pcasl", "dwi", "dti", "adc"),
    *("ct", "cta", "ncct", "pet", "fdg", "zstat", "tstat"),
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_BY_WORD = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_IS_FLAIR = re.compile(r"flair|(?:^|[^a-z0-9])t2f(?:[^a-z0-9]|$)|dark[ _-]?fluid|tirm", re.IGNORECASE)
# What a checkpoint of another contrast than FLAIR reads, by ``gate.contrast_of``.
_READS = {"T1": ("a T1-weighted image",), "T2 or PD": ("a T2-weighted image", "a proton density image")}
_MAPS = ("a mask", "a label map", "a probability map", "a statistical map")

SAMPLED = 400_000  # voxels examined, at most


def named(name: str) -> tuple[str, bool]:
    """The kind of image by its file name ("" if unknown), and whether that is certain, as by a BIDS suffix.

    >>> named("sub-01_T1w.nii.gz"), named("sub-01_acq-T1w_FLAIR.nii.gz"), named("p7_t2.nii"), named("scan.nii.gz")
    (('a T1-weighted image', True), ('FLAIR', True), ('a T2-weighted image', False), ('', False))
    """
    stem = re.sub(r"(\.[A-Za-z]{2,5}[0-9]?){1,2}$", "", name)
    last = re.split(r"[_\-. ]", stem)[-1]
    kind = _BY_SUFFIX.get(last, "") if "_" in stem or stem == last else ""
    if kind in _MAPS or (kind and not _IS_FLAIR.search(stem)):
        return kind, True
    if _IS_FLAIR.search(stem):
        return FLAIR, stem.endswith("_FLAIR")
    words = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word in _BY_WORD]
    return (_BY_WORD[words[-1]], words[-1] in _CERTAIN) if words else ("", False)


def contrast_named(name: str) -> str:
    """The contrast of a file by its name, as ``gate.contrast_of`` names it; "" if it is not one of those."""
    kind, _ = named(name)
    return FLAIR if kind == FLAIR else next((wanted for wanted, kinds in _READS.items() if kind in kinds), "")


def by_name(name: str, wanted: str) -> list[Reason]:
    """Red for the BIDS suffix of another kind of image, amber for a word that suggests one."""
    kind, sure = named(PurePath(name).name)
    if not kind or kind in _READS.get(wanted, (wanted,)):
        return []
    limit = f"the checkpoint reads {wanted}"
    what = f"its name says that it is {kind}"
    return [Reason("red" if sure else "amber", "name", what, PurePath(name).name, limit)]


def by_tags(facts: Mapping[str, Any], wanted: str) -> list[Reason]:
    """By DICOM's Modality, and for MR by the description and the times: a FLAIR has an inversion time of seconds."""
    limit = f"the checkpoint reads {wanted}"
    modality = str(facts.get("Modality") or "MR").upper()
    if modality != "MR":
        return [Reason("red", "tags", f"its modality is {modality}, not MR", modality, limit)]
    described = " ".join(str(facts.get(tag) or "") for tag in ("SeriesDescription", "ProtocolName", "SequenceName"))
    inversion_ms = _milliseconds(facts.get("InversionTime"), longest_s=10)
    echo_ms = _milliseconds(facts.get("EchoTime"), longest_s=1)
    if wanted != FLAIR or _IS_FLAIR.search(described) or inversion_ms >= 1400:
        return []
    if 0 < echo_ms < 40:
        what = f"an echo time of {echo_ms:g} ms is not that of a FLAIR"
        return [Reason("red" if named(described)[0] else "amber", "tags", what, echo_ms, "above 40 ms, or inversion")]
    kind, _ = named(described.strip() + "_")
    return (
        [Reason("amber", "tags", f"its description says that it is {kind}", described.strip(), limit)] if kind else []
    )


def _milliseconds(value: Any, longest_s: float) -> float:
    """BIDS writes seconds, DICOM milliseconds; 0 where there is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return 1000 * number if number < longest_s else number


def by_values(scan: Scan) -> list[Reason]:
    """Red for masks, label maps and CT, by values that no MR image has."""
    voxels = scan.zyx  # in the order of a file: faster
    level = background(scan)
    step = max(1, round((voxels.size / SAMPLED) ** (1 / 3)))
    some = voxels[::step, ::step, ::step]
    inside = some[some != level]
    if inside.size < 50:
        return []
    if inside.min() == inside.max():
        return [Reason("red", "values", "it is a binary mask", 1, "values other than the background: many")]
    equal = _equal_neighbours(voxels, level)
    if equal > 0.8:
        what = f"it is a label map or a mask: {equal:.0%} of neighbouring voxels are equal"
        return [Reason("red", "values", what, equal, "at most 80 %")]
    low, high = (float(value) for value in np.quantile(inside, (0.001, 0.999)))
    top = float(np.mean(inside > high - 0.02 * (high - low)))
    if top > 0.3:
        what = f"it is a soft mask or a probability map: {top:.0%} of what is not background has the highest value"
        return [Reason("red", "values", what, top, "at most 30 %")]
    air, water = float(np.mean(some < -900)), float(np.mean((some > -150) & (some < 150)))
    if air > 0.05 and air + water > 0.5 and voxels.min() > -4100 and high > 300:
        what = f"it is CT: {air:.0%} of the voxels are air at about -1000, and the rest is around 0"
        return [Reason("red", "values", what, air, "at most 5 % below -900")]
    return []


def _equal_neighbours(voxels: NDArray[np.float32], level: float) -> float:
    """Share of neighbours along the longest axis, both not background, that are equal."""
    axis = int(np.argmax(voxels.shape))
    lines = np.moveaxis(voxels, axis, 0)
    step = max(1, round((voxels.size / SAMPLED) ** 0.5))
    first, second = lines[:-1, ::step, ::step], lines[1:, ::step, ::step]
    both = (first != level) & (second != level)
    return float(np.mean((first == second)[both])) if both.any() else 0.0
