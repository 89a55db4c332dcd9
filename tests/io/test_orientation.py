"""Headers that contradict themselves: reported, or refused where volumes would depend on them; codes are kept."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.core.volume import Scan
from uadtk.io.cohort import Row, read_row
from uadtk.io.read import read_lesion_mask, read_mask, read_scan
from uadtk.io.write import write_nifti

RNG = np.random.default_rng(0)


def save(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, codes: tuple[int, int] = (1, 1)) -> Path:
    image = nib.Nifti1Image(RNG.random((6, 7, 8)).astype(np.float32), np.eye(4))
    image.set_qform(qform, codes[1] if qform is not None else 0)
    image.set_sform(sform, codes[0] if sform is not None else 0)
    if qform is None and sform is not None:
        image.header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    nib.save(image, path)
    return path


def said_about(path: Path, trust: str = "") -> list[str]:
    said: list[str] = []
    read_row(Row("p", path), Run(say=said.append, trust=trust))  # type: ignore[arg-type]
    return said


ONE, THICK = np.diag([1.0, 1, 1, 1]), np.diag([1.0, 1, 3, 1])


def test_a_consistent_header_gives_no_remark(tmp_path: Path) -> None:
    for name, forms in {"both": (THICK, THICK), "sform": (THICK, None), "qform": (None, THICK)}.items():
        path = save(tmp_path / f"{name}.nii.gz", *forms)
        assert said_about(path) == []
        assert read_scan(path).spacing_mm == pytest.approx((1, 1, 3))


def test_spacings_that_disagree_are_refused_and_both_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "liar.nii.gz", ONE, THICK)
    with pytest.raises(DataError) as error:
        read_scan(path)
    told = error.value.one_line()
    assert "sform has spacing 1 x 1 x 1 mm, qform 1 x 1 x 3 mm" in told
    assert "--trust" in told
    assert str(path) in told


def test_either_can_be_trusted_and_the_other_is_mentioned(tmp_path: Path) -> None:
    path = save(tmp_path / "liar.nii.gz", ONE, THICK)
    assert read_scan(path, "sform").voxel_ml == pytest.approx(0.001)
    assert read_scan(path, "qform").voxel_ml == pytest.approx(0.003)
    (remark,) = said_about(path, "qform")
    assert "qform is used" in remark
    with pytest.raises(DataError, match="has no qform"):
        read_scan(save(tmp_path / "s.nii.gz", ONE, None), "qform")


def test_a_mask_is_read_as_its_scan_is(tmp_path: Path) -> None:
    path = save(tmp_path / "liar.nii.gz", ONE, THICK)
    scan = read_scan(path, "qform")
    assert read_mask(path, scan).voxel_ml == pytest.approx(0.003)


def test_a_sform_that_disagrees_with_pixdim_alone_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ONE, None)
    image = nib.load(path)
    image.header["pixdim"][1:4] = 1, 1, 3
    nib.save(image, path)  # nibabel rewrites pixdim from the affine, so the bytes are changed below
    import gzip

    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[80:92] = np.array([1, 1, 3], "<f4").tobytes()
    path.with_suffix("").write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"sform has spacing 1 x 1 x 1 mm, pixdim 1 x 1 x 3 mm"):
        read_scan(path.with_suffix(""))
    assert read_scan(path.with_suffix(""), "sform").voxel_ml == pytest.approx(0.001)


def test_left_and_right_exchanged_and_rotations_are_remarks(tmp_path: Path) -> None:
    mirrored = save(tmp_path / "m.nii.gz", ONE, np.diag([-1.0, 1, 1, 1]))
    assert "left and right exchanged" in said_about(mirrored)[0]
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    assert "rotated by 37 degrees" in said_about(save(tmp_path / "r.nii.gz", ONE, turn))[0]
    shifted = ONE.copy()
    shifted[0, 3] = 12
    assert "12.0 mm apart" in said_about(save(tmp_path / "t.nii.gz", ONE, shifted))[0]


def test_unknown_orientation_is_said_and_stays_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "unknown.nii.gz", None, None)
    (remark,) = said_about(path)
    assert "orientation unknown" in remark
    scan = read_scan(path)
    write_nifti(tmp_path / "out.nii.gz", Scan(scan.voxels, scan.affine), scan.header)
    written = nib.load(tmp_path / "out.nii.gz").header
    assert (int(written["sform_code"]), int(written["qform_code"])) == (0, 0)
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii.gz").affine, nib.load(path).affine)


@pytest.mark.parametrize("codes", [(4, 1), (2, 0), (1, 1), (0, 3), (5, 4)])
def test_outputs_keep_the_codes_of_the_input(codes: tuple[int, int], tmp_path: Path) -> None:
    sform, qform = (THICK if code else None for code in codes)
    scan = read_scan(save(tmp_path / "in.nii.gz", sform, qform, codes))
    write_nifti(tmp_path / "out.nii.gz", Scan(scan.voxels, scan.affine), scan.header)
    written = nib.load(tmp_path / "out.nii.gz").header
    assert (int(written["sform_code"]), int(written["qform_code"])) == codes
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii.gz").affine, scan.affine)


def test_metres_and_micrometres_are_converted(tmp_path: Path) -> None:
    for unit, factor in (("meter", 1e-3), ("micron", 1e3)):
        image = nib.Nifti1Image(RNG.random((6, 7, 8)).astype(np.float32), np.diag([factor, factor, 3 * factor, 1]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{unit}.nii.gz")
        assert read_scan(tmp_path / f"{unit}.nii.gz").spacing_mm == pytest.approx((1, 1, 3))
        assert "converted to mm" in said_about(tmp_path / f"{unit}.nii.gz")[0]


def test_a_unit_that_cannot_be_is_not_believed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(RNG.random((6, 7, 8)).astype(np.float32), THICK)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "m.nii.gz")
    assert read_scan(tmp_path / "m.nii.gz").spacing_mm == pytest.approx((1, 1, 3))
    assert "mm is used" in said_about(tmp_path / "m.nii.gz")[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.9, 1.1))
def test_only_a_volume_that_would_be_off_by_more_than_a_percent_is_refused(factor: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.nii.gz", THICK, THICK @ np.diag([1, 1, factor, 1]))
        try:
            read_scan(path)
            refused = False
        except DataError:
            refused = True
    off = abs(factor - 1)
    if abs(off - 0.01) > 1e-4:
        assert refused == (off > 0.01)


def test_a_mask_a_hundredth_of_a_millimetre_off_is_accepted_and_one_that_is_refused_says_how_far(
    tmp_path: Path,
) -> None:
    scan = read_scan(save(tmp_path / "scan.nii.gz", THICK, THICK))
    for off_mm, accepted in ((0.012, True), (0.09, True), (0.5, False), (7.0, False)):
        shifted = THICK.copy()
        shifted[0, 3] += off_mm
        path = save(tmp_path / f"mask{off_mm}.nii.gz", shifted, shifted)
        if accepted:
            assert read_mask(path, scan).same_grid(scan)
        else:
            with pytest.raises(DataError, match=rf"up to {off_mm:.3g} mm off the scan"):
                read_mask(path, scan)


def test_a_mask_that_is_slightly_off_is_used_with_a_note(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "scan.nii.gz", THICK, THICK))
    notes = []
    for off_mm in (0.0, 0.012, 0.05):
        shifted = THICK.copy()
        shifted[0, 3] += off_mm
        notes.append(read_mask(save(tmp_path / f"m{off_mm}.nii.gz", shifted, shifted), scan).notes)
    assert notes[:2] == [(), ()]
    assert "0.05 mm off the scan" in notes[2][0]


def test_a_lesion_mask_with_its_rows_turned_is_turned_back(tmp_path: Path) -> None:
    """dcm2niix and others store the same scan with flipped axes."""
    scan = read_scan(save(tmp_path / "scan.nii.gz", THICK, THICK))
    inside = np.zeros(scan.shape, np.uint8)
    inside[1, 2, 3] = 1
    affine = THICK @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] += THICK[:3, 0] * (scan.shape[0] - 1)
    nib.save(nib.Nifti1Image(inside[::-1], affine), tmp_path / "mask.nii.gz")
    assert np.argwhere(read_lesion_mask(tmp_path / "mask.nii.gz", scan).voxels).tolist() == [[1, 2, 3]]
