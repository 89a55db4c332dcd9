"""``uadtk compare``: what it prints and writes, from scans and from results, and one clear line for bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import uadtk
from tests.commands import Done, call, save_tiny
from tests.heads import FIRST, SECOND, WIDER, head, save
from uadtk.core.errors import DataError, UsageError

pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with a point on three healthy heads that leaves no false findings."""
    folder = tmp_path_factory.mktemp("calibrated")
    for person in range(3):
        save(head(10 + person, person), folder / "healthy" / f"h{person}.nii.gz")
    save_tiny(folder / "tiny.safetensors")
    point = ("--strategy", "p98:percentile=99.99", "--threads", 1)
    done = call(
        "threshold",
        "--model",
        folder / "tiny.safetensors",
        "--healthy",
        folder / "healthy",
        *point,
        "-o",
        folder / "m.safetensors",
    )
    assert done.code == 0, done
    return folder / "m.safetensors"


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scans")
    images = {
        "before": head(1, 1, FIRST),
        "after": head(1, 2, WIDER, SECOND, shift_mm=(7, -4, 5)),
        "stranger": head(2, 3, FIRST),
    }
    return {name: save(image, folder / f"{name}.nii.gz") for name, image in images.items()}


@pytest.fixture(scope="module")
def done(calibrated: Path, scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    out = tmp_path_factory.mktemp("compare") / "out"
    return call("compare", scans["before"], scans["after"], "--model", calibrated, "--threads", 1, "-o", out), out


@pytest.fixture(scope="module")
def stranger(calibrated: Path, scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stranger")
    assert call("segment", scans["stranger"], "--model", calibrated, "-o", out).code == 0
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def test_it_prints_what_has_changed_and_where_the_page_is(done: tuple[Done, Path]) -> None:
    made, out = done
    assert made.code == 0, made
    lines = made.out.splitlines()
    assert lines[0].split()[:3] == ["change", "before", "after"]
    assert [line.split()[1] for line in lines[1:3]] == ["new", "grown"]
    assert re.fullmatch(r"1 new, 1 grown; \d+\.\d\d ml before, \d+\.\d\d after", lines[3])
    assert lines[4:] == [f"page  {out / 'compare.html'}"]
    assert "limits are a guess here" in made.err  # this model was not measured
    assert "agree" not in made.err


def test_the_table_has_places_in_both_scans_that_the_header_of_the_second_moved(done: tuple[Done, Path]) -> None:
    new, grown = table(done[1] / "compare.tsv")
    assert (new["change"], new["before"], new["change_percent"]) == ("new", "", "")
    assert (grown["change"], grown["before"]) == ("grown", "1")
    assert float(grown["after_ml"]) > 2 * float(grown["before_ml"]) > 1
    for row in (new, grown):
        moved = [float(row[f"{axis}_after_mm"]) - float(row[f"{axis}_before_mm"]) for axis in "xyz"]
        assert np.allclose(moved, (7, -4, 5), atol=0.7)
    mask = nib.load(done[1] / "after" / "after_label-lesion_dseg.nii.gz")
    at = np.linalg.inv(mask.affine) @ [*(float(new[f"{axis}_after_mm"]) for axis in "xyz"), 1]
    assert str(int(mask.dataobj[tuple(np.round(at[:3]).astype(int))])) == new["after"]


def test_no_mask_is_resampled(done: tuple[Done, Path]) -> None:
    for name, row in (("before", "grown"), ("after", "new")):
        image = nib.load(done[1] / name / f"{name}_label-lesion_mask.nii.gz")
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        total = sum(float(line[f"{name}_ml"]) for line in table(done[1] / "compare.tsv"))
        assert total == pytest.approx(np.asarray(image.dataobj).sum() * voxel_ml, rel=1e-4), row


def test_the_json_names_all_that_is_needed_to_repeat_it(done: tuple[Done, Path], scans: dict[str, Path]) -> None:
    record = json.loads((done[1] / "compare.json").read_text())
    assert record["counts"] == {"new": 1, "gone": 0, "grown": 1, "shrunk": 0, "not covered": 0, "same": 0}
    assert record["before"]["path"] == str(scans["before"])
    assert record["options"]["model"]["name"] == "scalespace"
    assert record["alignment"]["detail"] > 0.7
    assert record["alignment"]["covered"] == [1.0, 1.0]
    assert "benchmarks/repeatability.py" in record["repeatability"]["command"]
    assert [change["kind"] for change in record["changes"]] == ["new", "grown"]


def test_the_page_shows_both_scans_of_each_change(done: tuple[Done, Path]) -> None:
    page = (done[1] / "compare.html").read_text()
    assert page.count("<img") == 2 * 4
    for name in ("before, new 1", "after, new 1", "before, grown 2", "after, 60 mm, grown 2"):
        assert f'alt="{name}"' in page
    assert "<script" not in page
    assert "outside the field of view</div>" not in page


def test_results_of_segment_give_the_same(done: tuple[Done, Path], tmp_path: Path) -> None:
    mask = done[1] / "after" / "after_label-lesion_mask.nii.gz"
    again = call("compare", done[1] / "before", mask, "-o", tmp_path, "--json")
    assert again.code == 0
    assert json.loads(again.out) == json.loads((done[1] / "compare.json").read_text())
    assert (tmp_path / "compare.tsv").read_bytes() == (done[1] / "compare.tsv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.html", "compare.json", "compare.tsv"]


def test_the_other_way_round_is_gone_and_shrunk(done: tuple[Done, Path], tmp_path: Path) -> None:
    back = call("compare", done[1] / "after", done[1] / "before", "-o", tmp_path)
    assert [row["change"] for row in table(tmp_path / "compare.tsv")] == ["gone", "shrunk"], back


def test_outputs_are_replaced_only_if_asked(done: tuple[Done, Path], scans: dict[str, Path], calibrated: Path) -> None:
    again = ("compare", scans["before"], scans["after"], "--model", calibrated, "-o", done[1])
    call(*again).refused(2, str(done[1] / "compare.tsv"), "output exists", "--overwrite")


def test_another_head_is_refused(done: tuple[Done, Path], stranger: Path, tmp_path: Path) -> None:
    pair = ("compare", done[1] / "before", stranger, "-o", tmp_path / "out")
    call(*pair).refused(3, "before.nii.gz", "stranger.nii.gz", "do not look like scans of one head", "--force")
    assert not (tmp_path / "out").exists()
    forced = call(*pair, "--force")
    assert forced.code == 0
    assert "note: their detail correlates by 0." in forced.err
    assert "their detail correlates by 0." in (tmp_path / "out" / "compare.html").read_text()


def test_what_the_second_scan_does_not_show_is_not_gone(
    done: tuple[Done, Path], calibrated: Path, tmp_path: Path
) -> None:
    whole = head(1, 2)
    half = nib.Nifti1Image(np.asarray(whole.dataobj)[:, :, 14:], whole.affine @ _up(14))
    path = save(half, tmp_path / "half.nii.gz")
    made = call("compare", done[1] / "before", path, "--model", calibrated, "-o", tmp_path / "out")
    assert made.code == 0, made
    assert [row["change"] for row in table(tmp_path / "out" / "compare.tsv")] == ["not covered"]
    assert "of the other's brain after alignment" in made.err
    assert "outside the field of view</div>" in (tmp_path / "out" / "compare.html").read_text()


def _up(slices: int) -> np.ndarray:
    shift = np.eye(4)
    shift[2, 3] = slices
    return shift


def test_results_of_two_points_are_refused(
    done: tuple[Done, Path], scans: dict[str, Path], calibrated: Path, tmp_path: Path
) -> None:
    assert call("segment", scans["after"], "--model", calibrated, "--threshold", 1.1, "-o", tmp_path).code == 0
    pair = ("compare", done[1] / "before", tmp_path, "-o", tmp_path / "out")
    call(*pair).refused(2, "were segmented with another point", "Segment both in the same way")
    assert call("segment", scans["after"], "--model", calibrated, "--min-voxels", 9, "-o", tmp_path).code == 0
    call(*pair).refused(2, "were segmented with another rules")


def test_a_threshold_of_ones_own_on_two_days_is_one_point(
    scans: dict[str, Path], calibrated: Path, tmp_path: Path
) -> None:
    for name in ("before", "after"):
        folder = tmp_path / name
        assert call("segment", scans[name], "--model", calibrated, "--threshold", 1.2, "-o", folder).code == 0
        path = folder / f"{name}_provenance.json"
        record = json.loads(path.read_text())
        record["options"]["point"]["date"] = f"2026-01-0{len(name) - 4}"
        path.write_text(json.dumps(record))
    assert call("compare", tmp_path / "before", tmp_path / "after", "-o", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{scan}", "{scan}"], 3, ["before.nii.gz", "Keep one of the two"]),
        (["{result}", "{result}"], 3, ["are the same scan"]),
        (["{scan}", "{none}/gone.nii.gz"], 3, ["gone.nii.gz", "no such file"]),
        (["{result}", "{result}", "--model", "implant"], 2, ["--model, --point", "both scans are segmented already"]),
        (["{scan}", "{none}"], 3, ["no NIfTI images in the folder"]),
        (["{scans}", "{scan}"], 2, ["holds 3 scans", "Name one scan"]),
        (["{results}", "{scan}"], 2, ["holds 2 results", "Name one by its mask", "_label-lesion_mask.nii.gz"]),
        (["{scan}", "{result}", "--model", "histeq"], 2, ["was segmented with another checkpoint", "with --model"]),
        (["{moved}", "{result}"], 3, ["the scan of this result is no longer there", "Put it back"]),
        (["{edited}", "{result}"], 3, ["before_label-lesion_dseg.nii.gz: was changed after uadtk wrote it"]),
        (["{bare}", "{result}"], 3, ["this result has no options.point"]),
        (["{failed}", "{result}"], 3, ["this result is failed", "Segment the scan again"]),
        (["{other}", "{result}"], 3, ["is not the scan that was segmented"]),
        (["{result}", "{scan}", "-o", "{scan}/out"], 2, ["before.nii.gz: is a file; expected a folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(
    done: tuple[Done, Path], scans: dict[str, Path], tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    places = _bad_results(done[1], scans["before"], tmp_path)
    given = [argument.format(**places) for argument in arguments]
    made = call("compare", "-o", tmp_path / "out", *given)
    last = [line for line in made.err.splitlines() if line.startswith("uadtk: ")]
    assert (made.code, len(last)) == (code, 1), made
    for word in words:
        assert word in last[0]
    assert not list(tmp_path.glob("out/compare*"))


def _bad_results(out: Path, scan: Path, folder: Path) -> dict[str, Path]:
    places = {name: folder / name for name in ("moved", "edited", "failed", "other", "results", "bare", "none")}
    places["none"].mkdir()
    for name in ("moved", "edited", "other", "results", "bare"):
        shutil.copytree(out / "before", places[name])
    for path in (out / "after").iterdir():
        shutil.copy(path, places["results"])
    source = places["moved"] / "before_provenance.json"
    record = json.loads(source.read_text())
    record["input"] |= {"path": "moved.nii.gz", "absolute": str(folder / "moved.nii.gz")}
    source.write_text(json.dumps(record))
    record["input"] |= {"path": str(scan), "absolute": str(scan), "sha256": "0" * 64}
    (places["other"] / "before_provenance.json").write_text(json.dumps(record))
    del record["options"]["point"]
    (places["bare"] / "before_provenance.json").write_text(json.dumps(record))
    edited = places["edited"] / "before_label-lesion_dseg.nii.gz"
    data = bytearray(edited.read_bytes())
    data[-1] ^= 1
    edited.write_bytes(data)
    places["failed"].mkdir()
    failure = {"input": {"path": "x.nii.gz"}, "error": "x.nii.gz: is truncated"}
    (places["failed"] / "x_failure.json").write_text(json.dumps(failure))
    return places | {"scan": scan, "scans": scan.parent, "result": out / "before"}


def test_without_simpleitk_it_is_one_line_before_any_work(
    scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    made = call("compare", scans["before"], scans["after"], "-o", tmp_path / "out")
    made.refused(6, "registration and N4 need SimpleITK", 'pip install "uadtk[preprocess]"')
    assert not (tmp_path / "out").exists()


def test_python_gives_the_same_from_scans_results_and_folders(
    done: tuple[Done, Path], scans: dict[str, Path], calibrated: Path, tmp_path: Path
) -> None:
    _, out = done
    expected = json.loads((out / "compare.json").read_text())["changes"]
    model = uadtk.open(calibrated, threads=1)
    first = model.segment(scans["before"])
    image = nib.load(scans["after"])
    for after, opened in ((model.segment(scans["after"]), None), (out / "after", None), (image, model)):
        found = uadtk.compare(first, after, model=opened)
        assert json.loads(json.dumps([asdict(change) for change in found.changes])) == [
            {key: change[key] for key in asdict(found.changes[0])} for change in expected
        ]
        assert (found.counts["new"], found.counts["grown"], found.counts["same"]) == (1, 1, 0)
        assert repr(found) == "\n".join(done[0].out.splitlines()[:-1])
    paths = found.save(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {path.name for path in paths.values()}
    assert "in memory" in paths["html"].read_text()
    with pytest.raises(UsageError, match="exists"):
        found.save(tmp_path / "saved")


def test_python_writes_what_the_command_writes(
    done: tuple[Done, Path], scans: dict[str, Path], calibrated: Path, tmp_path: Path
) -> None:
    found = uadtk.compare(scans["before"], scans["after"], tmp_path / "out", calibrated, threads=1)
    assert (tmp_path / "out" / "compare.tsv").read_bytes() == (done[1] / "compare.tsv").read_bytes()
    assert (tmp_path / "out" / "before" / "before_report.html").exists()
    assert found.to_after.shape == (4, 4)
    assert found.notes == json.loads((done[1] / "compare.json").read_text())["notes"]
    unwritten = uadtk.compare(scans["before"], scans["after"], model=calibrated, threads=1)
    assert unwritten.changes == found.changes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_python_refuses_what_the_command_refuses(scans: dict[str, Path], calibrated: Path, stranger: Path) -> None:
    model = uadtk.open(calibrated, threads=1)
    first = model.segment(scans["before"])
    with pytest.raises(UsageError, match="segmented already"):
        uadtk.compare(first, stranger, model=model)
    with pytest.raises(DataError, match="do not look like scans of one head"):
        uadtk.compare(first, stranger)
    with pytest.raises(DataError, match="the same scan"):
        uadtk.compare(first, scans["before"], model=model)
    with pytest.raises(UsageError, match="another checkpoint"):
        uadtk.compare(first, scans["after"])
