"""The same command on a folder goes on: what is done stays, what is missing or has changed is done, and said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scans import small_brain
from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.core.errors import StorageError
from uadtk.core.finding import Light
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Volume
from uadtk.io.cohort import Cohort, Row, content_digest
from uadtk.io.nifti import read_nifti
from uadtk.io.results import ScanState, Summary, read_folder
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.score import Method, build_method
from uadtk.pipeline.segment import Rules

NAMES = ("s0", "s1", "s4")


@pytest.fixture(scope="module")
def method() -> Method:
    bare = checkpoints.new("histeq", {}, Preparation(), cleaners=())
    return build_method(bare.with_point(OperatingPoint("p", 0.98, Spec("p98"), "", bare.scorer, (), 0, "", "")), Run())


@pytest.fixture
def rows(small_cohort: Path, tmp_path: Path) -> list[Row]:
    """Three scans of one's own."""
    for name in NAMES:
        shutil.copy(small_cohort.parent / f"{name}.nii.gz", tmp_path / f"{name}.nii.gz")
    return [Row(name, tmp_path / f"{name}.nii.gz") for name in NAMES]


class Archive:
    """A folder that the same cohort is segmented into again and again."""

    def __init__(self, method: Method, folder: Path) -> None:
        self.method, self.folder = method, folder
        self.said: list[str] = []

    def run(
        self,
        rows: Sequence[Row],
        threshold: float = 0.98,
        rules: Rules | None = None,
        overwrite: bool = False,
        worst: Light = "amber",
    ):
        """The states by name; ``said`` holds the lines of this run, but those of the gate."""
        self.said.clear()
        point = replace(self.method.checkpoint.points[0], threshold=threshold)
        names, say = [row.subject for row in rows], lambda line: None if ": amber: " in line else self.said.append(line)
        outcomes = segment_cohort(
            rows,
            names,
            self.method,
            point,
            self.folder,
            Run(say=say, worst=worst),
            rules or Rules(),
            overwrite,
            alone=False,
        )
        return {outcome.row.subject: outcome.value or outcome.error for outcome in outcomes}


@pytest.fixture
def archive(method: Method, tmp_path: Path) -> Archive:
    return Archive(method, tmp_path / "out")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in sorted(folder.iterdir())}


def redone(found: dict[str, ScanState]) -> list[str]:
    return [name for name, state in found.items() if not state.before]


def test_the_second_time_nothing_is_done(archive: Archive, rows: list[Row]) -> None:
    assert redone(archive.run(rows)) == list(NAMES)
    before = contents(archive.folder)
    found = archive.run(rows)
    assert redone(found) == []
    assert [state.status for state in found.values()] == ["done"] * 3
    assert contents(archive.folder) == before
    assert archive.said == []


def test_new_scans_are_done_and_those_that_left_stay(archive: Archive, rows: list[Row]) -> None:
    archive.run(rows[:1])
    assert redone(archive.run(rows[1:])) == ["s1", "s4"]
    assert redone(archive.run(rows)) == []
    assert [state.name for state in read_folder(archive.folder)] == list(NAMES)


@pytest.mark.parametrize(
    ("choice", "what"),
    [
        ({"threshold": 0.97}, "operating point"),
        ({"rules": Rules(min_voxels=3)}, "options"),
        ({"rules": Rules(min_volume_ml=2)}, "options"),
        ({"worst": "red"}, "options"),
    ],
)
def test_another_point_or_option_does_all_again(archive: Archive, rows: list[Row], choice: dict, what: str) -> None:
    archive.run(rows)
    assert redone(archive.run(rows, **choice)) == list(NAMES)
    assert archive.said == [f"{name}: done again: other {what}" for name in NAMES]
    assert redone(archive.run(rows, **choice)) == []


def test_another_checkpoint_does_all_again(archive: Archive, rows: list[Row], method: Method) -> None:
    archive.run(rows)
    archive.method = build_method(replace(method.checkpoint, preparation=Preparation(side="256")), Run())
    assert redone(archive.run(rows)) == list(NAMES)
    assert archive.said[0] == "s0: done again: other checkpoint, options"


class _Odd:
    """Stands in for ``registry.hooks()`` with a plugin that reads the format of files called ``.odd``."""

    def uadtk_read(self, path: Path) -> Volume | None:
        return read_nifti(path.with_suffix("").with_suffix(".hidden")) if path.suffix == ".odd" else None


def test_another_version_of_a_plugin_that_reads_a_scan_does_that_scan_again(
    archive: Archive, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no scan that uadtk reads itself."""
    odd = rows[1].image.with_suffix("").with_suffix(".odd")
    rows[1].image.rename(odd.with_suffix(".hidden"))
    odd.write_bytes(b"odd")
    rows[1] = replace(rows[1], image=odd)
    version = {"uadtk-odd": "1.0"}
    monkeypatch.setattr(registry, "hooks", _Odd)
    monkeypatch.setattr(registry, "readers", lambda: dict(version))
    states = archive.run(rows)
    assert states["s1"].provenance["input"]["readers"] == version
    assert "readers" not in states["s0"].provenance["input"]
    assert redone(archive.run(rows)) == []
    digest = content_digest(Cohort((rows[1],), ""))
    version["uadtk-odd"] = "1.1"
    assert content_digest(Cohort((rows[1],), "")) != digest
    assert redone(archive.run(rows)) == ["s1"]
    assert archive.said == ["s1: done again: other reader plugins"]


def test_another_version_of_a_plugin_does_all_again(
    archive: Archive, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = registry.find
    version = {"now": "1.0"}

    def plugin(kind: registry.Kind, name: str) -> registry.Registered:
        found = find(kind, name)
        return replace(found, dist="uadtk-ours", version=version["now"]) if kind == "scorers" else found

    monkeypatch.setattr(registry, "find", plugin)
    states = archive.run(rows)
    assert states["s0"].provenance["versions"]["uadtk-ours"] == "1.0"
    assert redone(archive.run(rows)) == []
    version["now"] = "1.1"
    assert redone(archive.run(rows)) == list(NAMES)
    assert archive.said[0] == "s0: done again: other plugin versions"


def test_a_scan_that_changed_is_done_again_though_its_size_and_time_are_the_same(
    archive: Archive, rows: list[Row]
) -> None:
    archive.run(rows)
    path = rows[1].image
    times = path.stat()
    shutil.copy(rows[2].image, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert redone(archive.run(rows)) == ["s1"]
    assert archive.said == ["s1: done again: other scan"]


def test_another_brain_mask_is_another_input(archive: Archive, rows: list[Row], tmp_path: Path) -> None:
    import nibabel as nib

    archive.run(rows)
    image = nib.load(rows[0].image)
    nib.save(nib.Nifti1Image(small_brain()[1].astype("u1"), image.affine), tmp_path / "brain.nii.gz")
    masked = [replace(rows[0], brain_mask=tmp_path / "brain.nii.gz"), *rows[1:]]
    assert redone(archive.run(masked)) == ["s0"]
    assert archive.said == ["s0: done again: other brain mask"]


def test_a_scan_that_moved_is_the_same_scan(archive: Archive, rows: list[Row], tmp_path: Path) -> None:
    archive.run(rows)
    (tmp_path / "moved").mkdir()
    shutil.move(rows[0].image, tmp_path / "moved" / "s0.nii.gz")
    assert redone(archive.run([replace(rows[0], image=tmp_path / "moved" / "s0.nii.gz"), *rows[1:]])) == []


def test_the_result_of_another_scan_with_the_same_name_is_not_replaced(
    archive: Archive, rows: list[Row], tmp_path: Path
) -> None:
    archive.run(rows)
    before = contents(archive.folder)
    other = replace(rows[1], subject="s0")
    error = archive.run([other, *rows[1:]])["s0"]
    assert "hold the result of another scan" in error.one_line()
    assert contents(archive.folder) == before
    assert redone(archive.run([other], overwrite=True)) == ["s0"]


@pytest.mark.parametrize("suffix", ["label-lesion_mask.nii.gz", "findings.tsv", "report.html"])
def test_a_file_that_is_gone_is_made_again_and_one_changed_by_hand_is_kept(
    archive: Archive, rows: list[Row], suffix: str
) -> None:
    archive.run(rows)
    path = archive.folder / f"s1_{suffix}"
    original = path.read_bytes()
    path.unlink()
    assert redone(archive.run(rows)) == ["s1"]
    assert archive.said == [f"s1: done again: lacks {path.name}"]
    path.write_bytes(original[:-1] + b"?")
    error = archive.run(rows)["s1"]
    assert error.one_line() == f"{path}: was changed after uadtk wrote it. Pass --overwrite to replace it."
    assert path.read_bytes().endswith(b"?")
    assert redone(archive.run(rows, overwrite=True)) == list(NAMES)
    assert not path.read_bytes().endswith(b"?")


def test_a_failure_is_recorded_tried_again_and_forgotten(archive: Archive, rows: list[Row]) -> None:
    good = rows[1].image.read_bytes()
    rows[1].image.write_bytes(good[:300])
    archive.run(rows)
    states = {state.name: state for state in read_folder(archive.folder)}
    assert [state.status for state in states.values()] == ["done", "failed", "done"]
    assert "is cut short" in states["s1"].error
    assert states["s1"].failure["exit_code"] == 3
    assert redone({name: s for name, s in archive.run(rows).items() if isinstance(s, ScanState)}) == []
    rows[1].image.write_bytes(good)
    assert redone(archive.run(rows)) == ["s1"]
    assert [state.status for state in read_folder(archive.folder)] == ["done"] * 3


def test_the_gates_light_is_in_the_record_of_a_failure(archive: Archive, rows: list[Row]) -> None:
    archive.run(rows, worst="green")
    assert {(state.status, state.light) for state in read_folder(archive.folder)} == {("failed", "amber")}


def test_a_scan_that_now_fails_keeps_its_older_result(archive: Archive, rows: list[Row]) -> None:
    archive.run(rows)
    mask = (archive.folder / "s1_label-lesion_mask.nii.gz").read_bytes()
    rows[1].image.write_bytes(b"no image")
    archive.run(rows)
    state = read_folder(archive.folder)[1]
    assert (state.status, state.files["mask"].read_bytes()) == ("failed", mask)


def test_a_scan_that_changes_while_it_is_read_is_a_failure(
    archive: Archive, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadtk.pipeline import segment

    read = segment.read_row

    def grows(row: Row, run: Run):
        found = read(row, run)
        if row.subject == "s1":
            with row.image.open("ab") as file:
                file.write(b"more")
        return found

    monkeypatch.setattr(segment, "read_row", grows)
    found = archive.run(rows)
    assert "s1.nii.gz: changed while it was read" in found["s1"].one_line()
    assert not (archive.folder / "s1_provenance.json").exists()


def test_a_full_disk_is_no_failure_of_a_scan(
    archive: Archive, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot be written", "out")

    monkeypatch.setattr("uadtk.pipeline.segment.write_outputs", full)
    with pytest.raises(StorageError):
        archive.run(rows)
    assert read_folder(archive.folder) == []


def test_a_set_of_an_older_uadtk_is_done_again(archive: Archive, rows: list[Row]) -> None:
    archive.run(rows)
    manifest = archive.folder / "s0_provenance.json"
    record = json.loads(manifest.read_text())
    del record["files"], record["found"]
    manifest.write_text(json.dumps(record))
    assert redone(archive.run(rows)) == ["s0"]


def test_the_summary_is_that_of_the_folder(archive: Archive, rows: list[Row], tmp_path: Path) -> None:
    archive.run(rows[:1])
    summary = Summary(archive.folder / "summary.tsv", ["s4", "s1"])
    for state in archive.run([rows[2], rows[1]]).values():
        summary.add(state)
    summary.write()
    lines = (archive.folder / "summary.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines[1:]] == [["s4", "done"], ["s1", "done"], ["s0", "done"]]


def test_no_link_is_followed_out_of_the_folder(archive: Archive, rows: list[Row], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    archive.folder.mkdir()
    for name in ("dataset_description.json", "s0_failure.json", "summary.tsv"):
        (archive.folder / name).symlink_to(victim)
    rows[0].image.write_bytes(b"no image")
    archive.run(rows)
    Summary(archive.folder / "summary.tsv", NAMES).write()
    assert not victim.exists()
    assert (archive.folder / "dataset_description.json").is_file()
