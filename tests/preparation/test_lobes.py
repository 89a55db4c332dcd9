"""Lobes by the gate's alignment: of points of a head whose anatomy is known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from uadtk.core.finding import Gate
from uadtk.core.volume import Mask, Scan
from uadtk.phantom import shipped
from uadtk.preparation import gate
from uadtk.preparation.lobes import LOBES, lobes_at, numbers_at
from uadtk.report.place import places

# MNI coordinates of places that nobody disputes, from the centre of the average brain
CENTRE = np.array([0.0, -18.0, 8.0])
KNOWN = {
    "left frontal": (-35, 40, 20),
    "right frontal": (30, -15, 60),
    "left parietal": (-35, -60, 50),
    "right temporal": (60, -20, -15),
    "left occipital": (-20, -92, 5),
    "right insula": (39, 5, 0),
    "midline cingulate": (0, 30, 20),
    "left thalamus": (-12, -18, 8),
    "right basal ganglia": (26, 2, 0),
    "left cerebellum": (-30, -65, -40),
    "brainstem": (0, -28, -30),
}


def test_known_places_have_their_lobes() -> None:
    points = [tuple(np.array(point) - CENTRE) for point in KNOWN.values()]
    assert lobes_at(np.eye(4), points) == list(KNOWN)
    assert lobes_at(np.eye(4), [(0.0, 0.0, 120.0), (0.0, 0.0, -1e9)]) == ["", ""]
    assert lobes_at(None, points) == [""] * len(points)
    assert lobes_at(np.eye(4), []) == []


def test_the_map_is_whole_and_nearly_symmetric() -> None:
    grid = np.moveaxis(np.mgrid[-66:67:4, -80:81:4, -60:61:4], 0, -1).reshape(-1, 3).astype(float)
    here, mirrored = numbers_at(grid), numbers_at(grid * [-1.0, 1, 1])
    assert set(here) == set(range(len(LOBES) + 1))
    assert (here == mirrored)[here > 0].mean() > 0.85


@pytest.fixture(scope="module")
def demo() -> tuple[Scan, Mask]:
    image = nib.load(Path(shipped.__file__).parent / "demo" / "FLAIR.nii.gz")
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    return Scan(voxels, image.affine), Mask(voxels > 0, image.affine)


@pytest.mark.parametrize("codes", ["RAS", "SPL"])
def test_the_demo_phantom_in_any_orientation(demo: tuple[Scan, Mask], codes: str) -> None:
    """It is a deformed ICBM 2009a: places of that are a few millimetres off at most."""
    scan, brain = demo
    turn = ornt_transform(io_orientation(scan.affine), axcodes2ornt(codes))
    affine = scan.affine @ inv_ornt_aff(turn, scan.shape)
    turned = Scan(np.asfortranarray(apply_orientation(scan.voxels, turn)), affine)
    inside = Mask(np.asfortranarray(apply_orientation(brain.voxels, turn)), affine)
    seen = gate.look(turned, inside, Gate())
    assert seen.average is not None
    middle = brain.affine @ [*np.argwhere(brain.voxels).mean(axis=0), 1]
    points = [tuple(middle[:3] + offset) for offset in ((-35, 60, 10), (35, -45, 45), (30, -50, -48), (0, -10, -40))]
    assert lobes_at(seen.average, points) == ["left frontal", "right parietal", "right cerebellum", "brainstem"]
    first = places(inside, points, seen.average)[0]
    assert (
        str(first) == f"left frontal · {first.surface_mm:.0f} mm deep · {first.ventricle_mm:.0f} mm from the ventricles"
    )
    assert str(places(inside, points)[0]).startswith("left · front")
    assert seen.having().average is seen.average
    np.testing.assert_array_equal(seen.to_json()["average"], seen.average)


def test_half_a_brain_and_a_box_have_no_lobes(demo: tuple[Scan, Mask]) -> None:
    scan, brain = demo
    half = brain.voxels.copy()
    half[:, : half.shape[1] // 2] = False
    box = np.zeros_like(half)
    box[20:-20, 20:-20, 20:-20] = True
    for inside in (half, box):
        seen = gate.look(scan, Mask(inside, scan.affine), Gate())
        assert seen.average is None
        assert "average" not in seen.to_json()
