"""A folder that scans are copied into: each is given once, when it has stopped growing."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.dicom_writer import slices, write
from tests.scans import SMALL_AFFINE, small_brain
from uadtk.core.run import Run
from uadtk.pipeline import watch
from uadtk.pipeline.watch import arrivals


class Clock:
    """Time that passes only while the watch sleeps; ``then`` is what happens at the n-th sleep."""

    def __init__(self, then: dict[int, Callable[[], object]]) -> None:
        self.now, self.then, self.slept = 0.0, then, itertools.count()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        number = next(self.slept)
        assert number < 50
        self.then.get(number, lambda: None)()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[list[str]], list[str]]]:
    """Names given, and lines said, while things happen."""

    def run(then: dict[int, Callable[[], object]] | None = None) -> tuple[list[list[str]], list[str]]:
        clock, said = Clock(then or {}), list[str]()
        monkeypatch.setattr(watch.time, "monotonic", lambda: clock.now)
        found = arrivals(tmp_path, 3.0, True, Run(say=said.append), clock.sleep)
        return [[row.image.name for row in rows] for rows in found if rows], said

    return run


def test_a_file_that_grows_is_given_when_it_has_stopped(watched, small_cohort: Path, tmp_path: Path) -> None:
    data = (small_cohort.parent / "s0.nii.gz").read_bytes()
    path, sizes = tmp_path / "s0.nii.gz", list[int]()
    path.write_bytes(data[:100])

    def grow() -> None:
        sizes.append(path.stat().st_size)
        path.write_bytes(data[: 100 + len(data) * len(sizes) // 6])

    assert watched(dict.fromkeys(range(2, 8), grow)) == ([["s0.nii.gz"]], [])
    assert sizes[-1] < len(data) <= path.stat().st_size


def test_each_is_given_once_and_again_if_it_changes(watched, small_cohort: Path, tmp_path: Path) -> None:
    for name in ("s0", "s1"):
        shutil.copy(small_cohort.parent / f"{name}.nii.gz", tmp_path)
    source, growing = small_cohort.parent / "s2.nii.gz", tmp_path / "s2.nii.gz"
    then: dict[int, Callable[[], object]] = {n: partial(growing.write_bytes, b"x" * n) for n in range(1, 9)}
    then[5] = lambda: (growing.write_bytes(b"x" * 5), shutil.copy(source, tmp_path / "s1.nii.gz"))
    then[9] = lambda: shutil.copy(source, growing)
    given, _ = watched(then)
    assert given == [["s0.nii.gz"], ["s1.nii.gz"], ["s1.nii.gz"], ["s2.nii.gz"]]


def test_what_is_on_its_way_hidden_or_no_scan_does_not_stop_the_watch(
    watched, small_cohort: Path, tmp_path: Path
) -> None:
    shutil.copy(small_cohort.parent / "s0.nii.gz", tmp_path / "z.nii.gz")
    for name in (".hidden.nii.gz", "s9.nii.gz.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.docx").write_bytes(b"x")
    given, said = watched()
    assert given == [["z.nii.gz"]]
    (line,) = said
    assert line.startswith(f"{tmp_path / 'notes'}: not segmented: ")


def test_loose_files_of_a_series_are_one_scan(watched, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    voxels = np.random.default_rng(0).integers(1, 900, (16, 16, 12)).astype(np.uint16)
    files = slices(voxels, SMALL_AFFINE)
    write(tmp_path, files[:5], [f"{k:02d}.dcm" for k in range(5)])
    (tmp_path / "notes.dcm").write_bytes(b"no image")
    given, said = watched({2: lambda: write(tmp_path, files[5:], [f"{k:02d}.dcm" for k in range(5, 12)])})
    assert (given, said) == ([["notes.dcm"], ["00.dcm"]], [])
    assert len(list(tmp_path.iterdir())) == 13


def test_a_pair_is_not_complete_before_both_files_are(watched, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(small_brain()[0], SMALL_AFFINE), tmp_path / "s.hdr")
    data = (tmp_path / "s.img").read_bytes()
    sizes = []
    path = tmp_path / "s.img"
    path.write_bytes(data[:100])

    def grow() -> None:
        sizes.append(path.stat().st_size)
        path.write_bytes(data[: 100 + len(data) * len(sizes) // 6])

    given, said = watched(dict.fromkeys(range(2, 8), grow))
    assert (sorted(given), said) == ([["s.hdr"], ["s.img"]], [])
    assert sizes[-1] < len(data) <= path.stat().st_size
