"""Mask, score and scan of one result in the space of the ICBM 2009a atlas, with the transform."""

from __future__ import annotations

from uadtk.core.finding import Segmentation
from uadtk.core.volume import Header, Mask, Scan, ScoreMap, Volume
from uadtk.preparation.registration import register

IN_MNI = Header(sform_code=4, qform_code=4)


def in_atlas_space(result: Segmentation) -> tuple[dict[str, Volume], str]:
    """Volumes by key of ``uadtk.io.results.FILES``, and the transform as an ITK file.

    Registered affinely. The mask is resampled to the nearest neighbour: its volume is not that of the findings, which
    are measured on the scan's own grid.

    Raises
    ------
    DataError
        The scan cannot be registered.
    BackendError
        SimpleITK or the atlas is not installed.
    """
    scan, brain = result.scoring.scan, result.scoring.brain
    found = register(scan, brain, "affine")
    affine = found.atlas_affine
    volumes = {
        "mask_mni": Mask(found.to_atlas(result.mask.voxels, nearest=True) > 0.5, affine),
        "score_mni": ScoreMap(found.to_atlas(result.scoring.score.voxels), affine),
        "scan_mni": Scan(found.to_atlas(scan.voxels), affine),
    }
    return volumes, found.itk_text()
