"""The slices a model learns from, prepared once from the scans of a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from uadtk.core.errors import DataError, UadtkError
from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, Row, read_row
from uadtk.pipeline.normal import lesion_free, lesion_of, outside_lesion
from uadtk.preparation import prepare

MIN_BRAIN_SHARE = 0.02  # of a slice: less is the tip of the vertex or the end of the spinal cord
HELD_OUT = 0.2


@dataclass(frozen=True)
class Slices:
    """(n, side, side): ``image`` float32, ``brain`` and ``normal`` bool; ``subjects`` how many scans they are from."""

    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    normal: NDArray[np.bool_]
    subjects: int

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, rows: NDArray[np.intp], device: str) -> Batch:
        image, brain, normal = (torch.from_numpy(a[rows])[:, None] for a in (self.image, self.brain, self.normal))
        to_device = image.to(device, memory_format=torch.channels_last)
        return Batch(to_device, brain.to(device), normal.to(device))


def split_rows(cohort: Cohort, seed: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows: by the table's split column, else a fifth of the subjects held out by ``seed``."""
    if any(row.split for row in cohort):
        train, held = [[row for row in cohort if row.split == name] for name in ("train", "validation")]
    else:
        train, held = list(cohort), []
    if not train:
        raise DataError("no row with split 'train'", str(cohort.source), "Name the splits train, validation and test.")
    if not held:
        subjects = sorted({row.subject for row in train})
        if len(subjects) < 2:
            raise DataError("needs at least two subjects, one to validate on", str(cohort.source))
        order = np.random.default_rng(seed).permutation(len(subjects))
        chosen = {subjects[i] for i in order[: max(1, round(HELD_OUT * len(subjects)))]}
        held = [row for row in train if row.subject in chosen]
        train = [row for row in train if row.subject not in chosen]
    return train, held


def load_slices(rows: Sequence[Row], recipe: Preparation, masked: bool, run: Run, what: str) -> Slices:
    """Prepare every scan. ``masked``: all slices, known lesions marked not normal; else lesion-free slices only.

    Raises
    ------
    DataError
        No scan gave a slice. Single scans that cannot be used are said and left out.
    """
    parts: list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]] = []
    for row in run.track(rows, what):
        try:
            parts.append(_scan_slices(row, recipe, masked, run))
        except UadtkError as error:
            run.say(f"{row.subject}: left out: {error.one_line()}")
    parts = [part for part in parts if len(part[0])]
    if not parts:
        raise DataError(f"no slice to use for {what}", fix="See the lines above; are the scans lesion-free anywhere?")
    image, brain, normal = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Slices(image, brain, normal, len(parts))


def _scan_slices(
    row: Row, recipe: Preparation, masked: bool, run: Run
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    scan, brain_mask = read_row(row)
    prepared = prepare(scan, recipe, run, brain_mask)
    lesion = lesion_of(row, scan)
    usable = outside_lesion(scan, lesion) if masked else lesion_free(row, scan, lesion)
    abnormal = prepared.to_slices(~usable)
    wanted = prepared.brain.mean(axis=(1, 2)) >= MIN_BRAIN_SHARE
    if not masked:
        wanted &= ~abnormal.any(axis=(1, 2))
    return prepared.image[wanted], prepared.brain[wanted], ~abnormal[wanted]
