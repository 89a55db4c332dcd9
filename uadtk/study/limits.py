"""Detection limits from the question to the files: tables, JSON and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.core.thresholder import MIN_VOXELS, OperatingPoint
from uadtk.io.cohort import Cohort
from uadtk.io.write import refuse_existing, refuse_folder, staged, within, write_json, write_text
from uadtk.metrics.detection import Sensitivity, sensitivities, smallest_found
from uadtk.pipeline.point import check_point
from uadtk.pipeline.score import Method
from uadtk.report.limits import as_text, limits_html, missed, planted_tsv, sensitivity_tsv
from uadtk.study.detection_limit import FORMAT, Measured, Question, measure, usable_rows
from uadtk.version import VERSION

OUTPUTS = ("limits.html", "limits.json", "limits.tsv", "sensitivity.tsv")


@dataclass(frozen=True)
class Limits:
    """The measurements of all scans; ``failed``: scans that could not be used. ``cells`` sum them up."""

    question: Question
    measured: tuple[Measured, ...]
    failed: int

    @cached_property
    def cells(self) -> list[Sensitivity]:
        """Sensitivity by place, contrast and size; the place ``all`` first."""
        planted = [one for scan in self.measured for one in scan.planted]
        return sensitivities(planted, self.question.sizes_mm, self.question.contrasts)

    @property
    def missed(self) -> list[str]:
        """What the model would miss in these scans, in plain words."""
        return missed(self.cells)

    def as_text(self) -> str:
        """Sensitivity in all places, as a table for a terminal."""
        return as_text(self.cells)


def detection_limits(
    method: Method,
    point: OperatingPoint,
    cohort: Cohort,
    question: Question,
    folder: Path,
    run: Run,
    overwrite: bool = False,
) -> Limits:
    """Measure all lesion-free scans; write the page and the tables (``OUTPUTS``) into ``folder``.

    Raises
    ------
    UsageError
        An output exists or cannot be written, or the point was calibrated for other scores.
    DataError
        No scan is lesion-free as far as known, or none could be measured.
    """
    refuse_outputs(folder, overwrite)
    check_point(method.checkpoint, point)
    rows = usable_rows(cohort, run)
    subjects = len({row.subject for row in rows})
    question = question.for_subjects(subjects)
    if subjects == 1:
        run.say("one subject: the intervals hold for this subject, not for others")
    outcomes = list(measure(rows, method, point, question, folder, run))
    measured = tuple(one for one in outcomes if one is not None)
    if not measured:
        raise DataError(f"none of {len(rows)} scans could be measured", cohort.source, "The lines above say why.")
    found = Limits(question, measured, len(outcomes) - len(measured))
    with staged(folder, overwrite) as stage:
        planted = [one for scan in measured for one in scan.planted]
        write_text(stage / "limits.tsv", planted_tsv(planted))
        write_text(stage / "sensitivity.tsv", sensitivity_tsv(found.cells))
        write_text(stage / "limits.html", _page(found, method, point))
        write_json(stage / "limits.json", _record(found, method, point, run))
    return found


def refuse_outputs(folder: Path, overwrite: bool) -> None:
    """Raises UsageError, before any work, if the files cannot be written to ``folder``."""
    refuse_folder(within(folder, "scans"))
    refuse_existing([folder / name for name in OUTPUTS], overwrite)


def _page(found: Limits, method: Method, point: OperatingPoint) -> str:
    scans, checkpoint = found.measured, method.checkpoint
    implants = sum(len(scan.planted) for scan in scans)
    subjects = len({scan.subject for scan in scans})
    calibrated = f"calibrated on {point.scans} scans" if point.scans else "calibrated on no scan"
    facts = [
        ("Model", checkpoint.model, Path(checkpoint.source).name),
        ("Scorer", str(checkpoint.scorer), " ".join(map(str, checkpoint.cleaners))),
        ("Operating point", f"{point.name}: score > {point.threshold:.4g}", f"{point.target}; {calibrated}"),
        ("Smallest finding", point.smallest or f"{MIN_VOXELS} voxels", "smaller components are dropped"),
        ("Scans", str(len(scans)), f"of {subjects} subject{'s' if subjects > 1 else ''}"),
        ("Implants", str(implants), f"in {sum(scan.passes for scan in scans)} passes"),
    ]
    false = [(scan.subject, scan.false_findings, scan.free_ml) for scan in scans]
    return limits_html(found.cells, facts, _examples(scans), false, _notes(found))


def _examples(scans: Sequence[Measured]) -> list[dict[str, Any]]:
    """Of each size the faintest that was found and the most conspicuous that was missed, from different scans."""
    ones = sorted((one for scan in scans for one in scan.examples), key=lambda one: one["size_mm"])
    chosen, shown = list[dict[str, Any]](), Counter[str]()
    for found, size in dict.fromkeys((one["found"], one["size_mm"]) for one in ones):
        own = [one for one in ones if (one["found"], one["size_mm"]) == (found, size)]
        contrast = (min if found else max)(abs(one["contrast"]) for one in own)
        telling = [one for one in own if abs(one["contrast"]) == contrast]
        chosen.append(min(telling, key=lambda one: shown[one["subject"]]))
        shown[chosen[-1]["subject"]] += 1
    return chosen


def _notes(found: Limits) -> list[str]:
    """What a reader must know of what was left out."""
    marked = sum(scan.marked * scan.free_ml for scan in found.measured) / sum(scan.free_ml for scan in found.measured)
    notes = [
        f"The model marks {100 * marked:.1f} % of the lesion-free brain without implants. None was planted there or "
        "within 5 mm: a lesion in such a place is marked with the rest and cannot be distinguished."
    ]
    if left := Counter(size for scan in found.measured for size, _, _ in scan.left_out):
        sizes = ", ".join(f"{times} of {size:g} mm" for size, times in sorted(left.items()))
        notes.append(f"Left out for lack of room: {sizes}.")
    if found.failed:
        notes.append(f"Scans that could not be used: {found.failed}.")
    if len({scan.subject for scan in found.measured}) == 1:
        notes.append("The intervals hold for this one subject: they say nothing about how subjects differ.")
    return notes


def _record(found: Limits, method: Method, point: OperatingPoint, run: Run) -> dict[str, Any]:
    header = method.checkpoint.header()
    cells = [{**asdict(cell), "share": cell.share} for cell in found.cells]
    return {
        "format": FORMAT,
        "uadtk": VERSION,
        "checkpoint": {"source": method.checkpoint.source, "digest": method.checkpoint.digest},
        "options": {name: header[name] for name in ("model", "preparation", "scorer", "cleaners")},
        "point": point.to_json(),
        "seed": run.seed,
        "device": run.device,
        "question": asdict(found.question),
        "scans": [{k: v for k, v in asdict(scan).items() if k not in _ELSEWHERE} for scan in found.measured],
        "failed": found.failed,
        "false_findings_per_scan": float(np.mean([scan.false_findings for scan in found.measured])),
        "sensitivity": [{k: None if v != v else v for k, v in cell.items()} for cell in cells],
        "smallest_found_mm": {f"{c:g}": smallest_found(found.cells, c) for c in found.question.contrasts},
        "missed": found.missed,
        "notes": _notes(found),
    }


_ELSEWHERE = ("planted", "examples")  # in limits.tsv, and on the page
