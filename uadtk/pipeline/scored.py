"""Scored scans on disk: what each of several chains of cleaners leaves, on the scan's own grid and on the slices.

The network sees a scan once. Memory holds one scan; the disk two score maps of it per chain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError, UadtkError
from uadtk.core.run import Run
from uadtk.core.thresholder import CalibrationScan
from uadtk.core.volume import Mask
from uadtk.io.cohort import Row, read_row
from uadtk.io.read import located
from uadtk.pipeline.evaluate import Grid
from uadtk.pipeline.score import Method, cleaned, from_spec, raw_slices
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.geometry import bounding_box
from uadtk.preparation.lesion_free import lesion_free, lesion_of

Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Kept:
    """A scored scan on disk. ``<grid>.npz``: its masks; ``<grid>.<n>.npy``: what the n-th chain leaves of its score.

    Arrays are (z, y, x), cut to what holds brain or lesion. ``healthy``: grids with normal brain to calibrate on.
    """

    subject: str
    labelled: bool
    healthy: frozenset[Grid]
    folder: Path


def keep_all(
    rows: Sequence[Row], method: Method, chains: Sequence[Sequence[str]], folder: Path, run: Run
) -> list[Kept]:
    """Score ``rows``, clean each score by every chain of specs, and keep all in ``folder``, a new one.

    ``method``'s own cleaners are not used. A scan that fails is left out and said. Raises DataError if all do.
    """
    built = [[from_spec("cleaners", spec) for spec in chain] for chain in chains]
    kept = []
    for place, row in enumerate(run.track(rows, f"scoring, {folder.name}")):
        try:
            kept.append(_keep(row, method, built, folder / f"{place:06d}", run))
        except UadtkError as error:
            run.say(f"{row.subject}: left out: {error.one_line()}")
    if not kept:
        raise DataError(f"none of {len(rows)} scans could be scored ({folder.name})", fix="The lines above say why.")
    return kept


def _keep(row: Row, method: Method, chains: Sequence[Sequence[Any]], folder: Path, run: Run) -> Kept:
    scan, brain_mask = read_row(row)
    lesion = lesion_of(row, scan)
    with located(row.image):
        prepared = prepare(scan, method.checkpoint.preparation, run, brain_mask)
        raw, _ = raw_slices(prepared, method, run)
    masks = _masks(prepared, lesion_free(row, scan, lesion), lesion)
    voxel_ml = {"native": scan.voxel_ml, "model": math.prod(prepared.spacing_mm) / 1000}
    # Lesion voxels outside the brain are missed, and must not be forgotten.
    boxes = {grid: bounding_box(own["brain"] | own["lesion"]) for grid, own in masks.items()}
    folder.mkdir(parents=True)
    for grid, own in masks.items():
        cut: dict[str, Any] = {name: _cut(mask, boxes[grid]) for name, mask in own.items()}
        np.savez(folder / f"{grid}.npz", voxel_ml=np.array(voxel_ml[grid]), **cut)
    for place, cleaners in enumerate(chains):
        score = cleaned(raw, prepared, cleaners)
        for grid, found in zip(masks, (prepared.to_own_grid(score), score.T), strict=True):
            np.save(folder / f"{grid}.{place}.npy", _cut(found, boxes[grid]) * _cut(masks[grid]["brain"], boxes[grid]))
    healthy = frozenset(grid for grid, own in masks.items() if own["normal"].any())
    return Kept(row.subject, lesion is not None, healthy, folder)


def _masks(prepared: Prepared, free: NDArray[np.bool_], lesion: Mask | None) -> dict[Grid, Masks]:
    """On the scan's own grid, then on the slices: ``brain``, what of it is ``normal``, ``lesion``; bool (x, y, z)."""
    truth = np.zeros(free.shape, dtype=bool) if lesion is None else lesion.voxels
    brain, slices = prepared.own_brain.voxels, prepared.brain
    normal = slices & ~prepared.to_slices(~free)
    return {
        "native": {"brain": brain, "normal": brain & free, "lesion": truth},
        "model": {"brain": slices.T, "normal": normal.T, "lesion": prepared.to_slices(truth).T},
    }


def _cut(voxels: NDArray[Any], box: tuple[slice, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(voxels[box].T)


@dataclass(frozen=True)
class Cleaned:
    """Scans as one chain leaves them on one grid, one at a time in memory; ``counts``: the mask to calibrate on."""

    scans: Sequence[Kept]
    place: int
    grid: Grid
    counts: str = "brain"

    def __iter__(self) -> Iterator[CalibrationScan]:
        for scan in self.scans:
            with np.load(scan.folder / f"{self.grid}.npz") as masks:
                brain, lesion, voxel_ml = masks[self.counts].T, masks["lesion"].T, float(masks["voxel_ml"])
            score = np.load(scan.folder / f"{self.grid}.{self.place}.npy").T
            yield CalibrationScan(scan.subject, score, brain, lesion, voxel_ml)

    def __len__(self) -> int:
        return len(self.scans)
