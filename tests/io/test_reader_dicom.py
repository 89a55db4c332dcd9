"""DICOM read rightly or refused with the reason; SimpleITK's own reading and dcm2niix are the oracles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.core.errors import BackendError, DataError, UadtkError
from uadtk.core.volume import Volume
from uadtk.io.cohort import output_names, read_cohort
from uadtk.io.read import read_mask, read_scan
from uadtk.io.readers.dicom_series import subject_of

pydicom = pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
from tests import dicom_writer as dw  # noqa: E402

SHAPE = (9, 7, 6)
AFFINE = np.array([[-0.9, 0, 0, 80], [0, 0.8, 0, -60], [0, 0, 5.0, -30], [0, 0, 0, 1]])


def numbers(shape: tuple[int, int, int] = SHAPE, dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(dtype)


def upright(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(voxels, np.float32), affine))
    return image.get_fdata(dtype=np.float32), image.affine


def assert_same(volume: Volume, voxels: np.ndarray, affine: np.ndarray, atol_mm: float = 1e-4) -> None:
    """The same intensity at every place in the patient, whatever the order of the axes."""
    one, other = upright(volume.voxels, volume.affine), upright(voxels, affine)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1], atol=atol_mm)


def by_itk(files: list[Path] | Path) -> tuple[np.ndarray, np.ndarray]:
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if isinstance(files, Path) and files.is_dir():
        files = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(files)))
    image = sitk.ReadImage([str(f) for f in files] if isinstance(files, list) else str(files))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def refused(path: Path, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        read_scan(path)
    line = caught.value.one_line()
    assert caught.value.where, line
    assert caught.value.fix, line
    assert "\n" not in line
    for word in words:
        assert word in line, line
    return line


def turned(code: str, angle: float = 0.0) -> np.ndarray:
    """An affine whose voxel axes run as ``code`` says, turned by ``angle`` about an oblique axis."""
    from scipy.spatial.transform import Rotation

    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(code), nib.orientations.axcodes2ornt("RAS")),
        SHAPE,
    )
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.9, 0.8, 5.0])
    affine[:3, :3] = Rotation.from_rotvec(angle * np.array([0.6, -0.5, 0.62])).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = [-40, 31.5, 12.25]
    return affine


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "PSR", "AIL", "LIA", "RSP", "SPL", "IRA"])
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_every_orientation_as_written_and_as_itk_reads_it(tmp_path, code, angle):
    """axial, sagittal, coronal, both handed, oblique; files in no order, with a slope and an intercept."""
    voxels, affine = numbers(), turned(code, angle)
    files = dw.slices(voxels, affine, RescaleSlope="0.5", RescaleIntercept="-3")
    scan = read_scan(dw.write(tmp_path / "a", files))
    assert scan.shape[:2] == SHAPE[:2]
    assert_same(scan, voxels * np.float32(0.5) - 3, affine)
    assert_same(scan, *by_itk(tmp_path / "a"))
    assert scan.notes == ()
    assert scan.facts["SeriesDescription"] == "t2_flair_tra"
    assert "Jane" not in str(scan.facts)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shuffled=st.permutations(range(SHAPE[2])),
    by=st.integers(1, 3),
)
def test_any_place_in_space(tmp_path_factory, angles, spacing, origin, shuffled, by):
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    files = dw.slices(numbers(), affine)
    for k, data in enumerate(files):  # numbers that run along the stack, or mean nothing
        data.InstanceNumber = by * shuffled[k] + 1
    scan = read_scan(dw.write(tmp_path_factory.mktemp("any"), [files[k] for k in shuffled]))
    np.testing.assert_array_equal(scan.voxels, numbers())
    np.testing.assert_allclose(scan.affine, affine, atol=1e-3)
    np.testing.assert_allclose(scan.spacing_mm, spacing, rtol=1e-5)


def test_a_file_brings_its_series_and_nothing_else(tmp_path):
    folder = dw.write(tmp_path / "study", dw.slices(numbers(), AFFINE))
    other = dw.slices(numbers() + 1, AFFINE, SeriesInstanceUID="1.2.3.1.8", SeriesNumber=8, SeriesDescription="t1 se")
    dw.write(folder, other, [f"other{i}.dcm" for i in range(len(other))])
    assert_same(read_scan(folder / "IM003"), numbers(), AFFINE)
    assert_same(read_scan(folder / "other2.dcm"), numbers() + 1, AFFINE)


@pytest.mark.parametrize("name", [b"a\xfc.img", b"\xff", b"no suffix at all", b"x.nii.gz", b"y.HDR"])
def test_names_mean_nothing(tmp_path, name):
    files = dw.slices(numbers(), AFFINE)
    dw.write(tmp_path, files)
    last = Path(os.fsdecode(os.fsencode(tmp_path / "IM001")))
    last.rename(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    assert_same(read_scan(tmp_path / os.fsdecode(name)), numbers(), AFFINE)
    assert_same(read_scan(tmp_path), numbers(), AFFINE)


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_encodings_with_and_without_preamble(tmp_path, implicit, little, preamble):
    for i, data in enumerate(dw.slices(numbers(), AFFINE)):
        if not little:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        bare = pydicom.Dataset(data)
        if preamble:
            bare.file_meta = data.file_meta
            uids = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
            bare.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else uids
        bare.save_as(tmp_path / f"{i}", implicit_vr=implicit, little_endian=little, enforce_file_format=preamble)
        assert ((tmp_path / f"{i}").read_bytes()[128:132] == b"DICM") == preamble
    assert_same(read_scan(tmp_path), numbers(), AFFINE)
    assert_same(read_scan(tmp_path / "3"), numbers(), AFFINE)


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    dw.write(tmp_path / "disc/PAT0/ST0", dw.slices(numbers(), AFFINE))
    dw.write(tmp_path / "disc", [dw.blank("1.2.840.10008.1.3.10")], ["DICOMDIR"])
    for path in (tmp_path / "disc/DICOMDIR", tmp_path / "disc"):
        assert_same(read_scan(path), numbers(), AFFINE)


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.write(member, member.relative_to(folder.parent))
        file.writestr("__MACOSX/._IM001", b"\0\5\x16\7")
        file.writestr("readme.txt", "hello")
    return path


def test_a_zip(tmp_path):
    folder = dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE))
    assert_same(read_scan(packed(folder, tmp_path / "study.zip")), numbers(), AFFINE)


def test_zips_that_cannot_be_used(tmp_path):
    path = packed(dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE)), tmp_path / "a.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "damaged zip")
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = locked.find(mark)
        while place >= 0:
            locked[place + offset] |= 1
            place = locked.find(mark, place + 4)
    path.write_bytes(bytes(locked))
    refused(path, "password")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "no image")
    refused(path, "no installed plugin reads it")


STUDY: dict[int, tuple[str, dict[str, Any]]] = {
    1: ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]}),
    2: ("t1_mprage_sag", {"EchoTime": 3, "InversionTime": 900, "RepetitionTime": 2000}),
    3: ("t2_tirm_tra_dark-fluid", {}),
    4: ("t2_tse_tra", {"EchoTime": 98, "InversionTime": None, "RepetitionTime": 4000}),
    5: ("ep2d_diff_ADC", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}),
    6: ("t1_flair_tra", {"EchoTime": 12, "InversionTime": 860, "RepetitionTime": 2200}),
    7: ("t2_flair_sag MPR", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
}


def study(folder: Path, **more: tuple[str, dict]) -> Path:
    for number, (name, tags) in {**STUDY, **{int(k[1:]): v for k, v in more.items()}}.items():
        uid = f"1.2.3.1.{number}"
        named: dict[str, Any] = {"SeriesDescription": name, "SeriesInstanceUID": uid, "SeriesNumber": number}
        dw.write(folder / f"{number:03d}", dw.slices(numbers() + np.uint16(number), AFFINE, **{**named, **tags}))
    report = dw.blank("1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", SeriesInstanceUID="1.2.3.1.99", SeriesNumber=99)
    dw.write(folder / "099", [report])
    return folder


def test_the_flair_of_a_study_is_chosen_by_its_tags_and_the_rest_listed(tmp_path):
    folder = study(tmp_path / "study")
    for path in (folder, packed(folder, tmp_path / "study.zip")):
        scan = read_scan(path)
        assert_same(scan, numbers() + 3, AFFINE)
        (note,) = scan.notes
        assert "took series 3 't2_tirm_tra_dark-fluid' (6 images)" in note
        for number, (name, _) in STUDY.items():
            assert number == 3 or f"{number} '{name}'" in note
        assert "99 '' (SR)" in note


def test_without_names_the_timing_decides(tmp_path):
    folder = study(tmp_path / "study")
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = pydicom.dcmread(path)
        data.SeriesDescription = ""
        data.save_as(path)
    shutil.rmtree(folder / "007")
    assert_same(read_scan(folder), numbers() + 3, AFFINE)


def test_two_flairs_are_listed_and_neither_is_taken(tmp_path):
    folder = study(tmp_path / "study", _8=("t2_flair_tra KM", {}))
    refused(folder, "2 series may be the FLAIR", "3 't2_tirm_tra_dark-fluid'", "8 't2_flair_tra KM'")
    assert_same(read_scan(folder / "008"), numbers() + 8, AFFINE)


def test_no_flair_is_listed_and_none_is_taken(tmp_path):
    folder = study(tmp_path / "study")
    shutil.rmtree(folder / "003")
    refused(folder, "none of 7 series is a FLAIR", "2 't1_mprage_sag'", "6 't1_flair_tra'")


def test_the_only_image_among_other_objects_is_taken(tmp_path):
    folder = study(tmp_path / "study")
    for number in (2, 3, 5, 6, 7):
        shutil.rmtree(folder / f"{number:03d}")
    scan = read_scan(folder)
    assert_same(scan, numbers() + 4, AFFINE)
    assert "tags do not say FLAIR" in scan.notes[0]


@pytest.mark.parametrize("order", [range(6), [5, 0, 3, 1, 4, 2]])
@pytest.mark.parametrize("code", ["RAS", "PSR", "LIA"])
def test_enhanced_multi_frame(tmp_path, code, order):
    affine = turned(code, 0.2)
    folder = dw.write(tmp_path / "a", [dw.enhanced(numbers(), affine, order)])
    for path in (folder, folder / "IM001"):
        assert_same(read_scan(path), numbers() * 2.0 - 5, affine)
    assert read_scan(folder).facts["EchoTime"] == 92
    if list(order) == list(range(6)):
        assert_same(read_scan(folder), *by_itk(folder / "IM001"))


def test_enhanced_time_points_in_one_series(tmp_path):
    files = [dw.enhanced(numbers() + np.uint16(t), AFFINE) for t in range(3)]
    for t, data in enumerate(files):
        for frame in data.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].TemporalPositionIndex = t + 1
    folder = dw.write(tmp_path / "a", files, ["0", "1", "2"])
    refused(folder, "3 volumes", "time points 1, 2, 3")
    assert_same(read_scan(folder / "1"), (numbers() + 1) * 2.0 - 5, AFFINE)  # one that is named is one volume


def test_parts_of_a_concatenation_belong_together(tmp_path):
    parts = [dw.enhanced(numbers(), AFFINE, order) for order in ([0, 1, 2], [3, 4, 5])]
    for data in parts:
        data.ConcatenationUID = "1.2.3.9"
    folder = dw.write(tmp_path / "a", parts, ["0", "1"])
    for path in (folder, folder / "0", folder / "1"):
        assert_same(read_scan(path), numbers() * 2.0 - 5, AFFINE)


@pytest.mark.parametrize("file", [dw.slices, dw.enhanced], ids=["classic", "enhanced"])
def test_missing_slices_are_refused_with_their_positions(tmp_path, file):
    if file is dw.slices:
        files = [f for k, f in enumerate(dw.slices(numbers(), AFFINE)) if k not in (2, 3)]
    else:
        files = [dw.enhanced(numbers(), AFFINE, [0, 1, 4, 5])]
    refused(dw.write(tmp_path / "a", files), "2 of 6 slices are missing", "at -20.0, -15.0 mm", "5 mm apart")


def test_a_slice_that_claims_to_be_a_thousand_kilometres_away(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    x, y, z = files[-1].ImagePositionPatient
    files[-1].ImagePositionPatient = [x, y, float(z) + 5e9]
    refused(dw.write(tmp_path / "a", files), "1000000000 of 1000000006 slices are missing", ", ...")


def test_every_second_slice_is_missing(tmp_path):
    refused(dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE, SpacingBetweenSlices=5)[::2]), "slices are missing")
    refused(dw.write(tmp_path / "b", dw.slices(numbers(), AFFINE)[::2]), "instance numbers go in steps of 2")


def private(group: int, creator: str, offset: int, kind: str, value: object) -> Callable:
    def add(data: Any) -> None:
        data.private_block(group, creator, create=True).add_new(offset, kind, value)

    return add


@pytest.mark.parametrize(
    ("change", "who"),
    [
        (lambda data: setattr(data, "ImagesInAcquisition", 6), "ImagesInAcquisition"),
        (private(0x2001, "Philips Imaging DD 001", 0x18, "SL", 6), "the scanner's protocol"),
        (private(0x0021, "GEMS_RELA_01", 0x4F, "SS", 6), "the scanner's protocol"),
        (private(0x0029, "SIEMENS CSA HEADER", 0x20, "OB", b"sSliceArray.lSize  =  6\n\0"), "the scanner's protocol"),
    ],
)
def test_slices_missing_at_an_end_are_found_by_the_scanners_own_count(tmp_path, change, who):
    files = dw.slices(numbers(), AFFINE, MRAcquisitionType="2D")
    for data in files:
        change(data)
    assert read_scan(dw.write(tmp_path / "all", files)).shape == SHAPE
    refused(dw.write(tmp_path / "some", files[:4]), f"2 of 6 slices are missing by {who}", "from -30.0 to -15.0 mm")


def test_a_late_first_instance_is_a_note(tmp_path):
    scan = read_scan(dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE)[2:]))
    assert scan.notes == ("instance numbers start at 3: slices before that may be missing",)


def test_a_single_slice_is_as_thick_as_it_says(tmp_path):
    scan = read_scan(dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE)[:1]))
    assert scan.spacing_mm == pytest.approx((0.9, 0.8, 5))
    assert "single slice" in scan.notes[0]


def test_positions_win_over_a_spacing_that_differs(tmp_path):
    scan = read_scan(dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE, SpacingBetweenSlices=6)))
    assert scan.spacing_mm[2] == pytest.approx(5)
    assert "SpacingBetweenSlices is 6 mm" in scan.notes[0]


def moved(files: list, move: Callable) -> list:
    for k, data in enumerate(files):
        data.ImagePositionPatient = [f"{x:.6f}" for x in move(np.array(data.ImagePositionPatient, float), k)]
    return files


def test_gantry_tilt_is_refused(tmp_path):
    files = moved(dw.slices(numbers(), AFFINE), lambda p, k: p + np.array([0, 1.5 * k, 0]))
    refused(dw.write(tmp_path / "a", files), "sheared by 16.7 degrees")


def test_irregular_distances_are_refused(tmp_path):
    files = moved(dw.slices(numbers(), AFFINE), lambda p, k: p + np.array([0, 0, 1.3 * (k == 3)]))
    refused(dw.write(tmp_path / "a", files), "not in a regular stack")
    files = moved(dw.slices(numbers(), AFFINE), lambda p, k: p + np.array([2.0 * (k == 3), 0, 0]))
    refused(dw.write(tmp_path / "b", files), "shifted sideways")


def test_rounded_positions_are_regular(tmp_path):
    affine = turned("LPS", 0.25)
    files = moved(dw.slices(numbers(), affine), lambda p, k: p.round(2))
    assert_same(read_scan(dw.write(tmp_path / "a", files)), numbers(), affine, atol_mm=0.02)


@pytest.mark.parametrize(
    ("tag", "values", "shown"),
    [
        ("EchoTime", (12, 96), "echo times 12, 96"),
        ("InversionTime", (400, 2500), "inversion times 400, 2500"),
        ("TemporalPositionIdentifier", (1, 2), "time points 1, 2"),
        ("TriggerTime", (100, 200), "trigger times 100, 200"),
        ("AcquisitionNumber", (1, 2), "acquisitions 1, 2"),
        ("DiffusionBValue", (0.0, 1000.0), "b-values 0, 1000"),
        ("StudyDate", ("20200101", "20200102"), "each position has 2 slices"),
    ],
)
def test_several_volumes_in_one_series_are_refused(tmp_path, tag, values, shown):
    files = [f for value in values for f in dw.slices(numbers(), AFFINE, **{tag: value})]
    folder = dw.write(tmp_path / "a", files)
    line = refused(folder, shown)
    assert "holds 2 volumes" in line


def test_magnitude_is_taken_from_magnitude_and_phase(tmp_path):
    phase = dw.slices(numbers()[::-1], AFFINE, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    scan = read_scan(dw.write(tmp_path / "a", [*phase, *dw.slices(numbers(), AFFINE)]))
    assert_same(scan, numbers(), AFFINE)
    assert scan.notes == ("took 6 magnitude images, left phase images of the same series",)
    refused(dw.write(tmp_path / "b", phase), "holds phase images")


def test_a_slice_twice_is_refused_unless_it_is_a_copy(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    folder = dw.write(tmp_path / "a", files)
    shutil.copy(folder / "IM002", folder / "copy")
    scan = read_scan(folder)
    assert_same(scan, numbers(), AFFINE)
    assert scan.notes == ("ignored 1 files that are copies of others",)
    (folder / "copy").unlink()
    (again,) = dw.slices(numbers()[:, :, 2:3] + np.uint16(1), AFFINE)
    again.ImagePositionPatient = files[2].ImagePositionPatient
    dw.write(folder, [again], ["again"])
    refused(folder, "1 of 6 positions have more than one slice")
    again.SOPInstanceUID = files[2].SOPInstanceUID
    dw.write(folder, [again], ["again"])
    refused(folder, "the same instance", "with other pixels")


def test_a_mosaic_is_refused(tmp_path):
    files = dw.slices(numbers(), AFFINE, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    refused(dw.write(tmp_path / "a", files[:1]), "mosaic")


def test_a_localizer_is_refused(tmp_path):
    three = [dw.slices(numbers(), turned(code))[3] for code in ("LPS", "PSR", "LIP")]
    refused(dw.write(tmp_path / "a", three), "3 orientations")
    named = dw.slices(numbers(), AFFINE, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    refused(dw.write(tmp_path / "b", named), "localizer")


def test_slices_of_two_sizes_are_refused(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    dw.put(files[2], np.zeros((5, 5), "u2"))
    refused(dw.write(tmp_path / "a", files), "several sizes", "5 x 5 pixels")


@pytest.mark.parametrize(
    ("sop", "modality", "word"),
    [
        ("1.2.840.10008.5.1.4.1.1.7", "OT", "Secondary Capture"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "Segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "RT Structure Set"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "SR", "SR"),
        ("1.2.840.10008.5.1.4.1.1.2", "CT", "CT Image"),
        ("1.2.840.10008.5.1.4.1.1.4.2", "MR", "Spectroscopy"),
        ("1.2.840.10008.5.1.4.1.1.4.3", "MR", "Color"),
        ("1.2.3.4.5", "XX", "XX"),
    ],
)
def test_other_objects_are_refused_by_name(tmp_path, sop, modality, word):
    refused(dw.write(tmp_path / "a", [dw.blank(sop, Modality=modality)]), word, "not an MR image")


def test_colour_and_tables_are_refused(tmp_path):
    files = dw.slices(numbers(), AFFINE, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    refused(dw.write(tmp_path / "a", files), "colour")
    files = dw.slices(numbers(), AFFINE)
    for data in files:
        data.ModalityLUTSequence = [pydicom.Dataset()]
    refused(dw.write(tmp_path / "b", files), "look-up table")


def test_no_place_in_the_patient_is_refused(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    for data in files:
        del data.ImagePositionPatient
    refused(dw.write(tmp_path / "a", files), "no position")


def test_signed_values_and_scales_that_differ_from_slice_to_slice(tmp_path):
    voxels = (numbers("i2" and SHAPE, "i2") - 2000).astype("i2")
    files = dw.slices(voxels, AFFINE)
    slopes, intercepts = np.linspace(0.5, 3, 6), np.arange(6) * 10.0
    for data, slope, intercept in zip(files, slopes, intercepts, strict=True):
        data.RescaleSlope, data.RescaleIntercept = f"{slope:g}", f"{intercept:g}"
    scan = read_scan(dw.write(tmp_path / "a", files))
    assert_same(scan, (voxels * slopes + intercepts).astype(np.float32), AFFINE)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_are_not_the_images_are_masked(tmp_path, signed):
    """Twelve bits of sixteen, an old overlay in the rest."""
    voxels = (numbers() % 4096).astype("u2")
    expected = (voxels.astype("i4") - 4096 * (voxels >= 2048)) if signed else voxels
    files = dw.slices((voxels | 0x3000).astype("u2"), AFFINE, BitsStored=12, HighBit=11)
    for data in files:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, int(signed)
    assert_same(read_scan(dw.write(tmp_path / "a", files)), expected, AFFINE)


def test_eight_bits(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    voxels = (numbers() % 256).astype("u1")
    for k, data in enumerate(files):
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        plane = voxels[:, :, k].T.tobytes()
        data.PixelData = plane + b"\0" * (len(plane) % 2)
    assert_same(read_scan(dw.write(tmp_path / "a", files)), voxels, AFFINE)


def test_monochrome1_is_inverted_and_said(tmp_path):
    files = dw.slices(numbers(), AFFINE, PhotometricInterpretation="MONOCHROME1")
    scan = read_scan(dw.write(tmp_path / "a", files))
    assert_same(scan, numbers().max() - numbers(), AFFINE)
    assert "MONOCHROME1" in scan.notes[0]


def test_real_world_values_where_there_is_no_rescale(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    for data in files:
        item = pydicom.Dataset()
        item.RealWorldValueSlope, item.RealWorldValueIntercept = 0.25, 1.0
        data.RealWorldValueMappingSequence = [item]
    assert_same(read_scan(dw.write(tmp_path / "a", files)), numbers() * 0.25 + 1, AFFINE)


def test_philips_scales_each_slice_for_display_and_its_own_slope_undoes_it(tmp_path):
    truth = numbers().astype(float)
    files = dw.slices(numbers(), AFFINE)
    for k, data in enumerate(files):
        display = 1 + k / 5  # display value = stored * display; true value = display value / (display * own)
        data.RescaleSlope, data.RescaleIntercept = f"{display:g}", "0"
        private(0x2005, "Philips MR Imaging DD 001", 0x0E, "FL", 0.5)(data)
    scan = read_scan(dw.write(tmp_path / "a", files))
    np.testing.assert_allclose(upright(scan.voxels, scan.affine)[0], upright(truth * 2, AFFINE)[0], rtol=1e-6)
    for data in files:
        data.RescaleSlope = "2"
    assert_same(read_scan(dw.write(tmp_path / "b", files)), numbers() * 2, AFFINE)  # DICOM's own scale, unchanged


@pytest.mark.parametrize(
    "syntax",
    ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless"],
)
def test_compressed_pixels(tmp_path, syntax):
    uid = getattr(pydicom.uid, syntax)
    files = dw.slices(np.tile(numbers(), (8, 8, 1)), AFFINE)  # OpenJPEG wants more than a few pixels
    for data in files:
        try:
            data.compress(uid)
        except (RuntimeError, NotImplementedError) as error:
            pytest.skip(f"nothing here compresses it: {error}")
    assert_same(read_scan(dw.write(tmp_path / "a", files)), np.tile(numbers(), (8, 8, 1)), AFFINE)


def test_a_missing_decompressor_is_one_line_with_what_to_install(tmp_path, monkeypatch):
    files = dw.slices(numbers(), AFFINE)
    for data in files:
        data.compress(pydicom.uid.RLELossless)
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    folder = dw.write(tmp_path / "a", files)
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", False)
    with pytest.raises(BackendError, match=r'compressed as JPEG Lossless.*pip install "uadtk\[dicom\]"') as caught:
        read_scan(folder)
    assert caught.value.stops_run


def test_without_pydicom_it_is_one_line_with_what_to_install(tmp_path, monkeypatch):
    folder = dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for path in (folder, folder / "IM001", packed(folder, tmp_path / "a.zip")):
        with pytest.raises(BackendError, match=r'DICOM.*pip install "uadtk\[dicom\]"'):
            read_scan(path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_file_cut_short_is_refused(tmp_path, share):
    folder = dw.write(tmp_path / "a", dw.slices(np.tile(numbers(), (8, 8, 1)), AFFINE))
    path = folder / "IM003"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(folder, "IM003")


def test_pydicom_says_nothing_on_its_own(tmp_path):
    files = dw.slices(numbers(), AFFINE)
    for data in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.add_new("SeriesDescription", "LO", "flair " + "x" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = dw.write(tmp_path / "a", files)
    assert_same(read_scan(folder), numbers(), AFFINE)  # warnings are errors here


def packaged() -> list[Path]:
    """The MR images that pydicom's packages carry, one file each."""
    folders = [Path(pydicom.data.__file__).parent / "test_files"]
    try:
        import data_store
    except ImportError:
        pass
    else:
        folders.append(Path(data_store.__file__).parent / "data")
    found = []
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.is_file() and p.suffix in ("", ".dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if pydicom.dcmread(path, stop_before_pixels=True).get("Modality") == "MR":
                    found.append(path)
            except Exception:
                continue
    return found


REFUSED_PACKAGED = {
    **dict.fromkeys(("MR_truncated.dcm",), "cut short"),
    **dict.fromkeys(("4950", "4981", "5011", "6273", "6605", "6935"), "2 of 3 slices are missing"),
}


@pytest.mark.parametrize("path", packaged(), ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_mr_image_that_pydicom_carries(tmp_path, path):
    alone = Path(shutil.copy(path, tmp_path))
    if path.name.startswith("emri_small"):  # frames without a place: ITK invents one, x and y reversed
        refused(alone, "place")
    elif path.name in REFUSED_PACKAGED:
        refused(alone, REFUSED_PACKAGED[path.name])
    else:
        scan, (voxels, affine) = read_scan(alone), by_itk(alone)
        np.testing.assert_array_equal(scan.voxels, voxels.astype(np.float32))
        np.testing.assert_allclose(scan.affine[:, [0, 1, 3]], affine[:, [0, 1, 3]], atol=1e-4)
        step = scan.affine[:3, 2]
        np.testing.assert_allclose(
            step / np.linalg.norm(step), affine[:3, 2] / np.linalg.norm(affine[:3, 2]), atol=1e-6
        )


def test_series_that_pydicom_carries():
    test_files = Path(pydicom.data.__file__).parent / "test_files/dicomdirtests"
    refused(test_files / "98892003/MR700", "7 orientations")
    refused(test_files / "98892003/MR2", "none of 3 series is a FLAIR")
    refused(test_files / "DICOMDIR", "none of 14 series is a FLAIR")
    refused(test_files / "77654033/CT2", "CT Image")


def test_shared_real_files(real_files):
    folder = real_files / "dicom"
    scan = read_scan(folder / "enhanced")
    assert scan.shape == (86, 86, 63)
    assert_same(scan, *by_itk(folder / "enhanced/0063.dcm"))
    refused(folder / "classic", "49 of 63 slices are missing", "from -68.2 to -39.6 mm")
    refused(folder / "classic/007.dcm", "49 of 63 slices are missing")
    refused(folder / "mosaic", "mosaic")
    refused(folder / "mosaic/0001.dcm", "mosaic")


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR", "LIA"])
def test_as_dcm2niix_reads_it(tmp_path, code):
    affine = turned(code, 0.3)
    folder = dw.write(tmp_path / "a", dw.slices(numbers(), affine))
    out = tmp_path / "nifti"
    out.mkdir()
    subprocess.run(["dcm2niix", "-z", "n", "-f", "x", "-o", out, folder], check=True, capture_output=True)
    image = nib.load(out / "x.nii")
    assert_same(read_scan(folder), image.get_fdata(dtype=np.float32), image.affine, atol_mm=1e-3)


@pytest.mark.parametrize("code", ["LPS", "PSR", "LIA"])
def test_a_mask_made_on_a_conversion_fits(tmp_path, code):
    """dcm2niix turns rows around; the voxels are the same ones."""
    affine = turned(code, 0.3)
    scan = read_scan(dw.write(tmp_path / "a", dw.slices(numbers(), affine)))
    wanted = np.zeros(SHAPE, bool)
    wanted[2:5, 1:3, 4] = True
    for name, other in (("RAS", "RAS"), ("LIP", "LIP"), ("as it is", code)):
        to = nib.orientations.axcodes2ornt(other)
        image = nib.Nifti1Image(wanted.astype("u1"), affine)
        image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), to))
        nib.save(image, tmp_path / f"{name}.nii")
        assert_same(read_mask(tmp_path / f"{name}.nii", scan), wanted, affine)
    moved = affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(wanted[::-1].astype("u1"), moved), tmp_path / "moved.nii")
    with pytest.raises(DataError, match="grid"):
        read_mask(tmp_path / "moved.nii", scan)


def changed(folder: Path, old: bytes, new: bytes) -> Path:
    for path in folder.iterdir():
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
    return folder


def test_values_that_dicom_does_not_allow(tmp_path):
    folder = dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE, EchoTime="92"))
    changed(folder, b"\x18\0\x81\0DS\2\x0092", b"\x18\0\x81\0DS\2\0xy")
    assert_same(read_scan(folder), numbers(), AFFINE)  # nothing rests on it
    changed(folder, b"\x28\0\x30\0DS", b"\x28\0\x30\0XX")
    refused(folder, "damaged DICOM header", "Unknown Value Representation")


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_give_a_volume_or_one_line(tmp_path_factory, changes):
    folder = dw.write(tmp_path_factory.mktemp("damaged"), dw.slices(numbers()[:3, :3, :2], AFFINE))
    data = bytearray((folder / "IM001").read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    (folder / "IM001").write_bytes(data)
    for path in (folder, folder / "IM001", folder / "IM002"):
        try:
            read_scan(path)
        except UadtkError as error:
            refusal = error.one_line()
            assert "\n" not in refusal


def test_a_cohort_has_a_row_per_study_and_no_name_of_a_patient(tmp_path):
    study(tmp_path / "all" / "visit one" / "study")
    second = tmp_path / "all" / "DOE^JANE" / "flair"
    dw.write(second, dw.slices(numbers(), AFFINE, StudyInstanceUID="1.2.3.2", SeriesInstanceUID="1.2.3.2.1"))
    third = {"StudyInstanceUID": "1.2.3.3", "PatientID": "Doe, Jane 1980", "SeriesInstanceUID": "1.2.3.3.1"}
    dw.write(tmp_path / "all" / "three", dw.slices(numbers(), AFFINE, **third))
    fourth = {"StudyInstanceUID": "1.2.3.4", "PatientID": "", "SeriesInstanceUID": "1.2.3.4.1"}
    dw.write(tmp_path / "all" / "four", dw.slices(numbers(), AFFINE, **fourth))
    cohort = read_cohort(tmp_path / "all")
    assert len(cohort) == 4
    names = output_names(cohort)
    assert sorted(names)[:2] == ["P-0815", "P-0815_2"]
    assert all("doe" not in name.lower() and "jane" not in name.lower() for name in names)
    assert len(set(names)) == 4
    assert [len(row.subject) > 0 for row in cohort] == [True] * 4
    for row in cohort:
        assert read_scan(row.image).shape == SHAPE
    assert cohort.digest() == read_cohort(tmp_path / "all").digest()
    (row,) = read_cohort(packed(second, tmp_path / "x.zip"))
    assert row.subject == "P-0815"
    (row,) = read_cohort(second / "IM001")
    assert row.subject == "P-0815"


def test_all_files_of_a_series_are_one_scan(tmp_path):
    """uadtk segment series/*"""
    folder = dw.write(tmp_path / "a", dw.slices(numbers(), AFFINE))
    other = dw.slices(numbers(), AFFINE, SeriesInstanceUID="1.2.3.8", SeriesDescription="flair sag")
    dw.write(folder, other, [f"other{i}" for i in range(len(other))])
    cohort = read_cohort(sorted(folder.iterdir()))
    assert [row.image.name for row in cohort] == ["IM001", "other0"]
    frames = [dw.enhanced(numbers(), AFFINE) for _ in range(2)]  # two volumes, although one series
    assert len(read_cohort(sorted(dw.write(tmp_path / "b", frames).iterdir()))) == 2


def test_a_dicomdir_of_several_studies_is_a_cohort(tmp_path):
    for n in (1, 2):
        tags = {"StudyInstanceUID": f"1.2.3.{n}", "SeriesInstanceUID": f"1.2.3.{n}.1", "PatientID": f"P{n}"}
        dw.write(tmp_path / f"PAT{n}", dw.slices(numbers(), AFFINE, **tags))
    dw.write(tmp_path, [dw.blank("1.2.840.10008.1.3.10")], ["DICOMDIR"])
    for source in (tmp_path / "DICOMDIR", tmp_path):
        assert sorted(row.subject for row in read_cohort(source)) == ["P1", "P2"]
        assert {row.image.name for row in read_cohort(source)} == {"PAT1", "PAT2"}


def test_studies_mixed_in_one_folder_are_told_apart(tmp_path):
    for n in (1, 2):
        tags = {"StudyInstanceUID": f"1.2.3.{n}", "SeriesInstanceUID": f"1.2.3.{n}.1", "PatientID": f"P{n}"}
        files = dw.slices(numbers() + np.uint16(n), AFFINE, **tags)
        dw.write(tmp_path / "flat", files, [f"{n}-{i}" for i in range(len(files))])
    cohort = read_cohort(tmp_path / "flat")
    assert [row.subject for row in cohort] == ["P1", "P2"]
    for n, row in enumerate(cohort, 1):
        assert_same(read_scan(row.image), numbers() + n, AFFINE)
    with pytest.raises(DataError, match="holds 2 studies"):
        read_cohort(packed(tmp_path / "flat", tmp_path / "two.zip"))


def test_nifti_beside_dicom_stays_what_is_read(tmp_path):
    dw.write(tmp_path, dw.slices(numbers(), AFFINE))
    nib.save(nib.Nifti1Image(numbers().astype("i2"), AFFINE), tmp_path / "a.nii.gz")
    assert [row.image.name for row in read_cohort(tmp_path)] == ["a.nii.gz"]


@pytest.mark.parametrize(
    ("number", "name", "kept"),
    [
        ("P-0815", "Doe^Jane", True),
        ("TCGA-06-0119", "TCGA-06-0119", True),
        ("anonymous", "anonymous", True),
        ("DOE_JANE", "Doe^Jane", False),
        ("Doe1980", "DOE^JANE^^Dr", False),
        ("", "Doe^Jane", False),
        ("M\u00fcller 3", "M\u00fcller^Eva", False),
    ],
)
def test_subjects(number, name, kept):
    from uadtk.io.readers.dicom_files import Header, Place

    tags = pydicom.Dataset()
    tags.PatientID, tags.PatientName, tags.StudyInstanceUID = number, name, "1.2.3"
    subject = subject_of(Header(Place(Path("x")), tags))
    assert (subject == number) == kept
    assert subject
