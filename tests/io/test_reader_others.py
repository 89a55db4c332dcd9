"""Formats of other programs, as their own libraries read them; what a format cannot say is said."""

from __future__ import annotations

import bz2
import gzip
import shutil
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.io.test_reader_dicom import assert_same, refused, turned
from uadtk.core.errors import BackendError, DataError, OutOfMemoryError
from uadtk.io.cohort import read_cohort
from uadtk.io.nifti import read_grid
from uadtk.io.read import read_scan

SHAPE = (9, 7, 6)
VOXELS = np.random.default_rng(1).integers(-500, 3000, SHAPE).astype("i2")
OBLIQUE = turned("PSR", 0.3)
CODES = ["RAS", "LPS", "PSR", "LIA"]


def zstd():
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return pytest.importorskip(name, reason="needs pip install uadtk[formats]")


def nifti(folder: Path) -> bytes:
    nib.save(nib.Nifti1Image(VOXELS, OBLIQUE), folder / "plain.nii")
    return (folder / "plain.nii").read_bytes()


def pack(kind: str, data: bytes) -> bytes:
    if kind == "zst":
        return bytes(zstd().compress(data))
    return gzip.compress(data) if kind == "gz" else bz2.compress(data)


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
@pytest.mark.parametrize("name", ["a.nii.{}", "no_suffix"])
def test_packed_nifti(tmp_path, kind, name):
    path = tmp_path / name.format(kind)
    path.write_bytes(pack(kind, nifti(tmp_path)))
    scan = read_scan(path)
    assert_same(scan, VOXELS, OBLIQUE)
    np.testing.assert_array_equal(read_grid(path).affine, scan.affine)
    if name != "no_suffix":
        (tmp_path / "plain.nii").unlink()
        (row,) = read_cohort(tmp_path)
        assert (row.image, row.subject) == (path, "a")
        assert_same(read_scan(path), nib.load(path).get_fdata(), nib.load(path).affine)


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_packed_nifti_cut_short(tmp_path, kind, keep):
    data = pack(kind, nifti(tmp_path))
    path = tmp_path / f"a.nii.{kind}"
    path.write_bytes(data[: int(keep * len(data))])
    refused(path, "cut short")


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
def test_packed_nifti_damaged(tmp_path, kind):
    data = bytearray(pack(kind, nifti(tmp_path)))
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    path = tmp_path / f"a.nii.{kind}"
    path.write_bytes(data)
    refused(path, {"gz": "gzip", "bz2": "bzip2", "zst": "zstd"}[kind], "damaged")


def test_several_streams_in_one_file(tmp_path):
    data = nifti(tmp_path)
    for kind in ("gz", "bz2", "zst"):
        path = tmp_path / f"a.nii.{kind}"
        path.write_bytes(pack(kind, data[:700]) + pack(kind, data[700:]))
        assert_same(read_scan(path), VOXELS, OBLIQUE)


def test_zstd_without_its_library(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.zst"
    path.write_bytes(pack("zst", nifti(tmp_path)))
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r'zstd.*pip install "uadtk\[formats\]"'):
        read_scan(path)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "A.MGZ"])
@pytest.mark.parametrize("code", CODES)
def test_mgh(tmp_path, name, code):
    affine = turned(code, 0.3).astype(np.float32)
    nib.save(nib.MGHImage(VOXELS, affine), tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    scan = read_scan(tmp_path / name)
    assert_same(scan, VOXELS, affine)
    assert scan.notes == ()


def test_mgh_that_does_not_place_the_patient(tmp_path):
    image = nib.MGHImage(VOXELS, np.eye(4))
    nib.save(image, tmp_path / "a.mgh")
    data = bytearray((tmp_path / "a.mgh").read_bytes())
    data[28:30] = bytes(2)  # goodRASFlag
    (tmp_path / "a.mgh").write_bytes(data)
    (note,) = read_scan(tmp_path / "a.mgh").notes
    assert "left and right" in note


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("half", ["hdr", "img"])
def test_analyze_pairs_say_that_left_is_unknown(tmp_path, half, gz):
    image = nib.AnalyzeImage(VOXELS, np.diag([-0.9, 0.8, 5.0, 1]))
    nib.save(image, tmp_path / f"a.img{gz}")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    scan = read_scan(tmp_path / f"a.{half}{gz}")
    loaded = nib.load(tmp_path / f"a.img{gz}")
    np.testing.assert_array_equal(scan.voxels, VOXELS)
    np.testing.assert_array_equal(scan.affine, loaded.affine)
    assert scan.spacing_mm == pytest.approx((0.9, 0.8, 5.0))
    (note,) = scan.notes
    assert "does not say which side is left" in note
    assert scan.facts == {"Orientation": "unknown"}


def test_analyze_with_a_mat_file_of_spm(tmp_path):
    nib.save(nib.Spm2AnalyzeImage(VOXELS, OBLIQUE), tmp_path / "a.img")
    assert (tmp_path / "a.mat").exists()
    scan = read_scan(tmp_path / "a.hdr")
    assert_same(scan, VOXELS, OBLIQUE)
    assert scan.notes == ()


def test_analyze_without_its_other_half(tmp_path):
    nib.save(nib.AnalyzeImage(VOXELS, np.eye(4)), tmp_path / "a.img")
    shutil.copy(tmp_path / "a.hdr", tmp_path / "b.hdr")
    refused(tmp_path / "b.hdr", "without its .img file")
    (tmp_path / "a.hdr").unlink()
    refused(tmp_path / "a.img", "a.hdr")


def itk_image(code: str, voxels: np.ndarray = VOXELS):
    sitk = pytest.importorskip("SimpleITK", reason="needs pip install uadtk[formats]")
    affine = np.diag([-1.0, -1, 1, 1]) @ turned(code, 0.3)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(voxels.T)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return sitk, image


@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("code", CODES)
def test_nrrd_and_metaimage(tmp_path, suffix, code):
    sitk, image = itk_image(code)
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image, str(path), useCompression=code == "RAS")
    scan = read_scan(path)
    assert_same(scan, VOXELS, turned(code, 0.3), atol_mm=1e-5)
    assert scan.notes == ()


def nrrd(path: Path, *fields: str) -> Path:
    head = ["NRRD0004", "type: short", "dimension: 3", "sizes: 9 7 6", "encoding: raw", "endian: little", *fields]
    path.write_bytes("\n".join(head).encode() + b"\n\n" + VOXELS.astype("<i2").tobytes(order="F"))
    return path


def test_nrrd_in_ras_is_not_mirrored(tmp_path):
    where = ("space directions: (0.9,0,0) (0,0.8,0) (0,0,5)", "space origin: (-40,31.5,12.25)")
    ras = nrrd(tmp_path / "ras.nrrd", "space: right-anterior-superior", *where)
    affine = np.diag([0.9, 0.8, 5, 1])
    affine[:3, 3] = -40, 31.5, 12.25
    assert_same(read_scan(ras), VOXELS, affine)
    las = nrrd(tmp_path / "las.nrrd", "space: LAS", *where)
    assert_same(read_scan(las), VOXELS, np.diag([-1, 1, 1, 1]) @ affine)
    lps = nrrd(tmp_path / "lps.nrrd", "space: left-posterior-superior", *where)
    assert_same(read_scan(lps), VOXELS, np.diag([-1, -1, 1, 1]) @ affine)


def test_nrrd_that_does_not_place_the_patient(tmp_path):
    scan = read_scan(nrrd(tmp_path / "a.nrrd", "spacings: 0.9 0.8 5"))
    assert scan.spacing_mm == pytest.approx((0.9, 0.8, 5))
    assert "left and right" in scan.notes[0]
    directions = "space directions: (0.9,0,0) (0,0.8,0) (0,0,5)"
    refused(nrrd(tmp_path / "b.nrrd", "space: scanner-xyz", directions), "scanner-xyz")
    refused(nrrd(tmp_path / "c.nrrd", "space: RAS", directions, 'space units: "um" "um" "um"'), "um, not mm")


def test_metaimage_that_does_not_place_the_patient(tmp_path):
    head = "ObjectType = Image\nNDims = 3\nDimSize = 9 7 6\nElementSpacing = 0.9 0.8 5\n"
    head += "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + VOXELS.astype("<i2").tobytes(order="F"))
    scan = read_scan(tmp_path / "a.mha")
    np.testing.assert_array_equal(scan.voxels, VOXELS)
    assert scan.spacing_mm == pytest.approx((0.9, 0.8, 5))
    assert "left and right" in scan.notes[0]


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_itk_formats_that_cannot_be_used(tmp_path, suffix):
    sitk, image = itk_image("RAS")
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(image, str(path))
    path.write_bytes(path.read_bytes()[:-300])
    refused(path, "damaged, or cut short")
    sitk.WriteImage(sitk.Compose(image, image, image), str(path))
    refused(path, "colour")
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))
    refused(path, "2 volumes")
    sitk.WriteImage(image[:, :, 0], str(path))
    refused(path, "2 axes")


def test_itk_formats_without_simpleitk(tmp_path, monkeypatch):
    path = nrrd(tmp_path / "a.nrrd", "space: RAS")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(BackendError, match=r'SimpleITK.*pip install "uadtk\[formats\]"'):
        read_scan(path)


def nibabels(name: str) -> Path:
    path = Path(nib.__file__).parent / "tests/data" / name
    if not path.exists():
        pytest.skip("nibabel came without its test data")
    return path


@pytest.mark.parametrize("name", ["tiny.mnc", "minc1_1_scale.mnc", "small.mnc", "minc2_1_scale.mnc"])
def test_minc(name):
    path = nibabels(name)
    if path.read_bytes().startswith(b"\x89HDF"):
        pytest.importorskip("h5py", reason="needs pip install uadtk[formats]")
    loaded = nib.load(path)
    assert_same(read_scan(path), loaded.get_fdata(dtype=np.float32), loaded.affine)


def test_minc_packed_and_with_several_frames(tmp_path):
    path = tmp_path / "a.mnc.gz"
    path.write_bytes(gzip.compress(nibabels("tiny.mnc").read_bytes()))
    assert_same(read_scan(path), nib.load(nibabels("tiny.mnc")).get_fdata(dtype=np.float32), nib.load(path).affine)
    refused(nibabels("minc1_4d.mnc"), "volumes, not one")


def test_minc2_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "a.mnc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setattr("uadtk.io.readers.others.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r'h5py.*pip install "uadtk\[formats\]"'):
        read_scan(tmp_path / "a.mnc")


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "a.mnc", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"hello " * 200, b"\x1f\x8b" + b"x" * 400])
def test_names_that_promise_what_is_not_there(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_scan(tmp_path / name)
    assert caught.value.where
    assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_mgh_cut_short(tmp_path, share):
    nib.save(nib.MGHImage(VOXELS, OBLIQUE.astype(np.float32)), tmp_path / "a.mgh")
    data = (tmp_path / "a.mgh").read_bytes()
    (tmp_path / "a.mgh").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "a.mgh", "cut short")


def test_several_frames(tmp_path):
    nib.save(nib.MGHImage(np.stack([VOXELS, VOXELS], -1), np.eye(4)), tmp_path / "a.mgz")
    refused(tmp_path / "a.mgz", "2 volumes")


def test_a_packed_volume_of_zeros_behind_a_small_one_is_refused(tmp_path):
    """A few packed megabytes may stand for a terabyte."""
    nib.save(nib.MGHImage(VOXELS.astype("f4"), np.eye(4)), tmp_path / "a.mgz")
    data = gzip.decompress((tmp_path / "a.mgz").read_bytes())
    (tmp_path / "a.mgz").write_bytes(gzip.compress(data + bytes(70_000_000), 1))
    refused(tmp_path / "a.mgz", "holds more than")


@pytest.mark.parametrize("name", ["a.mgz", "a.nhdr", "a.mhd"])
def test_sizes_that_do_not_fit_are_refused_before_they_are_read(tmp_path, name):
    size = 20_000
    if name == "a.mgz":
        head = struct.pack(">6ih", 1, size, size, size, 1, 3, 1).ljust(284, b"\0")
        (tmp_path / name).write_bytes(gzip.compress(head + bytes(1000)))
    else:
        pytest.importorskip("SimpleITK")
        sizes = f"{size} {size} {size}"
        (tmp_path / "a.raw").write_bytes(bytes(1000))
        (tmp_path / name).write_text(
            f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nencoding: raw\nendian: little\ndata file: a.raw\n"
            if name == "a.nhdr"
            else f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = a.raw\n"
        )
    with pytest.raises(OutOfMemoryError, match="reading it takes about"):
        read_scan(tmp_path / name)
