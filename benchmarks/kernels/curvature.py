"""curvature_flow against SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import curvature_flow


def rows(quick: bool) -> Iterator[Row]:
    for name in ["sq"] if quick else SHAPES:
        sample = brain(name)
        volume = np.where(sample.mask, np.clip(0.5 + sample.signed, 0, 1), 0).astype(np.float32)
        image = sitk.GetImageFromArray(volume)

        def ours(volume: Any = volume) -> Any:
            return curvature_flow(volume)

        def peer(image: sitk.Image = image) -> sitk.Image:
            return sitk.CurvatureFlow(image, timeStep=0.125, numberOfIterations=5)

        assert np.abs(curvature_flow(volume) - sitk.GetArrayFromImage(peer())).max() <= 1e-6
        medians = interleave({"ours": ours, "SimpleITK.CurvatureFlow": peer}, repeats=5)
        yield Row("curvature_flow", f"5 iterations, {name}", medians.pop("ours"), medians, 5.0, 3.0)


def first_call() -> None:
    curvature_flow(np.zeros((4, 4, 4), np.float32), 1)
