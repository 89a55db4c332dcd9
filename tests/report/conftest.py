"""Segmentations made by hand: a bright box in a grey brain, on a grid of any orientation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from uadtk.core.finding import Finding, Scoring, Segmentation
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume

Box = tuple[slice, slice, slice]
Make = Callable[..., Segmentation]


def point(threshold: float) -> OperatingPoint:
    return OperatingPoint(
        "p98",
        threshold,
        Spec("p98"),
        "98 % below",
        Spec("residual"),
        (Spec.parse("median:size=5"),),
        20,
        "ab",
        "2026-01-01",
    )


def make_segmentation(
    shape: tuple[int, int, int] = (40, 50, 30),
    spacing: tuple[float, float, float] = (4.0, 4.0, 4.0),
    codes: str = "RAS",
    lesions: tuple[Box, ...] = (),
    threshold: float = 0.5,
    reconstruction: bool = True,
    noise: float = 0.0,
    affine: np.ndarray | None = None,
    provenance: dict[str, Any] | None = None,
) -> Segmentation:
    """``lesions`` are boxes of voxels of a RAS+ grid; the result is stored in the orientation ``codes``."""
    rng = np.random.default_rng(0)
    brain = np.zeros(shape, bool)
    brain[4:-4, 5:-5, 2:-2] = True
    scan = brain * (1 + noise * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)
    score = brain * np.float32(0.1)
    components = np.zeros(shape, np.int32)
    for label, box in enumerate(lesions, 1):
        scan[box], score[box], components[box] = 3.0, 0.9, label
    world = np.diag((*spacing, 1.0)) if affine is None else affine
    to = ornt_transform(io_orientation(world), axcodes2ornt(codes))
    stored = world @ inv_ornt_aff(to, shape)

    def turn(voxels: np.ndarray) -> np.ndarray:
        return np.asfortranarray(apply_orientation(voxels, to))

    findings = []
    for label in range(1, len(lesions) + 1):
        where = np.argwhere(components == label)
        x, y, z = (world @ (*where.mean(axis=0), 1.0))[:3].tolist()
        ml = len(where) * abs(float(np.linalg.det(world[:3, :3]))) / 1000
        px, py, pz = (world @ (*where[len(where) // 2], 1.0))[:3].tolist()
        findings.append(Finding(label, ml, (x, y, z), 0.9, 0.9, (px, py, pz)))
    maps = {"reconstruction": Volume(turn(brain.astype(np.float32)), stored)} if reconstruction else {}
    scoring = Scoring(Scan(turn(scan), stored), Mask(turn(brain), stored), "given", ScoreMap(turn(score), stored), maps)
    labelled = Volume(turn(components), stored)
    mask = Mask(labelled.voxels > 0, stored)
    return Segmentation(scoring, point(threshold), mask, labelled, tuple(findings), provenance or {})


@pytest.fixture
def make() -> Make:
    return make_segmentation
