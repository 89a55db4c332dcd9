"""`uadtk watch`: what arrives is segmented once, whatever happens."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Done, call
from tests.scans import SMALL_AFFINE, small_brain
from uadtk.io.results import FILES, MNI
from uadtk.preparation.registration import Registration


def test_each_arrival_is_segmented_once(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    watch = ("watch", incoming, "-o", out, "--model", histeq, "--once", "--settle", "0.1", "--form", "json")
    call(*watch).refused(2, "no such folder")
    incoming.mkdir()
    for inside in (incoming, incoming / "out", tmp_path / "out" / ".." / "incoming"):
        call("watch", incoming, "-o", inside, "--model", histeq).refused(2, "lies in the folder that is watched")
    assert list(incoming.iterdir()) == []
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming)
    (incoming / "s1.nii.gz").write_bytes(b"cut short")

    def events(code: int = 0) -> list[tuple[str, str, bool]]:
        done = call(*watch)
        assert done.code == code, done
        lines = [json.loads(line) for line in done.out.splitlines()]
        return [(e["event"], e["name"], e.get("before", False)) for e in lines if e["event"] in ("done", "failed")]

    assert events(1) == [("done", "s0", False), ("failed", "s1", False)]
    shutil.copy(small_cohort.parent / "s1.nii.gz", incoming)
    assert events() == [("done", "s0", True), ("done", "s1", False)]
    rows = [line.split("\t")[:2] for line in (out / "summary.tsv").read_text().splitlines()[1:]]
    assert rows == [["s0", "done"], ["s1", "done"]]
    assert listed(out) == ["s0", "s1"]
    assert re.findall(r'href="(\S+_report.html)"', (out / "index.html").read_text()) == [
        "s0_report.html",
        "s1_report.html",
    ]


def listed(out: Path) -> list[str]:
    """The scans of the cohort page."""
    return re.findall(r'<tr[^>]* data-name="(\w+)"', (out / "index.html").read_text())


def test_the_page_grows_while_scans_arrive(
    histeq: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming)
    lists = list[list[str]]()

    def then(*_: object) -> None:
        """In place of the sleep of the command while it waits for more."""
        time.sleep(0.05)
        lists.append(listed(out) if (out / "index.html").exists() else [])
        if lists[-1] == ["s0"] and not (incoming / "s1.nii.gz").exists():
            shutil.copy(small_cohort.parent / "s1.nii.gz", incoming)
        if lists[-1] == ["s0", "s1"] or len(lists) > 200:
            raise KeyboardInterrupt

    monkeypatch.setattr("uadtk.pipeline.watch.arrivals.__defaults__", (then,))
    assert call("watch", incoming, "-o", out, "--model", histeq, "--settle", "0.1").code == 130
    assert lists[-1] == ["s0", "s1"]


def test_a_page_of_another_origin_is_refused_before_the_work(
    histeq: Path, small_cohort: Path, segment: Callable[..., Done], tmp_path: Path
) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    out.mkdir()
    (out / "index.html").write_text("<p>Welcome")
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming)
    call("watch", incoming, "-o", out, "--model", histeq, "--once").refused(2, "was not made by uadtk")
    segment(scans=(small_cohort,)).refused(2, "was not made by uadtk")
    assert [path.name for path in out.iterdir()] == ["index.html"]


def test_scans_of_one_name_have_numbers_and_keep_them(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    watch = ("watch", incoming, "-o", out, "--model", histeq, "--once", "--settle", "0.1", "--form", "json")

    def arrive(folder: str, scan: str) -> list[tuple[str, bool]]:
        (incoming / folder).mkdir(parents=True)
        shutil.copy(small_cohort.parent / f"{scan}.nii.gz", incoming / folder / "flair.nii.gz")
        done = call(*watch)
        assert done.code == 0, done
        events = [json.loads(line) for line in done.out.splitlines()]
        return [(event["name"], event["before"]) for event in events if event["event"] == "done"]

    assert arrive("P2", "s0") == [("flair", False)]
    assert arrive("P1", "s1") == [("flair_2", False), ("flair", True)]
    assert arrive("P3", "s2") == [("flair_2", True), ("flair", True), ("flair_3", False)]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["watch", "segment"])
def test_a_late_file_that_comes_first_does_not_make_another_scan(histeq: Path, tmp_path: Path, command: str) -> None:
    """Of two patients' loose series: a scan is known by its series, not by the first of its files."""
    pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
    from tests.dicom_writer import slices, write

    incoming, out = tmp_path / "incoming", tmp_path / "out"
    voxels = small_brain(0)[0].clip(0).astype("u2")
    for number in (1, 2):
        tags = {"PatientID": f"P{number}", "StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}
        files = slices(voxels, SMALL_AFFINE, **tags)
        write(incoming, files[1:], [f"{number}-{k:03d}" for k in range(1, len(files))])
        write(tmp_path / "late", files[:1], [f"{number}-000"])
    how = ("--once", "--settle", "0.1", "--form", "json") if command == "watch" else ("--json",)

    def done() -> list[tuple[str, bool]]:
        found = call(command, incoming, "-o", out, "--model", histeq, *how)
        assert found.code == 0, found
        events = [json.loads(line) for line in found.out.splitlines()]
        return sorted((event["name"], event["before"]) for event in events if event["event"] == "done")

    first = done()
    assert [before for _, before in first] == [False, False]
    assert done() == [(name, True) for name, _ in first]
    shutil.copy(tmp_path / "late" / "1-000", incoming)
    assert done() == [(first[0][0], False), (first[1][0], True)]
    assert done() == [(name, True) for name, _ in first]


def test_a_derivative_grows_with_what_arrives(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    watch = ("watch", incoming, "-o", out, "--model", histeq, "--once", "--settle", "0.1", "--layout", "bids")
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming / "sub-1_FLAIR.nii.gz")
    assert call(*watch).code == 0
    derivative = out / "derivatives" / "uadtk"
    mask = derivative / "sub-1/anat/sub-1_label-lesion_desc-FLAIR_mask.nii.gz"
    assert mask.stat().st_ino == (out / f"sub-1_{FILES['mask']}").stat().st_ino
    first = {path: path.stat().st_mtime_ns for path in derivative.rglob("*") if path.is_file()}
    shutil.copy(small_cohort.parent / "s1.nii.gz", incoming / "a b.nii.gz")
    shutil.copy(small_cohort.parent / "s2.nii.gz", incoming / "ab.nii.gz")
    done = call(*watch)
    assert done.code == 0
    assert {path.name for path in derivative.glob("sub-*")} == {"sub-1", "sub-ab"}
    assert "not segmented: " in done.err
    assert "have the same BIDS name" in done.err, done.err
    assert not (out / f"ab_{FILES['mask']}").exists()
    assert {path: path.stat().st_mtime_ns for path in first} == first


def test_it_writes_in_the_space_of_the_atlas(
    histeq: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    found = lambda scan, _, kind: Registration(kind, identity, (0.0, 0.0, 0.0), scan.shape, scan.affine)  # noqa: E731
    monkeypatch.setattr("uadtk.pipeline.atlas_space.register", found)
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    shutil.copy(small_cohort.parent / "s0.nii.gz", incoming / "sub-1_FLAIR.nii.gz")
    watch = ("watch", incoming, "-o", out, "--model", histeq, "--once", "--settle", "0.1", "--space", "MNI")
    assert call(*watch).code == 0
    assert (out / f"sub-1_space-{MNI}_label-lesion_mask.nii.gz").exists()
    assert not (out / "derivatives").exists()
