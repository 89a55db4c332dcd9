"""DICOM results read back by pydicom, highdicom and SimpleITK: the NIfTI mask, on the slices of the scan."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from tests.report.conftest import point
from uadtk.core.errors import BackendError, DataError, UadtkError
from uadtk.core.finding import Finding, Scoring, Segmentation
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.io import dicom_out
from uadtk.io.dicom_out import kinds_of, refuse_unwritable, write_dicom
from uadtk.io.lookup import colour
from uadtk.io.read import read_scan
from uadtk.io.write import write_nifti

pydicom = pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
hd = pytest.importorskip("highdicom", reason="needs pip install uadtk[dicom]")
from tests import dicom_writer as dw  # noqa: E402

SHAPE = (11, 9, 8)
TAGS = {
    "FrameOfReferenceUID": "1.2.9",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "AccessionNumber": "A7",
    "StudyID": "S1",
    "StudyDescription": "MR head",
}
AXIAL = np.array([[-0.9, 0, 0, 80], [0, -0.8, 0, 60], [0, 0, 5.0, -30], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 1.2, -60], [-0.9, 0, 0, 80], [0, -0.9, 0, 100], [0, 0, 0, 1]])
CORONAL = np.array([[-0.9, 0, 0, 80], [0, 0, -1.1, 60], [0, -0.9, 0, 90.0], [0, 0, 0, 1]])
OBLIQUE = from_matvec(euler2mat(0.31, -0.17, 0.23) @ np.diag([-0.9, -0.8, 3.3]), [71.3, 55.1, -32.7])
PLANES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}

KINDS = kinds_of(seg=False, sr=True, sc=True)
PICTURE = np.random.default_rng(5).integers(0, 256, (30, 40, 3)).astype(np.uint8)
Boxes = Sequence[tuple[slice, slice, slice]]
TWO: Boxes = (np.s_[2:6, 1:4, 1:5], np.s_[8:10, 6:8, 6:8])


def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, SHAPE).astype("u2")


def series(folder: Path, affine: np.ndarray = AXIAL, **tags: Any) -> Path:
    warnings.simplefilter("ignore")  # pydicom's, of values that the standard does not allow
    return dw.write(folder, dw.slices(stored(), affine, **{**TAGS, **tags}))


def multiframe(folder: Path, affine: np.ndarray = AXIAL, **tags: Any) -> Path:
    """Its frames are in no order."""
    order = np.random.default_rng(1).permutation(SHAPE[2]).tolist()
    return dw.write(folder, [dw.enhanced(stored(), affine, order=order, **{**TAGS, **tags})])


def concatenated(folder: Path, affine: np.ndarray = AXIAL) -> Path:
    """Two multi-frame files of one volume, and frames of phase among those of magnitude."""
    order = np.random.default_rng(2).permutation(SHAPE[2])
    parts = [dw.enhanced(stored(), affine, np.repeat(some, 2).tolist(), **TAGS) for some in (order[:3], order[3:])]
    for part in parts:
        part.ConcatenationUID = "1.2.3.9"
        for number, frame in enumerate(part.PerFrameFunctionalGroupsSequence):
            kind = pydicom.Dataset()
            kind.ComplexImageComponent = ("PHASE", "MAGNITUDE")[number % 2]
            frame.MRImageFrameTypeSequence = [kind]
    return dw.write(folder, parts)


def found_in(scan: Scan, boxes: Boxes = TWO) -> Segmentation:
    labels = np.zeros(scan.shape, np.int32)
    for label, box in enumerate(boxes, 1):
        labels[box] = label
    volumes = [np.count_nonzero(labels == label) * scan.voxel_ml for label in range(1, len(boxes) + 1)]
    findings = [Finding(i, ml, (0, 0, 0), 1 / i, 0.5 / i, (0, 0, 0)) for i, ml in enumerate(volumes, 1)]
    brain, score = Mask(np.ones(scan.shape, bool), scan.affine), ScoreMap(np.ones(scan.shape, np.float32), scan.affine)
    record = {"options": {"model": {"name": "implant"}}, "checkpoint": {"digest": "ab" * 32}}
    mask, components = Mask(labels > 0, scan.affine), Volume(labels, scan.affine)
    return Segmentation(Scoring(scan, brain, "given", score, {}), point(0.5), mask, components, tuple(findings), record)


def written(result: Segmentation, folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {f"dicom_{kind}": folder / f"a_{kind}.dcm" for kind in KINDS}
    write_dicom(result, KINDS, paths, PICTURE)
    return {key: path for key, path in paths.items() if path.exists()}


def voxels_of(seg: Any, scan: Scan) -> np.ndarray:
    """Label of each voxel of the scan, found by the place of each frame in the patient alone."""
    lps = np.diag([-1.0, -1, 1, 1]) @ scan.affine
    labels = np.zeros(scan.shape, int)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for pixels, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        at = np.linalg.inv(lps) @ (*groups.PlanePositionSequence[0].ImagePositionPatient, 1.0)
        np.testing.assert_allclose(at[:2], 0, atol=1e-3)
        k = round(at[2])
        assert at[2] == pytest.approx(k, abs=1e-3)
        shared = seg.SharedFunctionalGroupsSequence[0]
        own = groups if "SegmentIdentificationSequence" in groups else shared
        labels[:, :, k][pixels.T > 0] = own.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return labels


def all_items(dataset: Any) -> list[Any]:
    found = []
    for item in dataset.get("ContentSequence", []):
        found += [item, *all_items(item)]
    return found


def text_of(report: Any) -> str:
    return " ".join(str(item.TextValue) for item in all_items(report) if "TextValue" in item)


def groups_of(report: Any) -> list[Any]:
    """The measurement groups: of all findings, and of each."""
    named = [item for item in all_items(report) if "ConceptNameCodeSequence" in item]
    return [item for item in named if item.ConceptNameCodeSequence[0].CodeValue == "125007"]


def numbers_of(group: Any) -> dict[str, float]:
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in all_items(group)
        if item.ValueType == "NUM"
    }


@pytest.mark.parametrize(
    ("lobe", "site"),
    [
        ("left frontal", ("83251001", "7771000")),
        ("right insula", ("36169008", "24028007")),
        ("midline cerebellum", ("113305005", "")),
        ("brainstem", ("119238007", "")),
        ("left cingulate", ("12738006", "7771000")),  # the dictionary has no code: the brain
        ("", ("12738006", "")),
    ],
)
def test_the_report_codes_the_lobe_and_its_side(lobe: str, site: tuple[str, str], tmp_path: Path) -> None:
    result = found_in(read_scan(series(tmp_path / "in", OBLIQUE)))
    first, second = result.findings
    result = replace(result, findings=(replace(first, lobe=lobe), second))
    whole, *own = groups_of(pydicom.dcmread(written(result, tmp_path / "out")["dicom_sr"]))
    assert [sites_of(group) for group in (whole, *own)] == [[("12738006", "")], [site], [("12738006", "")]]


def sites_of(group: Any) -> list[tuple[str, str]]:
    """Code of each finding site, and of its laterality."""
    sites = [item for item in all_items(group) if item.ValueType == "CODE" and item.get("ConceptNameCodeSequence")]
    sites = [item for item in sites if item.ConceptNameCodeSequence[0].CodeMeaning == "Finding Site"]
    sides = [[one.ConceptCodeSequence[0].CodeValue for one in item.get("ContentSequence", [])] for item in sites]
    codes = [item.ConceptCodeSequence[0].CodeValue for item in sites]
    return [(code, side[0] if side else "") for code, side in zip(codes, sides, strict=True)]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("make", [series, multiframe, concatenated])
def test_the_segments_are_the_nifti_mask_on_the_slices_of_the_scan(make, plane, tmp_path):
    scan = read_scan(make(tmp_path / "in", PLANES[plane]))
    result = found_in(scan)
    seg = pydicom.dcmread(written(result, tmp_path / "out")["dicom_seg"])
    write_nifti(tmp_path / "mask.nii.gz", result.mask)
    labels = voxels_of(seg, scan)
    np.testing.assert_array_equal(labels, result.components.voxels)
    np.testing.assert_array_equal(labels > 0, nib.load(tmp_path / "mask.nii.gz").get_fdata() > 0)
    assert seg.FrameOfReferenceUID == "1.2.9"
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [*measures.PixelSpacing, measures.SpacingBetweenSlices] == pytest.approx(
        [scan.spacing_mm[1], scan.spacing_mm[0], scan.spacing_mm[2]], abs=1e-6
    )


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("make", [series, multiframe, concatenated])
def test_each_frame_names_the_image_it_lies_on(make, plane, tmp_path):
    folder = make(tmp_path / "in", PLANES[plane])
    seg = pydicom.dcmread(written(found_in(read_scan(folder)), tmp_path / "out")["dicom_seg"])
    images = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, folder.iterdir())}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        image = images[source.ReferencedSOPInstanceUID]
        assert source.ReferencedSOPClassUID == image.SOPClassUID
        if "PerFrameFunctionalGroupsSequence" in image:
            frame = image.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1]
            if make is concatenated:
                assert frame.MRImageFrameTypeSequence[0].ComplexImageComponent == "MAGNITUDE"
            image = frame.PlanePositionSequence[0]
        np.testing.assert_allclose(
            image.ImagePositionPatient, groups.PlanePositionSequence[0].ImagePositionPatient, atol=1e-6
        )
    (one,) = seg.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in one.ReferencedInstanceSequence} == set(images)


@pytest.mark.parametrize("make", [series, multiframe])
def test_frames_are_in_the_order_of_the_slices(make, tmp_path):
    scan = read_scan(make(tmp_path / "in", OBLIQUE))
    result = found_in(scan)
    seg = pydicom.dcmread(written(result, tmp_path / "out")["dicom_seg"])
    labels = result.components.zyx
    frames = [plane == label for label in (1, 2) for plane in labels if (plane == label).any()]
    np.testing.assert_array_equal(seg.pixel_array, np.array(frames))
    contents = [groups.FrameContentSequence[0] for groups in seg.PerFrameFunctionalGroupsSequence]
    index = [list(content.DimensionIndexValues) for content in contents]
    assert index == sorted(index)


@pytest.mark.parametrize("plane", PLANES)
def test_highdicom_reads_the_mask_by_source_image(plane, tmp_path):
    scan = read_scan(series(tmp_path / "in", PLANES[plane]))
    result = found_in(scan)
    seg = hd.seg.segread(written(result, tmp_path / "out")["dicom_seg"])
    uids = [one.instance for one in scan.origin.slices]
    labels = seg.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(labels.transpose(2, 1, 0), result.components.voxels)


@pytest.mark.parametrize("plane", PLANES)
def test_simpleitk_reads_the_only_segment_at_its_place(plane, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    scan = read_scan(series(tmp_path / "in", PLANES[plane]))
    result = found_in(scan, [np.s_[2:6, 1:4, :]])  # in all slices: SimpleITK takes frames for one volume
    image = sitk.ReadImage(str(written(result, tmp_path / "out")["dicom_seg"]))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ affine, scan.affine, atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T > 0, result.mask.voxels)


def test_patient_study_and_codes(tmp_path):
    folder = series(tmp_path / "in")
    paths = written(found_in(read_scan(folder)), tmp_path / "out")
    source = pydicom.dcmread(next(folder.iterdir()))
    for path in paths.values():
        made = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "StudyInstanceUID", *(set(TAGS) - {"FrameOfReferenceUID"})):
            assert made.get(name) == source.get(name), name
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert "research use only" in made.SeriesDescription
        assert (made.ContentDate, made.ContentTime) == ("20200102", "101112")
    seg = pydicom.dcmread(paths["dicom_seg"])
    assert seg.ContentDescription == "For research use only. Not a medical device."
    one = seg.SegmentSequence[0]
    assert one.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert one.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    assert one.AnatomicRegionSequence[0].CodeValue == "12738006"
    assert one.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "uadtk implant"
    for segment in seg.SegmentSequence:  # the colours of the lookup tables
        shown = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(shown, colour(segment.SegmentNumber), atol=2)


@pytest.mark.parametrize("make", [series, multiframe])
def test_the_report_measures_each_segment(make, tmp_path):
    folder = make(tmp_path / "in")
    result = found_in(read_scan(folder))
    paths = written(result, tmp_path / "out")
    assert len(hd.sr.srread(paths["dicom_sr"]).content.get_volumetric_roi_measurement_groups()) == 2
    report, seg = pydicom.dcmread(paths["dicom_sr"]), pydicom.dcmread(paths["dicom_seg"])
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert "For research use only" in text_of(report)
    whole, *groups = groups_of(report)
    assert numbers_of(whole)["Number of lesions (observable entity)"] == 2
    images = {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.iterdir()}
    for finding, group, segment in zip(result.findings, groups, seg.SegmentSequence, strict=True):
        numbers = numbers_of(group)
        assert numbers["Volume"] == pytest.approx(finding.volume_ml, rel=1e-6)
        assert numbers["Anomaly score"] == pytest.approx(finding.peak, rel=1e-6)
        refers = [item.ReferencedSOPSequence[0] for item in all_items(group) if item.ValueType == "IMAGE"]
        assert refers[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert refers[0].ReferencedSegmentNumber == finding.label
        assert {refer.ReferencedSOPInstanceUID for refer in refers[1:]} <= images
        slices = np.unique(np.nonzero(result.components.voxels == finding.label)[2])
        frames = [np.size(refer.get("ReferencedFrameNumber", 1)) for refer in refers[1:]]
        assert sum(frames) == len(slices)
        uid = next(item.UID for item in all_items(group) if item.ValueType == "UIDREF")
        assert uid == segment.TrackingUID


@pytest.mark.parametrize("make", [series, multiframe])
def test_the_picture_belongs_to_the_study_and_is_stored_as_it_is(make, tmp_path):
    scan = read_scan(make(tmp_path / "in"))
    paths = written(found_in(scan), tmp_path / "out")
    made, seg = pydicom.dcmread(paths["dicom_sc"]), pydicom.dcmread(paths["dicom_seg"])
    np.testing.assert_array_equal(made.pixel_array, PICTURE)
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert made[name] == seg[name], name
    assert (made.PatientOrientation, made.BurnedInAnnotation) == (["L", "P"], "NO")
    assert "For research use only" in made.ImageComments
    assert len({one.SeriesInstanceUID for one in map(pydicom.dcmread, paths.values())}) == 3
    assert made.DateOfSecondaryCapture == seg.ContentDate
    assert "SOPInstanceUID" not in scan.origin.header or made.SOPInstanceUID != scan.origin.header.SOPInstanceUID


def test_another_picture_has_another_uid(tmp_path):
    result = found_in(read_scan(series(tmp_path / "in")))
    for name, picture in (("one", PICTURE), ("same", PICTURE.copy()), ("other", 255 - PICTURE)):
        write_dicom(result, ("sc",), {"dicom_sc": tmp_path / name}, picture)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert pydicom.dcmread(tmp_path / "one").SOPInstanceUID != pydicom.dcmread(tmp_path / "other").SOPInstanceUID
    assert one != other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "one", "other", "same"]


def test_without_findings_there_is_a_report_and_no_segmentation(tmp_path):
    paths = written(found_in(read_scan(series(tmp_path / "in")), []), tmp_path / "out")
    assert set(paths) == {"dicom_sr", "dicom_sc"}
    report = pydicom.dcmread(paths["dicom_sr"])
    assert "No findings." in text_of(report)
    assert numbers_of(report) == {"Number of lesions (observable entity)": 0.0, "Volume": 0.0}


@pytest.mark.parametrize("count", [6, 7])
def test_of_many_findings_the_smallest_share_the_last_segment(count, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_out, "MOST_SEGMENTS", 6)
    scan = read_scan(series(tmp_path / "in"))
    result = found_in(scan, [np.s_[i : i + 1, 2:4, 1:4] for i in range(count)])
    paths = written(result, tmp_path / "out")
    seg = pydicom.dcmread(paths["dicom_seg"])
    np.testing.assert_array_equal(voxels_of(seg, scan), np.minimum(result.components.voxels, 6))
    assert len(seg.SegmentSequence) == 6
    assert seg.SegmentSequence[5].SegmentLabel == ("Finding 6" if count == 6 else "Findings 6 to 7")
    *_, last = groups_of(pydicom.dcmread(paths["dicom_sr"]))
    assert numbers_of(last)["Volume"] == pytest.approx(sum(f.volume_ml for f in result.findings[5:]), rel=1e-6)
    assert numbers_of(last)["Anomaly score"] == pytest.approx(1 / 6, rel=1e-6)


@pytest.mark.parametrize("make", [series, multiframe])
def test_the_same_result_has_the_same_bytes_and_another_one_other_uids(make, tmp_path):
    scan = read_scan(make(tmp_path / "in"))
    one, again = written(found_in(scan), tmp_path / "a"), written(found_in(scan), tmp_path / "b")
    other = written(found_in(scan, TWO[:1]), tmp_path / "c")
    for key, path in one.items():
        assert path.read_bytes() == again[key].read_bytes()
        first, second = pydicom.dcmread(path), pydicom.dcmread(other[key])
        for name in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert first[name].value != second[name].value
    assert pydicom.dcmread(one["dicom_seg"]).SOPInstanceUID != pydicom.dcmread(one["dicom_sr"]).SOPInstanceUID


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 6", "Doe^Jane"),  # found in files, and none of DICOM's terms
        ("", "Doe^Jane"),
    ],
)
def test_names_in_any_character_set(charset, name, tmp_path):
    folder = series(tmp_path / "in", SpecificCharacterSet=charset, PatientName=name)
    for path in written(found_in(read_scan(folder)), tmp_path / "out").values():
        assert str(pydicom.dcmread(path).PatientName) == name


def test_the_spacing_is_that_of_the_positions_whatever_the_file_says(tmp_path):
    """Some old files give the gap between slices as SpacingBetweenSlices."""
    scan = read_scan(series(tmp_path / "in", SpacingBetweenSlices="5.5"))
    seg = pydicom.dcmread(written(found_in(scan), tmp_path / "out")["dicom_seg"])
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 5


def test_lossy_compression_of_the_source_is_passed_on(tmp_path):
    scan = read_scan(series(tmp_path / "in", LossyImageCompression="01", LossyImageCompressionRatio="12"))
    assert pydicom.dcmread(written(found_in(scan), tmp_path / "out")["dicom_seg"]).LossyImageCompression == "01"


def test_headers_that_lack_what_may_be_blank(tmp_path):
    """As de-identified ones do."""
    warnings.simplefilter("ignore")
    files = dw.slices(stored(), AXIAL, FrameOfReferenceUID="1.2.9", PatientSex="unknown")
    for data in files:
        del data.PatientName, data.PatientID
    scan = read_scan(dw.write(tmp_path / "in", files))
    for path in written(found_in(scan), tmp_path / "out").values():
        made = pydicom.dcmread(path)
        assert (made.PatientName, made.PatientID, made.PatientSex, made.ContentDate) == ("", "", "", "19000101")


def test_a_single_slice(tmp_path):
    scan = read_scan(dw.write(tmp_path / "in", dw.slices(stored(), OBLIQUE, **TAGS)[3:4]))
    result = found_in(scan, [np.s_[2:6, 1:4, :]])
    seg = pydicom.dcmread(written(result, tmp_path / "out")["dicom_seg"])
    np.testing.assert_array_equal(voxels_of(seg, scan), result.components.voxels)


def test_a_study_with_its_results_is_read_as_before(tmp_path):
    study = series(tmp_path / "in")
    before = read_scan(study)
    written(found_in(before), study)
    after = read_scan(study)
    np.testing.assert_array_equal(after.voxels, before.voxels)
    assert "Segmentation" in after.notes[0] or "SEG" in after.notes[0]


def test_a_long_name_of_a_model_is_cut(tmp_path):
    result = found_in(read_scan(series(tmp_path / "in")))
    result.provenance["options"]["model"]["name"] = "größer-" * 20
    for path in written(result, tmp_path / "out").values():
        made = pydicom.dcmread(path)
        assert made.ManufacturerModelName.startswith("uadtk gr")
        assert max(len(made.ManufacturerModelName), len(made.SeriesDescription)) <= 64


def without(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        files = dw.slices(stored(), AXIAL, **TAGS)
        for data in files:
            delattr(data, name)
        return dw.write(folder, files)

    return make


def in_two_spaces(folder: Path) -> Path:
    files = dw.slices(stored(), AXIAL, **TAGS)
    files[3].FrameOfReferenceUID = "1.2.10"
    return dw.write(folder, files)


def not_dicom(folder: Path) -> Path:
    folder.mkdir()
    nib.save(nib.Nifti1Image(stored(), AXIAL), folder / "a.nii.gz")
    return folder / "a.nii.gz"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (without("FrameOfReferenceUID"), "no FrameOfReferenceUID"),
        (without("StudyInstanceUID"), "no StudyInstanceUID"),
        (without("SOPInstanceUID"), "no SOPInstanceUID"),
        (without("SOPClassUID"), "no SOPClassUID"),
        (in_two_spaces, "2 frames of reference"),
        (not_dicom, "is not DICOM"),
        (lambda folder: series(folder, StudyDate="2020-13-45"), "by its headers"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_reason(make, what, tmp_path):
    scan = read_scan(make(tmp_path / "in"))
    with pytest.raises(DataError, match=what) as caught:
        refuse_unwritable(scan, ("seg",))
    assert "\n" not in caught.value.one_line()
    assert "--dicom-seg" in caught.value.fix
    refuse_unwritable(scan, ())


def test_without_highdicom_the_error_names_the_extra(tmp_path, monkeypatch):
    scan = read_scan(series(tmp_path / "in"))
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(BackendError, match=r'pip install "uadtk\[dicom\]"'):
        refuse_unwritable(scan, ("seg",))


def test_a_volume_does_not_show_whom_it_is_of(tmp_path):
    scan = read_scan(series(tmp_path / "in"))
    assert scan.origin.header.PatientName == "Doe^Jane"
    assert "Doe" not in repr(scan)


@pytest.mark.parametrize("make", [series, multiframe])
@pytest.mark.parametrize("boxes", [TWO, []])
def test_dciodvfy_finds_no_error(make, boxes, tmp_path):
    if not (tool := shutil.which("dciodvfy")):
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    for path in written(found_in(read_scan(make(tmp_path / "in")), boxes), tmp_path / "out").values():
        said = subprocess.run([tool, path], capture_output=True, text=True, timeout=60)
        assert not [line for line in said.stderr.splitlines() if line.startswith("Error")], said.stderr


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("make", [series, multiframe])
def test_dcmqi_reads_the_mask(make, plane, tmp_path):
    """The library by which 3D Slicer reads segmentations; its own reading of the geometry."""
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed: pip install dcmqi")
    tool = Path(dcmqi.__file__).parent / "bin/segimage2itkimage"
    scan = read_scan(make(tmp_path / "in", PLANES[plane]))
    result = found_in(scan)
    segments = written(result, tmp_path / "out")["dicom_seg"]
    options = ("--outputType", "nii", "--mergeSegments", "--outputDirectory", tmp_path)
    subprocess.run([tool, "--inputDICOM", segments, *options], check=True, capture_output=True, timeout=60)
    image = nib.load(tmp_path / "1.nii.gz")
    theirs, ours = np.argwhere(image.get_fdata() > 0), np.argwhere(result.mask.voxels)
    in_mm = [nib.affines.apply_affine(affine, at) for affine, at in ((image.affine, theirs), (scan.affine, ours))]
    theirs_mm, ours_mm = ({tuple(place) for place in mm.round(2).tolist()} for mm in in_mm)
    assert theirs_mm == ours_mm


def test_real_files(real_files, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copyfile(real_files / "dicom/enhanced/0063.dcm", folder / "0063.dcm")
    try:
        scan = read_scan(folder)
        refuse_unwritable(scan, ("seg", "sr"))
    except UadtkError as error:
        pytest.skip(f"refused: {error.one_line()}")
    box = tuple(slice(n // 3, n // 2) for n in scan.shape)
    result = found_in(scan, [box])
    seg = pydicom.dcmread(written(result, tmp_path / "out")["dicom_seg"])
    np.testing.assert_array_equal(voxels_of(seg, scan), result.components.voxels)
