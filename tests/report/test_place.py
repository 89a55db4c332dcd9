from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage

from uadtk.core.volume import Mask
from uadtk.report.place import places

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
LATERAL_AND_THIRD, WHITE_LEFT, WHITE_RIGHT = (4, 43, 14), 2, 41  # FreeSurfer's numbers


def ball(codes: str = "RAS") -> Mask:
    """A brain of 70 mm radius around the origin."""
    grid = np.moveaxis(np.indices((50, 50, 50)), 0, -1) * 3.0 - 75.0
    affine = AFFINE.copy()
    affine[:3, 3] = -75.0
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    inside = np.linalg.norm(grid, axis=-1) < 70
    return Mask(apply_orientation(inside, turn), affine @ inv_ornt_aff(turn, inside.shape))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
def test_side_part_and_depth(codes: str) -> None:
    points = [(-60.0, 0.0, 0.0), (0.0, 50.0, 0.0), (35.0, -35.0, 35.0), (0.0, 0.0, 5.0)]
    left, front, upper, middle = places(ball(codes), points)
    assert (left.side, left.part) == ("left", "")
    assert left.surface_mm == pytest.approx(10, abs=3)
    assert (front.side, front.part) == ("midline", "front")
    assert (upper.side, upper.part) == ("right", "back, upper")
    assert middle.ventricle_mm < 12 < left.ventricle_mm
    assert str(left) == f"left · {left.surface_mm:.0f} mm deep · {left.ventricle_mm:.0f} mm from the ventricles"


def test_without_a_brain_there_are_no_places() -> None:
    assert places(Mask(np.zeros((5, 5, 5), bool), AFFINE), [(0.0, 0.0, 0.0)]) == []
    assert places(ball(), []) == []


@pytest.mark.slow
def test_on_real_anatomy_the_ventricles_are_a_few_millimetres_off(shared_data: Path) -> None:
    """White matter of eight label maps: the measurement behind the note in the report."""
    rng, errors = np.random.default_rng(0), []
    for path in sorted((shared_data / "labels").glob("*.nii.gz"))[:8]:
        image = nib.load(path)
        labels = np.asarray(image.dataobj).astype(np.int16)[::2, ::2, ::2]
        affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        brain = (labels > 0) & (labels < 100) & (labels != 24)
        spacing = np.array(image.header.get_zooms()[:3]) * 2
        true = ndimage.distance_transform_edt(~np.isin(labels, LATERAL_AND_THIRD), sampling=spacing)
        white = np.argwhere(np.isin(labels, (WHITE_LEFT, WHITE_RIGHT)))
        chosen = white[rng.choice(len(white), 200)]
        found = places(Mask(brain, affine), [tuple(p) for p in chosen @ affine[:3, :3].T + affine[:3, 3]])
        errors += [abs(place.ventricle_mm - true[tuple(at)]) for place, at in zip(found, chosen, strict=True)]
        sides = {WHITE_LEFT: "left", WHITE_RIGHT: "right"}
        right = [place.side in (sides[labels[tuple(at)]], "midline") for place, at in zip(found, chosen, strict=True)]
        assert np.mean(right) > 0.97
    assert np.median(errors) < 4
    assert np.quantile(errors, 0.9) < 15


def test_the_surface_is_as_far_as_a_distance_map_says() -> None:
    rng = np.random.default_rng(0)
    inside = ndimage.gaussian_filter(rng.standard_normal((30, 24, 12)), 2) > 0
    affine = np.diag([2.0, 2.5, 5.0, 1.0])
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=(2.0, 2.5, 5.0))
    voxels = rng.integers(0, inside.shape, (200, 3))
    found = places(Mask(inside, affine), [tuple(point) for point in voxels * (2.0, 2.5, 5.0)])
    assert [place.surface_mm for place in found] == pytest.approx(depth[tuple(voxels.T + 1)].tolist())
    assert 0 < sum(place.surface_mm == 0 for place in found) < 200
