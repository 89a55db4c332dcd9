"""One scan twice: found by path, link and content, wherever scans are pooled."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uadtk.core.errors import DataError
from uadtk.core.volume import Scan
from uadtk.io.cohort import Cohort, Distinct, Row, digest_of_scan, read_cohort, refuse_copies


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (9, 8, 7), dtype=np.uint8), np.eye(4)), path)
    return path


def again(scan: Path, how: str) -> Path:
    path = scan.with_name("b.nii.gz")
    content = gzip.decompress(scan.read_bytes())
    if how == "same":
        return scan
    if how == "link":
        path.symlink_to(scan)
    elif how == "hard link":
        os.link(scan, path)
    elif how == "copy":
        shutil.copy(scan, path)
    elif how == "packed anew":
        path.write_bytes(gzip.compress(content, 1, mtime=7))
    else:
        path = path.with_suffix("")
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("how", ["same", "link", "hard link", "copy", "packed anew", "unpacked"])
def test_a_scan_twice_is_refused(scan: Path, how: str) -> None:
    cohort = Cohort((Row("P1", scan), Row("P2", again(scan, how))), "here")
    with pytest.raises(DataError) as caught:
        refuse_copies(cohort)
    assert "'P1'" in caught.value.what
    assert "'P2'" in caught.value.what
    refuse_copies(cohort, across_splits=True)


@pytest.mark.parametrize("how", ["same", "link", "hard link"])
def test_a_file_in_two_splits_is_refused_when_the_table_is_read(scan: Path, how: str) -> None:
    other = again(scan, how)
    path = scan.with_name("t.csv")
    path.write_text(f"subject,image,split\nP1,{scan.name},train\nP2,{other.name},test\n")
    with pytest.raises(DataError, match="is in two splits, 'train' and 'test'"):
        read_cohort(path)


def test_a_copy_in_another_split_is_a_leak(scan: Path) -> None:
    cohort = Cohort((Row("P1", scan, split="train"), Row("P2", again(scan, "copy"), split="test")), "here")
    with pytest.raises(DataError, match=r"same content \(splits 'train' and 'test'\)"):
        refuse_copies(cohort, across_splits=True)


def test_sessions_of_a_subject_and_scans_of_one_size_are_not_copies(scan: Path) -> None:
    other = scan.with_name("b.nii")
    content = bytearray(gzip.decompress(scan.read_bytes()))
    content[-1] ^= 1
    other.write_bytes(content)
    refuse_copies(Cohort((Row("P1", scan), Row("P1", other), Row("P2", scan.with_name("gone.nii"))), "here"))


def test_two_links_to_one_file_that_was_not_fetched(tmp_path: Path) -> None:
    for name in ("x.nii", "y.nii"):
        (tmp_path / name).symlink_to(".git/annex/objects/k.nii")
    rows = Row("P1", tmp_path / "x.nii", split="train"), Row("P2", tmp_path / "y.nii", split="train")
    refuse_copies(Cohort(rows, "here"))  # both rows fail
    with pytest.raises(DataError, match="is in two splits"):
        Cohort((rows[0], replace(rows[1], split="test")), "here")


def test_a_scan_that_is_cut_short_fails_by_row(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:-50])
    refuse_copies(Cohort((Row("P1", scan), Row("P2", scan)), "here"))


def test_rows_whose_masks_cannot_be_used_are_told_so_instead(scan: Path) -> None:
    dead = scan.with_name("dead.nii")
    dead.symlink_to("nowhere")
    refuse_copies(Cohort((Row("P1", scan), Row("P2", again(scan, "copy"), lesion_mask=dead)), "here"))


def test_a_scan_in_another_type_is_found_when_it_is_read() -> None:
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    distinct, first = Distinct(), Row("P1", Path("a.nii"))
    distinct.check(first, digest_of_scan(Scan(voxels, np.eye(4))))
    distinct.check(first, digest_of_scan(Scan(voxels, np.eye(4))))
    distinct.check(Row("P2", Path("b.nii")), digest_of_scan(Scan(voxels + 1, np.eye(4))))
    with pytest.raises(DataError, match=r"c\.nii: is the same scan as a\.nii"):
        distinct.check(Row("P3", Path("c.nii")), digest_of_scan(Scan(np.asfortranarray(voxels), np.eye(4))))
