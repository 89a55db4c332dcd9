"""Voxels of a scan that may be treated as normal, given its known lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import Row, read_lesion
from uadtk.preparation.geometry import stored_axis

MARGIN_SLICES = 2
MARGIN_MM = 6.05  # a little over 6: at a multiple of many voxel sizes, a whole shell of voxels would be in or out


def lesion_of(row: Row, scan: Scan, run: Run) -> Mask | None:
    """The lesion mask of a row, empty for a scan without lesions; None if the row has none."""
    lesion = read_lesion(row, scan)
    for note in () if lesion is None else lesion.notes:
        run.say(f"{row.subject}: lesion mask: {note}")
    return lesion


def lesion_free(row: Row, scan: Scan, lesion: Mask | None) -> NDArray[np.bool_]:
    """Axial slices without lesions, as a bool volume on the scan's grid.

    The cohort's list of slices (indices along the stored third axis) if there is one; else all slices at least two
    away from any lesion voxel; without a lesion mask, all slices.

    Raises
    ------
    DataError
        The list names a slice that the scan does not have.
    """
    normal = np.ones(scan.shape, dtype=bool)
    if row.lesion_free_slices is not None:
        if beyond := [z for z in row.lesion_free_slices if z >= scan.shape[2]]:
            what = f"lesion_free_slices names slice {beyond[0]}, but the scan has {scan.shape[2]} (counted from 0)"
            raise DataError(what, str(row.image), "Is it the list of this scan?")
        normal[:] = False
        normal[:, :, list(row.lesion_free_slices)] = True
    elif lesion is not None:
        axis = stored_axis(scan.affine, 2)
        across = np.moveaxis(normal, axis, 0)
        hit = np.flatnonzero(np.moveaxis(lesion.voxels, axis, 0).any(axis=(1, 2)))
        for z in hit:
            across[max(0, z - MARGIN_SLICES + 1) : z + MARGIN_SLICES] = False
    return normal


def normal_voxels(row: Row, scan: Scan, lesion: Mask | None) -> NDArray[np.bool_]:
    """Voxels on which a threshold may be calibrated, as a bool volume on the scan's grid.

    The cohort's list of lesion-free slices if there is one; else all voxels more than 6 mm from a known lesion.
    """
    return outside_lesion(scan, lesion) if row.lesion_free_slices is None else lesion_free(row, scan, lesion)


def outside_lesion(scan: Scan, lesion: Mask | None) -> NDArray[np.bool_]:
    """All voxels more than about 6 mm from a lesion."""
    if lesion is None or not lesion.voxels.any():
        return np.ones(scan.shape, dtype=bool)
    from scipy.ndimage import distance_transform_edt

    distance_mm: NDArray[np.float64] = distance_transform_edt(~lesion.voxels, sampling=scan.spacing_mm)
    return distance_mm > MARGIN_MM
