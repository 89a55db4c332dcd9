"""The brain mask: given, taken from an already skull-stripped scan, or made by deepbet."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import BackendError, DataError
from uadtk.core.volume import Mask, Scan
from uadtk.kernels._box import bounding_box, zeros
from uadtk.preparation.background import background, foreground
from uadtk.preparation.geometry import Reorientation

GIVEN, STRIPPED, DEEPBET = "given", "already skull-stripped", "deepbet"

# Larger than the brains of 89 skull-stripped public scans (largest: 168 x 193 mm, 1891 ml), smaller than whole heads.
MAX_BRAIN_ML, MAX_BRAIN_WIDTH_MM, MAX_BRAIN_LENGTH_MM = 2200.0, 172.0, 200.0
MIN_BRAIN_ML = 50.0
SINGLE_AS = 16  # slices that deepbet sees of a scan of one: where they end, its mask shrinks


def find_brain(scan: Scan, given: Mask | None = None, device: str = "cpu") -> tuple[Mask, str]:
    """The brain mask of a scan and its source.

    Raises
    ------
    DataError
        No brain: the mask holds less than 50 ml.
    BackendError
        The scan needs skull stripping and deepbet is not installed.
    """
    if given is not None:
        mask, source = given, GIVEN
    elif _could_be_brain(tissue := _tissue(scan)):
        mask, source = Mask(_filled(tissue.zyx).T, scan.affine), STRIPPED
    else:
        mask, source = Mask(_deepbet(scan, device), scan.affine), DEEPBET
    volume_ml = int(np.count_nonzero(mask.voxels)) * mask.voxel_ml
    if volume_ml < MIN_BRAIN_ML:
        raise DataError(
            f"no brain: the brain mask ({source}) holds {volume_ml:.1f} ml",
            fix="Check the spacing and that this is a brain scan, or give --brain-mask.",
        )
    return mask, source


def is_stripped(scan: Scan) -> bool:
    """True if all that is not background could be a brain: off the sides, and no larger than a brain."""
    return _could_be_brain(_tissue(scan))


def _tissue(scan: Scan) -> Mask:
    return Mask(foreground(scan, background(scan)), scan.affine)


def _could_be_brain(mask: Mask) -> bool:
    upright = Reorientation.of(mask.affine).to_ras(mask)
    tissue: NDArray[np.bool_] = upright.voxels
    border = np.concatenate([tissue[[0, -1]].ravel(), tissue[:, [0, -1]].ravel()])
    if not tissue.any() or border.mean() > 0.02 or np.count_nonzero(tissue) * mask.voxel_ml > MAX_BRAIN_ML:
        return False
    x, y, _ = bounding_box(tissue)
    width_mm, length_mm = (x.stop - x.start) * upright.spacing_mm[0], (y.stop - y.start) * upright.spacing_mm[1]
    return bool(width_mm <= MAX_BRAIN_WIDTH_MM and length_mm <= MAX_BRAIN_LENGTH_MM)


def _filled(foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes: dark ventricles of stripped scans may be zero, and enclosed background is brain."""
    import cc3d

    filled, box = zeros(foreground.shape, np.bool_), bounding_box(foreground)
    outside = np.pad(~foreground[box], 1, constant_values=True)
    labels = cc3d.connected_components(outside, connectivity=6)
    filled[box] = (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def _deepbet(scan: Scan, device: str) -> NDArray[np.bool_]:
    """deepbet (Fisch et al. 2024), run in memory; its wheel contains the weights."""
    try:
        from deepbet.bet import BrainExtraction
    except ImportError:
        raise BackendError(
            "the scan is not skull-stripped and deepbet is not installed",
            fix='Install it with pip install "uadtk[preprocess]", or give --brain-mask.',
        ) from None
    turn = Reorientation.of(scan.affine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deepbet loads TorchScript, which torch has deprecated
        extraction = BrainExtraction(no_gpu=device == "cpu")
    upright = np.ascontiguousarray(turn.to_ras(scan).voxels, dtype=np.float32)
    single = [n == 1 for n in upright.shape]
    for axis in np.flatnonzero(single):  # the box that deepbet puts around the brain in one slice is empty
        upright = np.repeat(upright, SINGLE_AS, axis)
    try:
        mask = extraction.postprocess(extraction.run_model(upright) > 0.5)
    except (AssertionError, ValueError, RuntimeError) as error:  # raised by deepbet if it finds no brain
        if isinstance(error, RuntimeError) and all(side.start < side.stop for side in extraction.bbox or ()):
            raise
        raise DataError(
            f"no brain found by deepbet ({error})", fix="Check that this is a brain scan, or give --brain-mask."
        ) from None
    middle = tuple(slice(SINGLE_AS // 2, SINGLE_AS // 2 + 1) if one else slice(None) for one in single)
    return turn.to_own(np.asarray(mask[middle], dtype=np.float32)) > 0.5
