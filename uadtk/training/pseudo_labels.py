"""Pseudo-labels: a teacher's masks of unlabelled scans, as files to inspect, correct and train on.

Baur, Wiestler, Albarqouni, Navab, Fusing Unsupervised and Supervised Deep Learning for White Matter Lesion
Segmentation, MIDL 2019. Voxels that the teacher is unsure of can be ignored: ``Trust`` defines which; all others are
learned as lesion or as normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core import schema
from uadtk.core.errors import DataError, UsageError
from uadtk.core.finding import Segmentation
from uadtk.core.options import option
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Affine, Mask, Scan
from uadtk.io.cohort import Cohort, Row, content_digest, output_names, read_row
from uadtk.io.memo import digest_of, read_memo, remembered, write_memo
from uadtk.io.write import staged, write_nifti
from uadtk.pipeline.each import each, successful
from uadtk.pipeline.point import floor_of
from uadtk.pipeline.score import Method, plugins_of
from uadtk.pipeline.segment import Rules, segment
from uadtk.preparation.geometry import stored_axis

_MASKS = {
    "brain_mask": "desc-brain_mask.nii.gz",
    "lesion_mask": "label-lesion_mask.nii.gz",
    "ignore_mask": "desc-ignore_mask.nii.gz",
}
FORMAT = 2  # of the records
_MEMO = schema.record({"lesion_voxels": schema.whole(0, 2**50)})
_TELLING = ("lesion_mask", "ignore_mask", "prior_mask", "label_source", "lesion_free_slices", "lesion_labels")


@dataclass(frozen=True)
class Trust:
    """Which of a teacher's labels to learn from; by default all. The others are ignored, not learned as normal.

    ``band`` ignores voxels with ``|score - threshold| < band * threshold``; the other two ignore whole components.
    """

    min_voxels: int = option(8, "Smallest component a teacher may mark, in voxels of the scan.", ge=1)
    band: float = option(0.0, "Ignore scores nearer to the threshold than this share of it.", ge=0, le=0.9)
    confident: float = option(1.0, "Ignore components whose mean score is below this many thresholds.", ge=1)
    mirrored: float = option(
        0.0, "Ignore components of which less than this share is found in the scan mirrored left to right.", ge=0, le=1
    )


def label_cohort(
    rows: Sequence[Row],
    method: Method,
    point: OperatingPoint,
    trust: Trust,
    folder: Path,
    run: Run,
    overwrite: bool = False,
) -> list[Row]:
    """Replace the labels of the rows by the teacher's; existing ones are not read. One scan is in memory at a time.

    Each scan gets, on its own grid, ``<name>_label-lesion_mask.nii.gz``, ``..._desc-ignore_mask.nii.gz``,
    ``..._desc-brain_mask.nii.gz`` (so that the student sees the same brain) and ``<name>_labels.json``. Scans
    already labelled by the same recipe are left as they are, corrected by hand or not. A scan that fails is reported
    and left out.

    Raises
    ------
    UsageError
        The folder holds labels from another teacher, point or trust, and ``overwrite`` is false.
    DataError
        No scan could be labelled, or nothing is marked in the rows of split ``train``.
    """
    rows = [_unlabelled(row) for row in rows]
    keys = {name: _key(row, method, point, trust) for name, row in zip(output_names(rows), rows, strict=True)}
    if not overwrite:
        _refuse_others(folder, keys)
    work = _Work(method, point, trust, folder, tuple(keys.items()))
    found = [outcome.result for outcome in successful(each(rows, work, run, "labelling"), "labelled")]
    labelled = [row for row, _ in found]
    marked = sum(voxels for row, voxels in found if row.split == "train")
    if not marked:
        raise DataError(
            f"the teacher finds nothing to learn in {len(labelled)} scans (point '{point.name}')",
            fix="Choose a lower operating point (--point), or ignore less.",
        )
    return labelled


@dataclass(frozen=True)
class _Work:
    """Labels a row, unless it is labelled by the same recipe: the row with its masks, and the number of lesion voxels.

    ``keys``: output name and key of every row.
    """

    method: Method
    point: OperatingPoint
    trust: Trust
    folder: Path
    keys: tuple[tuple[str, dict[str, Any]], ...]

    def __call__(self, place: int, row: Row, run: Run) -> tuple[Row, int]:
        name, key = self.keys[place]
        masks: dict[str, Any] = {column: self.folder / f"{name}_{ending}" for column, ending in _MASKS.items()}
        record = remembered(_record_path(self.folder, name), FORMAT, key, _MEMO)
        if record is None or not all(path.exists() for path in masks.values()):
            record = self._label(row, name, key, run)
        source = f"teacher-{self.method.checkpoint.digest[:12]}"
        return replace(row, **masks, label_source=source), record["lesion_voxels"]

    def _label(self, row: Row, name: str, key: dict[str, Any], run: Run) -> dict[str, Any]:
        """Label one scan and write its files, all or none."""
        scan, brain_mask = read_row(row, run)
        rules = Rules(max(self.trust.min_voxels, floor_of(self.point, scan.voxel_ml) if self.point.smallest else 1))
        found = segment(scan, self.method, self.point, run, brain_mask, rules, str(row.image))
        if _key(row, self.method, self.point, self.trust) != key:
            what, fix = "changed since the labelling began", "Run the command again once it is complete."
            raise DataError(what, str(row.image), fix)
        again = _found_mirrored(found, self.method, rules, run) if self.trust.mirrored else None
        lesion, ignored = believed(found, self.trust, again)
        volumes = {"brain_mask": found.scoring.brain, "lesion_mask": lesion, "ignore_mask": ignored}
        content = {
            "image": str(row.image),
            "teacher": {"model": self.method.checkpoint.model, "digest": self.method.checkpoint.digest},
            "point": {"name": self.point.name, "threshold": self.point.threshold},
            "trust": asdict(self.trust),
            "findings": [asdict(finding) for finding in found.findings],
            "lesion_voxels": int(np.count_nonzero(lesion.voxels)),
            "ignored_voxels": int(np.count_nonzero(ignored.voxels)),
        }
        with staged(self.folder, overwrite=True, manifest=_record_path(self.folder, name).name) as stage:
            for column, volume in volumes.items():
                write_nifti(stage / f"{name}_{_MASKS[column]}", volume)
            return write_memo(_record_path(stage, name), FORMAT, key, content)


def believed(found: Segmentation, trust: Trust, again: NDArray[np.bool_] | None = None) -> tuple[Mask, Mask]:
    """Voxels to learn as lesion and voxels to ignore, on the scan's grid. ``again``: marked in the mirrored scan too.

    A component is ignored if its mean score is below ``trust.confident`` thresholds, or if less than
    ``trust.mirrored`` of its voxels are in ``again``; then every voxel in the band around the threshold is.
    """
    score, components, threshold = found.scoring.score.voxels, found.components.voxels, found.point.threshold
    doubted = np.zeros(len(found.findings) + 1, dtype=bool)
    doubted[1:] = [finding.mean < trust.confident * threshold for finding in found.findings]
    if again is not None:
        sizes, shared = (np.bincount(components[of], minlength=len(doubted)) for of in (components > 0, again))
        doubted[1:] |= shared[1:] < trust.mirrored * sizes[1:]
    ignored = doubted[components] | (np.abs(score - np.float32(threshold)) < trust.band * threshold)
    affine = found.mask.affine
    return Mask(found.mask.voxels & ~ignored, affine), Mask(ignored, affine)


def mirror(voxels: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """The voxels flipped along the stored axis closest to left-right."""
    return np.ascontiguousarray(np.flip(voxels, stored_axis(affine, 0)))


def _found_mirrored(found: Segmentation, method: Method, rules: Rules, run: Run) -> NDArray[np.bool_]:
    """The teacher's mask of the mirrored scan, mirrored back. The brain mask is mirrored, not computed again."""
    scan, affine = found.scoring.scan, found.mask.affine
    turned, brain = mirror(scan.voxels, affine), mirror(found.scoring.brain.voxels, affine)
    passed = replace(run, worst="red")  # the scan itself has passed the gate
    again = segment(Scan(turned, affine), method, found.point, passed, Mask(brain, affine), rules)
    return mirror(again.mask.voxels, affine)


def _unlabelled(row: Row) -> Row:
    """The row without any column that gives lesion locations."""
    nothing: dict[str, Any] = dict.fromkeys(_TELLING)
    return replace(row, **nothing)


def _key(row: Row, method: Method, point: OperatingPoint, trust: Trust) -> dict[str, Any]:
    """Everything that the labels of a scan depend on; not its split."""
    plugins = plugins_of(method.checkpoint)
    return {
        "scan": content_digest(Cohort((replace(row, split=None),), "")),
        "teacher": method.checkpoint.digest,
        "specs": list(map(str, (point.scorer, *point.cleaners))),
        "threshold": point.threshold,
        "trust": asdict(trust),
        **({"plugins": plugins} if plugins else {}),
    }


def _record_path(folder: Path, name: str) -> Path:
    return folder / f"{name}_labels.json"


def _refuse_others(folder: Path, keys: dict[str, dict[str, Any]]) -> None:
    for name, key in keys.items():
        try:
            found = read_memo(_record_path(folder, name), FORMAT, "a record of labels")
        except DataError:  # none, or damaged: labelled again
            continue
        if found["digest"] != digest_of(key):
            raise UsageError(
                f"labels of another teacher, threshold or scan are here ({name})",
                str(folder),
                "Choose another folder (--labels), or pass --overwrite to replace them.",
            )
