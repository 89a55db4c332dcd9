"""Two results of ``uadtk segment`` of one person: aligned, matched, written. Neither mask is resampled."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.core.errors import DataError, UsageError
from uadtk.core.run import Run
from uadtk.core.text import shown
from uadtk.core.volume import Mask, Volume
from uadtk.io.read import located, read_scan, read_volume
from uadtk.io.results import FILES, ScanState, altered, read_folder, scan_place
from uadtk.io.results import read_scan as read_state
from uadtk.io.rows import Cohort, Row
from uadtk.io.write import refuse_existing, refuse_folder, staged, write_json, write_text
from uadtk.metrics.change import Marked, changes
from uadtk.metrics.repeatability import Repeatability, shipped
from uadtk.pipeline.sources import describe
from uadtk.preparation.agreement import Agreement, agreement
from uadtk.preparation.registration import align
from uadtk.report.change import Exam, FollowUp, as_json, as_tsv, change_html
from uadtk.version import VERSION

OUTPUTS = TABLE, RECORD, PAGE = "compare.tsv", "compare.json", "compare.html"
# benchmarks/agreement.py: detail of one head 0.88 or more, of two 0.18 or less; brains of two overlap by 0.83 to 0.92
REFUSED_DETAIL, DOUBTED_DETAIL = 0.5, 0.7
REFUSED_OVERLAP, DOUBTED_OVERLAP = 0.8, 0.9
REFUSED_COVERED, DOUBTED_COVERED = 0.3, 0.95
UNLIKE_VOXELS = 1.2  # ratio of spacings along the coarsest axis, or of the voxels' volumes
ALIKE = ("model", "preparation", "scorer", "cleaners", "point", "rules")
NEEDED = {
    "input": ("path", "absolute", "sha256"),
    "checkpoint": ("digest",),
    "options": (*ALIKE, "trust"),
    "gate": ("light", "reasons"),
    "versions": ("uadtk",),
}


def refuse_outputs(folder: Path, overwrite: bool) -> None:
    """Before any work. Raises UsageError."""
    refuse_folder(folder)
    refuse_existing((folder / name for name in OUTPUTS), overwrite)


def result_at(path: Path) -> ScanState | None:
    """The result of ``uadtk segment`` that a path names: a folder with one, or one of its files. None: it is a scan.

    Raises
    ------
    UsageError
        A folder with several.
    DataError
        The result is not complete, or not as uadtk wrote it.
    """
    if path.is_dir():
        states = read_folder(path)
        if len(states) > 1:
            example = path / f"{states[0].name}_{FILES['mask']}"
            raise UsageError(f"holds {len(states)} results", str(path), f"Name one by its mask, such as {example}.")
        state = states[0] if states else None
    else:
        names = (path.name.removesuffix(f"_{end}") for end in FILES.values() if path.name.endswith(f"_{end}"))
        # the shortest first: NAME_space-..._label-lesion_mask.nii.gz ends as NAME_label-lesion_mask.nii.gz
        shortest = sorted(names, key=len)
        state = next((read_state(path.parent, name) for name in shortest), None)
    if state is None:
        return None
    fix = "Segment the scan again, or name the scan in place of the result."
    if state.status != "done":
        raise DataError(f"this result is {state.status}: {state.error}", str(path), fix)
    if lacking := _lacking(state):
        raise DataError(f"this result has no {lacking}", str(path), fix)
    if edited := altered(state):
        raise DataError("was changed after uadtk wrote it", str(state.folder / edited[0]), fix)
    return state


def _lacking(state: ScanState) -> str:
    """The first of what is needed that a manifest does not have as uadtk writes it; empty if nothing."""
    files = (f"file of {key}" for key in ("components", "brain") if key not in state.files)
    groups = ((group, state.provenance.get(group), names) for group, names in NEEDED.items())
    facts = (
        f"{group}.{name}"
        for group, has, names in groups
        for name in names
        if not (isinstance(has, dict) and name in has)
        or (name not in ALIKE and not isinstance(has[name], list if name == "reasons" else str))
    )
    return next(chain(files, facts), "")


def only_row(cohort: Cohort, path: Path) -> Row:
    """The scan that a path names. Raises UsageError if it names several."""
    if len(cohort) != 1:
        raise UsageError(f"holds {len(cohort)} scans", str(path), "Name one scan.")
    return cohort.rows[0]


def exam_of(state: ScanState) -> Exam:
    """The scan and the findings of a result. Raises DataError if the scan is not there, or not the one segmented."""
    source = state.provenance["input"]
    fix = "Put it back, or name the scan itself, to be segmented again."
    place = scan_place(state.folder, source)
    image = next((p for p in (place, Path(source["path"])) if p.exists()), place)
    if not image.exists():
        raise DataError("the scan of this result is no longer there", str(image), fix)
    if describe(Row("", image))["sha256"] != source["sha256"]:
        raise DataError("is not the scan that was segmented", str(image), fix)
    trust = str(state.provenance["options"]["trust"])
    scan = read_scan(image, trust)
    components = read_volume(state.files["components"], trust).voxels.astype(np.int32)
    brain = read_volume(state.files["brain"], trust).voxels > 0.5
    return Exam(state.name, scan, Mask(brain, scan.affine), Volume(components, scan.affine), state.provenance)


def compare(before: Exam, after: Exam, run: Run, force: bool = False) -> FollowUp:
    """Align the scans and match their findings. ``force``: even if they look like scans of two heads.

    Raises
    ------
    UsageError
        The results are of other models, points or options.
    DataError
        The same scan twice, or scans that do not agree after alignment.
    BackendError
        SimpleITK is not installed.
    """
    refuse_unlike(before.provenance, after.provenance)
    where = f"{before.provenance['input']['path']}, {after.provenance['input']['path']}"
    with run.stage("align"), located(Path(where)):
        to_after = align(before.scan, before.brain, after.scan, after.brain)
        agreed = agreement(before.head, after.head, to_after)
    refused, doubted = judged(agreed)
    if refused and not force:
        what = f"the two do not look like scans of one head: {'; '.join(refused)}"
        raise DataError(what, where, "Check that person and sequence are the same, or pass --force.")
    limits = shipped()
    notes = [*refused, *doubted, *differences(before, after), *_about(limits, after.provenance)]
    for note in notes:
        run.say(f"note: {note}")
    with run.stage("match"):
        first, second = Marked(before.components, before.brain), Marked(after.components, after.brain)
        found = changes(first, second, to_after, limits)
    return FollowUp(before, after, to_after, agreed, found, limits, notes)


def refuse_unlike(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Volumes of two models, points or options are not comparable. Raises UsageError, DataError for one scan twice."""
    names = f"{before['input']['path']}, {after['input']['path']}"
    if before["input"]["sha256"] == after["input"]["sha256"]:
        raise DataError("are the same scan", names, "Name two scans.")
    unlike = [key for key in ALIKE if _plain(before["options"].get(key)) != _plain(after["options"].get(key))]
    if before["checkpoint"]["digest"] != after["checkpoint"]["digest"]:
        unlike.insert(0, "checkpoint")
    if unlike:
        what = f"were segmented with another {', '.join(unlike)}"
        raise UsageError(what, names, "Segment both in the same way, or name the scans themselves.")


def _plain(option: Any) -> Any:
    """Without the day on which a threshold was given or a point calibrated."""
    return {key: value for key, value in option.items() if key != "date"} if isinstance(option, dict) else option


def refuse_other(exam: Exam, digest: str) -> None:
    """Before the other scan is segmented: the result must be of that checkpoint. Raises UsageError."""
    if exam.provenance["checkpoint"]["digest"] != digest:
        what, fix = "was segmented with another checkpoint", "Name that model with --model, or the scan itself."
        raise UsageError(what, str(exam.provenance["input"]["path"]), fix)


def judged(agreed: Agreement) -> tuple[list[str], list[str]]:
    """What speaks against two scans being of one head: enough to refuse them, and enough to doubt."""
    refused, doubted = list[str](), list[str]()
    covered = min(agreed.covered)
    for what, value, worst, poor in (
        (f"their detail correlates by {agreed.detail:.2f}", agreed.detail, REFUSED_DETAIL, DOUBTED_DETAIL),
        (f"their brains overlap by {agreed.overlap:.2f}", agreed.overlap, REFUSED_OVERLAP, DOUBTED_OVERLAP),
        (f"one covers {covered:.0%} of the other's brain", covered, REFUSED_COVERED, DOUBTED_COVERED),
    ):
        if value < worst:
            refused.append(f"{what} after alignment (at least {worst:g} is needed)")
        elif value < poor:
            doubted.append(f"{what} after alignment (usually {poor:g} or more)")
    return refused, doubted


def differences(before: Exam, after: Exam) -> list[str]:
    """What makes volumes of two scans less comparable, a line each."""
    notes = []
    one, two = before.scan, after.scan
    sizes = [(max(one.spacing_mm), max(two.spacing_mm)), (one.voxel_ml, two.voxel_ml)]
    if any(max(pair) > UNLIKE_VOXELS * min(pair) for pair in sizes):
        words = [" x ".join(f"{mm:.3g}" for mm in scan.spacing_mm) for scan in (one, two)]
        notes.append(f"the voxels differ ({words[0]} and {words[1]} mm): volumes differ by more than the limits then")
    versions, masks = ([of(exam.provenance) for exam in (before, after)] for of in (_version, _brain_source))
    if versions[0] != versions[1]:
        notes.append(f"they were segmented by uadtk {versions[0]} and {versions[1]}")
    if masks[0] != masks[1]:
        notes.append(f"their brain masks are from other sources: {masks[0]} and {masks[1]}")
    for exam in (before, after):
        reasons = [shown(str(one.get("what"))) for one in exam.provenance["gate"]["reasons"] if isinstance(one, dict)]
        if reasons:
            notes.append(f"{shown(exam.name)} is {exam.light}: {'; '.join(reasons)}")
    return notes


def _version(provenance: Mapping[str, Any]) -> str:
    return shown(str(provenance["versions"]["uadtk"]))


def _brain_source(provenance: Mapping[str, Any]) -> str:
    return shown(str(provenance.get("brain_source", "not recorded")))


def _about(limits: Repeatability, provenance: Mapping[str, Any]) -> list[str]:
    own = provenance["checkpoint"]["digest"], provenance["options"]["point"]["threshold"]
    if own == (limits.checkpoint, limits.threshold):
        return []
    return ["repeatability was measured for another model or operating point: limits are a guess here"]


def write_follow_up(follow_up: FollowUp, folder: Path, overwrite: bool) -> None:
    """``compare.tsv``, ``compare.json`` and ``compare.html``, all or none."""
    with staged(folder, overwrite) as stage:
        write_text(stage / TABLE, as_tsv(follow_up))
        write_json(stage / RECORD, as_json(follow_up, record_of(follow_up)))
        write_text(stage / PAGE, change_html(follow_up))


def record_of(follow_up: FollowUp) -> dict[str, Any]:
    """Version, checkpoint and options, which are the same for both scans."""
    provenance = follow_up.after.provenance
    options = {key: provenance["options"][key] for key in ALIKE}
    return {"versions": {"uadtk": VERSION}, "checkpoint": provenance["checkpoint"], "options": options}
