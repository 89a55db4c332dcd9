"""What a model finds of lesions planted in a user's own lesion-free scans, by size, contrast and place.

Each scan is segmented once as it is, then once per pass with several implants in it, all by the ordinary path; the
brain mask is that of the scan as it is. An implant is found if a finding covers one of its voxels. None is planted
where the model marks something without it, so whatever covers it was not there before.

``scans/<digest>.json`` holds what was measured on one scan with everything it depends on: an interrupted run resumes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core import schema
from uadtk.core.errors import DataError, GateError, UsageError
from uadtk.core.finding import Scoring, Segmentation
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Cohort, Distinct, Row, digest_of_scan, read_row
from uadtk.io.memo import digest_of, remembered, write_memo
from uadtk.io.parts import image_sha256
from uadtk.io.write import within
from uadtk.metrics.detection import Planted
from uadtk.pipeline.admit import warn
from uadtk.pipeline.each import each
from uadtk.pipeline.score import Method, score_prepared
from uadtk.pipeline.segment import Rules, components_of, segment
from uadtk.pipeline.threshold import has_healthy
from uadtk.preparation import prepare
from uadtk.preparation.lesion_free import lesion_of, normal_voxels
from uadtk.report.implants import example_png
from uadtk.study.implant_places import every, plan, survey
from uadtk.study.implanted_scan import Box, Implant, implanted
from uadtk.study.receipt import key_of

FORMAT = 1
_MEMO = schema.record(
    {
        "subject": schema.text(),
        **dict.fromkeys(("false_findings", "passes"), schema.whole(0, 2**40)),
        **dict.fromkeys(("free_ml", "marked", "seconds"), schema.number(ge=0)),
        "planted": schema.items(schema.like(Planted, centre_mm=schema.items(schema.number(), 3, 3)), 10**6),
        "left_out": schema.items(schema.items(schema.plain, 3, 3), 10**6),
        "examples": schema.items(schema.mapping(schema.plain)),
    }
)
SIZES_MM = (3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
CONTRASTS = (0.15, 0.3, 0.5, 1.0)  # relative to the tissue around
ENOUGH, MOST_REPEATS = 10, 5  # implants of a cell, if a scan gets at most so many of them


@dataclass(frozen=True)
class Question:
    """Which implants: ``repeats`` of each size and contrast in each place of each scan; None: as many as it takes.

    Raises
    ------
    UsageError
        A size or contrast that no implant can have.
    """

    sizes_mm: tuple[float, ...] = SIZES_MM
    contrasts: tuple[float, ...] = CONTRASTS
    repeats: int | None = None

    def __post_init__(self) -> None:
        for name, values in (("sizes", self.sizes_mm), ("contrasts", self.contrasts)):
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} must be given, each once", fix="As in --sizes-mm 5,10 --contrasts 30,100.")
        if wrong := [size for size in self.sizes_mm if not 1 <= size <= 100]:
            raise UsageError(f"no implant can have {wrong[0]:g} mm", fix="Give diameters from 1 to 100 mm.")
        if wrong := [one for one in self.contrasts if not (-1 <= one <= 5 and one)]:
            raise UsageError(
                f"no implant can have a contrast of {100 * wrong[0]:+g} %",
                fix="Give percent of the surrounding tissue's intensity, from -100 (black) to 500, but not 0.",
            )

    def for_subjects(self, count: int) -> Question:
        """With the number of repeats that so many subjects need."""
        return replace(self, repeats=self.repeats or min(MOST_REPEATS, math.ceil(ENOUGH / count)))


@dataclass(frozen=True)
class Measured:
    """What was measured on one scan.

    ``left_out``: (size, contrast, place) of implants for which there was no room. ``false_findings``: those without
    implants, in the ``free_ml`` of the brain that are lesion-free as far as known; ``marked`` is the share they take.
    """

    subject: str
    planted: tuple[Planted, ...]
    left_out: tuple[tuple[float, float, str], ...]
    false_findings: int
    free_ml: float
    marked: float
    passes: int
    seconds: float
    examples: tuple[dict[str, Any], ...]


def usable_rows(cohort: Cohort, run: Run) -> list[Row]:
    """Rows of which something is known to be free of lesions. Raises DataError if there is none."""
    rows = [row for row in cohort if row.lesion_mask or has_healthy(row)]
    if not rows:
        groups = ", ".join(sorted({f"'{row.group}'" for row in cohort}))
        raise DataError(
            f"no lesion-free scan: these are of patients without lesion masks (group {groups})",
            cohort.source,
            "Name lesion masks or lesion_free_slices, or mark healthy subjects in the column group.",
        )
    if left := len(cohort) - len(rows):
        run.say(f"{left} scans of patients without a lesion mask are left out: nothing says where they are healthy")
    return rows


def measure(
    rows: Sequence[Row], method: Method, point: OperatingPoint, question: Question, folder: Path, run: Run
) -> Iterator[Measured | None]:
    """Scan after scan; None for one that failed, which has been reported. What is in ``folder`` is not done again."""
    distinct, started, fresh = Distinct(), perf_counter(), 0

    def check(_: int, row: Row, found: tuple[str, Measured, bool]) -> tuple[Measured, bool]:
        distinct.check(row, found[0])
        return found[1:]

    for outcome in each(rows, _Work(method, point, question, folder), run, "planting", finish=check):
        if outcome.value is None:
            yield None
            continue
        found, new = outcome.value
        fresh += new
        yield found
        run.say(_progress(found, outcome.place + 1, len(rows), new, perf_counter() - started, fresh))


@dataclass(frozen=True)
class _Work:
    """The digest of a row's scan, what was measured on it, and whether that is new."""

    method: Method
    point: OperatingPoint
    question: Question
    folder: Path

    def __call__(self, _: int, row: Row, run: Run) -> tuple[str, Measured, bool]:
        key = _key(row, self.method, self.point, self.question, run)
        scan, brain_mask = read_row(row, run)
        digest = digest_of_scan(scan)
        path = within(self.folder, "scans") / f"{digest_of(key)}.json"
        record = remembered(path, FORMAT, key, _MEMO)
        if record is not None:
            return digest, _of(record), False
        made = _measured(row, scan, brain_mask, self.method, self.point, self.question, run)
        if _key(row, self.method, self.point, self.question, run) != key:
            raise DataError("changed while it was read", str(row.image), "Run the command again once it is complete.")
        return digest, _of(write_memo(path, FORMAT, key, asdict(made))), True


def _progress(found: Measured, done: int, of: int, new: bool, seconds: float, fresh: int) -> str:
    line = f"{done}/{of} {found.subject}: "
    if not new:
        return line + "measured before"
    line += f"{len(found.planted)} implants in {found.passes} passes, {found.seconds:.0f} s"
    left = (of - done) * seconds / fresh / 60
    return f"{line}; about {math.ceil(left)} min left" if done < of else line


def _key(row: Row, method: Method, point: OperatingPoint, question: Question, run: Run) -> dict[str, Any]:
    asked = key_of(method.checkpoint, Cohort((row,), ""), point, "native", run)
    return {**asked, **asdict(question), "places": "rim, deep, base"}


def _of(record: dict[str, Any]) -> Measured:
    planted = (Planted(**{**one, "centre_mm": tuple(one["centre_mm"])}) for one in record["planted"])
    left_out = ((size, contrast, place) for size, contrast, place in record["left_out"])
    plain = {name: record[name] for name in ("subject", "false_findings", "free_ml", "marked", "passes", "seconds")}
    return Measured(**plain, planted=tuple(planted), left_out=tuple(left_out), examples=tuple(record["examples"]))


def _measured(
    row: Row,
    scan: Scan,
    brain_mask: Mask | None,
    method: Method,
    point: OperatingPoint,
    question: Question,
    run: Run,
) -> Measured:
    started = perf_counter()
    normal = normal_voxels(row, scan, lesion_of(row, scan, run))
    bare = _as_it_is(row, scan, brain_mask, method, point, run)
    brain, dark = bare.scoring.brain, float(bare.scoring.decisions["intensity_0"])
    free, marked = brain.voxels & normal, bare.mask.voxels
    rng = np.random.default_rng([run.seed, int(image_sha256(row.image)[:16], 16)])
    ground = survey(scan, brain, normal, marked, dark, rng)
    passes, left_out = plan(ground, every(question.sizes_mm, question.contrasts, question.repeats or 1), rng)
    free_voxels = int(np.count_nonzero(free))
    share_marked = int(np.count_nonzero(marked & free)) / max(1, free_voxels)
    if not passes:
        raise DataError(
            f"has no room for an implant of {min(question.sizes_mm):g} mm: {free_voxels * scan.voxel_ml:.0f} ml of "
            f"brain are lesion-free, and {100 * share_marked:.0f} % of them are marked without implants",
            str(row.image),
        )
    smallest = Rules().smallest(scan.voxel_ml, point)
    planted, examples = list[Planted](), dict[tuple[bool, float], dict[str, Any]]()
    for implants in passes:
        with_them, shares = implanted(scan, brain, ground.tissue, dark, implants)
        prepared = prepare(with_them, method.checkpoint.preparation, run, brain)
        scoring = score_prepared(with_them, prepared, method, run)
        components = components_of(scoring.score, point, smallest)
        for implant, (box, share) in zip(implants, shares, strict=True):
            inside = share >= share.max() / 2
            one = _judged(row.subject, implant, box, share, inside, scoring, components)
            planted.append(one)
            if _is_better_example(one.found, one.contrast, examples.get((one.found, one.size_mm))):
                png = base64.b64encode(example_png(scoring, components, box, inside, one.size_mm)).decode("ascii")
                examples[one.found, one.size_mm] = {**asdict(one), "png": png}
    return Measured(
        row.subject,
        tuple(planted),
        tuple((one.size_mm, one.contrast, one.place) for one in left_out),
        _false_findings(bare, free),
        free_voxels * scan.voxel_ml,
        share_marked,
        len(passes),
        perf_counter() - started,
        tuple(examples.values()),
    )


def _as_it_is(
    row: Row, scan: Scan, brain_mask: Mask | None, method: Method, point: OperatingPoint, run: Run
) -> Segmentation:
    try:
        bare = segment(scan, method, point, run, brain_mask, name=str(row.image))
    except GateError as error:
        raise DataError(error.what, error.where, "uadtk segment refuses it, too: leave it out.") from None
    warn(bare.gate, str(row.image), run)
    return bare


def _judged(
    subject: str,
    implant: Implant,
    box: Box,
    share: NDArray[np.float32],
    inside: NDArray[np.bool_],
    scoring: Scoring,
    components: Volume,
) -> Planted:
    covered = components.voxels[box][inside] > 0
    x, y, z = implant.centre_mm.tolist()
    return Planted(
        subject=subject,
        size_mm=implant.wanted.size_mm,
        contrast=implant.wanted.contrast,
        place=implant.wanted.place,
        volume_ml=float(share.sum(dtype=np.float64)) * components.voxel_ml,
        voxels=int(np.count_nonzero(inside)),
        found=bool(covered.any()),
        overlap=float(covered.mean()),
        peak=float(scoring.score.voxels[box][inside].max()),
        centre_mm=(x, y, z),
    )


def _is_better_example(found: bool, contrast: float, shown: dict[str, Any] | None) -> bool:
    """Of each size, the faintest implant that was found and the most conspicuous that was missed get a picture."""
    if shown is None:
        return True
    return abs(contrast) < abs(shown["contrast"]) if found else abs(contrast) > abs(shown["contrast"])


def _false_findings(bare: Segmentation, free: NDArray[np.bool_]) -> int:
    """Findings of the scan as it is, of which at least half lie where no lesion is known."""
    labels = bare.components.voxels
    inside = np.bincount(labels[free], minlength=len(bare.findings) + 1)[1:]
    return int(np.count_nonzero(2 * inside >= np.bincount(labels.ravel(), minlength=len(bare.findings) + 1)[1:]))
