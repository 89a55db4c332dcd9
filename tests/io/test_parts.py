"""What an image consists of: a digest covers every byte that is read."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain
from uadtk.core.preparation import Preparation
from uadtk.io.memo import sha256_of
from uadtk.io.parts import image_sha256, parts_of
from uadtk.io.read import read_volume
from uadtk.io.rows import Cohort, Row, content_digest
from uadtk.pipeline.sources import describe
from uadtk.training.slices import slices_key


def _nifti_pair(folder: Path) -> tuple[Path, Path]:
    nib.save(nib.Nifti1Pair(small_brain()[0], SMALL_AFFINE), folder / "scan.hdr")
    return folder / "scan.hdr", folder / "scan.img"


def _nifti_pair_by_its_voxels(folder: Path) -> tuple[Path, Path]:
    return _nifti_pair(folder)[::-1]


def _metaimage(folder: Path) -> tuple[Path, Path]:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(small_brain()[0]), str(folder / "scan.mhd"))
    return folder / "scan.mhd", folder / "scan.raw"


def _nrrd(folder: Path) -> tuple[Path, Path]:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(small_brain()[0]), str(folder / "scan.nhdr"))
    return folder / "scan.nhdr", folder / "scan.raw"


def _dicom(folder: Path) -> tuple[Path, Path]:
    pytest.importorskip("pydicom")
    from tests.dicom_writer import slices, write

    rng = np.random.default_rng(0)
    write(folder, slices(rng.integers(1, 900, (16, 16, 12)).astype(np.uint16), SMALL_AFFINE))
    first, *_, last = sorted(folder.iterdir())
    return first, last


@pytest.mark.parametrize("made", [_nifti_pair, _nifti_pair_by_its_voxels, _metaimage, _nrrd, _dicom])
def test_every_file_that_is_read_is_in_the_digest(made, tmp_path: Path) -> None:
    path, other = made(tmp_path)
    assert other in parts_of(path)
    assert path in parts_of(path)
    row = Row("s", path)
    before, read = digests(row), read_volume(path)
    data = bytearray(other.read_bytes())
    data[-60:] = b"\x01\x03" * 30
    other.write_bytes(data)
    again = read_volume(path)
    assert not (np.array_equal(read.voxels, again.voxels) and np.array_equal(read.affine, again.affine))
    assert all(one != now for one, now in zip(before, digests(row), strict=True))


def digests(row: Row) -> tuple[str, str, str]:
    return image_sha256(row.image), content_digest(Cohort((row,), "")), describe(row)["sha256"]


def test_a_series_is_one_scan_by_whichever_file_and_folder(tmp_path: Path) -> None:
    first, last = _dicom(tmp_path)
    assert image_sha256(first) == image_sha256(last)
    (tmp_path / "notes.txt").write_text("of no series")
    assert image_sha256(first) == image_sha256(last)
    assert len(parts_of(first)) == 12
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert image_sha256(moved / first.name) == image_sha256(moved / last.name)


def test_one_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(small_brain()[0], SMALL_AFFINE), tmp_path / "scan.nii")
    (tmp_path / "scan.img").write_bytes(b"of another")
    assert image_sha256(tmp_path / "scan.nii") == sha256_of(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    ("name", "line", "others"),
    [
        ("a.mhd", "ElementDataFile = LIST\nb.raw\nc.raw\n", ["b.raw", "c.raw"]),
        ("a.mhd", "ElementDataFile = s%02d.raw 1 3 2\n", ["s01.raw", "s03.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: ./b.raw\n", ["b.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: LIST\nb.raw\nc.raw\n", ["b.raw", "c.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: s%02d.raw 1 3 1\n", ["s01.raw", "s03.raw"]),
        ("a.mha", "ElementDataFile = LOCAL\ndata file: b.raw\n", []),
        ("a.nrrd", "NRRD0004\nencoding: raw\n\ndata file: b.raw\n", []),
        ("a.mhd", "ElementDataFile = %s%n%999999d 1 2 1\n", []),
    ],
)
def test_headers_that_name_other_files(name: str, line: str, others: list[str], tmp_path: Path) -> None:
    for other in ("b.raw", "c.raw", "s01.raw", "s03.raw"):
        (tmp_path / other).write_bytes(b"1")
    (tmp_path / name).write_text(line)
    assert parts_of(tmp_path / name) == sorted(tmp_path / one for one in [name, *others])


def test_slices_of_a_mask_that_was_corrected_are_prepared_again(tmp_path: Path) -> None:
    """An unpacked mask keeps its size."""
    row = Row("s", tmp_path / "s.nii", brain_mask=tmp_path / "b.nii", lesion_mask=tmp_path / "l.nii")
    for path in (row.image, row.brain_mask, row.lesion_mask):
        assert path is not None
        path.write_bytes(b"0" * 400)
    keys = [slices_key([row], Preparation(), True)]
    for path in (row.brain_mask, row.lesion_mask):
        assert path is not None
        path.write_bytes(b"1" * 400)
        os.utime(path, (1, 1))
        keys.append(slices_key([row], Preparation(), True))
    assert keys[0] != keys[1] != keys[2]
