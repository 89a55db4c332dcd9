"""Scored scans on disk, after each of several chains of cleaners, on the scan's own grid and on the slices.

The network sees a scan once. Memory holds one scan; the disk holds one score map of it per chain and grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.core.cleaner import kept_by
from uadtk.core.errors import DataError
from uadtk.core.finding import Light
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import CalibrationScan
from uadtk.core.volume import Grid, Mask
from uadtk.io.cohort import Distinct, Row, digest_of_scan, read_row
from uadtk.io.write import ROOM, storing
from uadtk.kernels._box import bounding_box
from uadtk.pipeline.admit import prepare_admitted, warn
from uadtk.pipeline.each import each, successful
from uadtk.pipeline.score import Method, cleaned, raw_slices
from uadtk.preparation import Prepared
from uadtk.preparation.lesion_free import lesion_of, normal_voxels

GRIDS: tuple[Grid, ...] = get_args(Grid)
Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class ScoredScan:
    """A scored scan on disk. ``<grid>.npz``: its masks; ``<grid>.<n>.npy``: its score after the n-th chain;
    ``<grid>.<n>.kept.npy``: where no cleaner of it excludes a score.

    Arrays are (z, y, x), cut to the box of brain and lesion. ``normal``: for each grid, the share of the brain that is
    known to be free of lesions, on which a threshold may be calibrated. ``light``: of the gate.
    """

    subject: str
    labelled: bool
    normal: dict[Grid, float]
    folder: Path
    light: Light = "green"


def score_all(
    rows: Sequence[Row],
    method: Method,
    chains: Sequence[Sequence[Spec]],
    folder: Path,
    run: Run,
    grids: Sequence[Grid] = GRIDS,
    doing: str = "scoring",
) -> list[ScoredScan]:
    """Score ``rows``, clean each score by every chain, and store everything in ``folder``.

    ``method``'s own cleaners are not used. A scan that fails, or that the gate refuses, is reported and left out.

    Raises
    ------
    DataError
        All scans fail.
    StorageError
        The disk is full.
    """
    distinct = Distinct()

    def store(place: int, row: Row, found: _Found) -> ScoredScan:
        distinct.check(row, found.digest)
        own = folder / f"{place:06d}"
        with storing(own, "scores", ROOM):
            own.mkdir(parents=True)
            for grid, masks in found.masks.items():
                np.savez(own / f"{grid}.npz", **masks)
            for name, score in found.scores.items():
                np.save(own / name, score)
        return ScoredScan(row.subject, found.labelled, found.normal, own, found.light)

    work = _Work(method, tuple(map(tuple, chains)), tuple(grids))
    return [outcome.result for outcome in successful(each(rows, work, run, doing, finish=store), "scored")]


@dataclass(frozen=True)
class _Found:
    """A scored scan before it is stored: digest of its voxels, arrays by grid and by file name, light of the gate."""

    digest: str
    labelled: bool
    normal: dict[Grid, float]
    masks: dict[Grid, dict[str, Any]]
    scores: dict[str, NDArray[Any]]
    light: Light


@dataclass(frozen=True)
class _Work:
    """Scores a row and cleans the score by every chain."""

    method: Method
    chains: tuple[tuple[Spec, ...], ...]
    grids: tuple[Grid, ...]

    def __call__(self, _: int, row: Row, run: Run) -> _Found:
        scan, brain_mask = read_row(row, run)
        lesion = lesion_of(row, scan, run)
        checkpoint, name = self.method.checkpoint, str(row.image)
        prepared, gate = prepare_admitted(scan, brain_mask, checkpoint.preparation, checkpoint.statistics, run, name)
        warn(gate, name, run)
        raw, _maps = raw_slices(prepared, self.method, run)
        free = normal_voxels(row, scan, lesion)
        voxel_ml = {"native": scan.voxel_ml, "model": math.prod(prepared.spacing_mm) / 1000}
        chains = [[registry.build("cleaners", spec) for spec in chain] for chain in self.chains]
        scores = [cleaned(raw, prepared, cleaners) for cleaners in chains]
        kept = [kept_by(cleaners, prepared.brain) for cleaners in chains]
        found = _Found(digest_of_scan(scan), lesion is not None, {}, {}, {}, gate.light)
        for grid in self.grids:
            masks = _masks(prepared, free, lesion, grid)
            # The box includes lesion voxels outside the brain: they are missed, and must count as such.
            box = bounding_box(masks["brain"] | masks["lesion"])
            cut = {name: _cut(mask, box) for name, mask in masks.items()}
            found.masks[grid] = {"voxel_ml": np.array(voxel_ml[grid]), **cut}
            found.normal[grid] = float(masks["normal"].sum() / masks["brain"].sum())
            for place, (score, mask) in enumerate(zip(scores, kept, strict=True)):
                whole = prepared.to_own_grid(score) if grid == "native" else score.T
                left = prepared.to_own_grid(mask.astype(np.float32)) > 0.5 if grid == "native" else mask.T
                found.scores[f"{grid}.{place}.npy"] = _cut(whole, box) * cut["brain"]
                found.scores[f"{grid}.{place}.kept.npy"] = _cut(left, box) & cut["brain"]
        return found


def _masks(prepared: Prepared, free: NDArray[np.bool_], lesion: Mask | None, grid: Grid) -> Masks:
    """``brain``, the part of it that is ``normal``, and ``lesion``; bool (x, y, z) of the grid."""
    truth = np.zeros(free.shape, dtype=bool) if lesion is None else lesion.voxels
    if grid == "native":
        brain = prepared.own_brain.voxels
        return {"brain": brain, "normal": brain & free, "lesion": truth}
    slices = prepared.brain
    normal = slices & ~prepared.touched(~free)
    return {"brain": slices.T, "normal": normal.T, "lesion": prepared.to_slices(truth).T}


def _cut(voxels: NDArray[Any], box: tuple[slice, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(voxels[box].T)


@dataclass(frozen=True)
class ScoredScans:
    """The scans after one chain, on one grid, one at a time in memory; ``counts``: the mask to calibrate on."""

    scans: Sequence[ScoredScan]
    place: int
    grid: Grid
    counts: str = "brain"

    def __iter__(self) -> Iterator[CalibrationScan]:
        for scan in self.scans:
            with np.load(scan.folder / f"{self.grid}.npz") as masks:
                brain, lesion, voxel_ml = masks[self.counts].T, masks["lesion"].T, float(masks["voxel_ml"])
            score, kept = (np.load(scan.folder / f"{self.grid}.{self.place}.{end}").T for end in ("npy", "kept.npy"))
            yield CalibrationScan(scan.subject, score, brain, lesion if scan.labelled else None, voxel_ml, kept)

    def __len__(self) -> int:
        return len(self.scans)


def for_thresholder(thresholder: Any, scans: Sequence[ScoredScan], place: int, grid: Grid) -> ScoredScans:
    """The scans that a thresholder can use: labelled ones, or the lesion-free part of any.

    Raises
    ------
    DataError
        There is none.
    UsageError
        They are of too few subjects for this thresholder.
    """
    labelled = thresholder.needs_lesions
    usable = [scan for scan in scans if (scan.labelled if labelled else scan.normal[grid] > 0)]
    if not usable:
        raise DataError(f"no calibration scan with {'a lesion mask' if labelled else 'lesion-free tissue'}")
    check_subjects(thresholder, (scan.subject for scan in usable))
    return ScoredScans(usable, place, grid, "brain" if labelled else "normal")


def check_subjects(thresholder: Any, subjects: Any) -> None:
    """Raises UsageError if the thresholder needs more subjects."""
    if hasattr(thresholder, "check_subjects"):
        thresholder.check_subjects(len(set(subjects)))
