from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest

from tests.commands import call
from uadtk.core.errors import DataError, UsageError
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.io.bids_out import BidsName, refuse_unexportable, write_bids
from uadtk.io.cohort import Row, read_cohort
from uadtk.io.names import safe_name
from uadtk.io.own import is_own
from uadtk.io.results import MNI, ScanState, failed, output_paths, with_place
from uadtk.io.write import write_json, write_nifti, write_text

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def state(folder: Path, name: str, image: str = "") -> ScanState:
    """A scan that is done, with small files."""
    folder.mkdir(exist_ok=True)
    box = np.zeros((6, 6, 6), bool)
    box[2:4, 2:4, 2:4] = True
    files = output_paths(folder, name)
    write_nifti(files["mask"], Mask(box, AFFINE))
    write_nifti(files["brain"], Mask(~box, AFFINE))
    write_nifti(files["components"], Volume(box.astype(np.int32), AFFINE))
    write_nifti(files["score"], ScoreMap(box.astype(np.float32), AFFINE))
    write_nifti(files["reconstruction"], Scan(box.astype(np.float32), AFFINE))
    for key in ("findings_json", "provenance"):
        write_json(files[key], {})
    for key in ("findings_tsv", "report", "thumbnail"):
        write_text(files[key], "x")
    files = {key: path for key, path in files.items() if path.exists()}
    return ScanState(folder, name, "done", files=files, image=image or f"/data/{name}.nii.gz")


def raw(name: str) -> str:
    """Where a scan of this BIDS name lies."""
    levels = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    return "/".join(["/data/raw tree", *levels, "anat", f"{name}.nii.gz"])


def session(folder: Path) -> list[ScanState]:
    """FLAIR and T1w of one session, whose outputs are named as segment names them."""
    return [
        state(folder, "sub-01_ses-1", raw("sub-01_ses-1_FLAIR")),
        state(folder, "sub-01_ses-1_2", raw("sub-01_ses-1_T1w")),
    ]


@pytest.mark.parametrize(
    ("name", "image", "folder", "mask"),
    [
        (
            "sub-01_ses-02_run-1",
            raw("sub-01_ses-02_run-1_FLAIR"),
            "sub-01/ses-02/anat",
            "sub-01_ses-02_run-1_label-lesion_desc-FLAIR_mask.nii.gz",
        ),
        (
            "sub-01_ses-02_2",
            raw("sub-01_ses-02_T1w"),
            "sub-01/ses-02/anat",
            "sub-01_ses-02_label-lesion_desc-T1w_mask.nii.gz",
        ),
        (
            "sub-1",
            raw("sub-1_run-2_acq-3D_space-MNI152Lin_desc-preproc_FLAIR"),
            "sub-1/anat",
            "sub-1_acq-3D_run-2_space-MNI152Lin_label-lesion_desc-preprocFLAIR_mask.nii.gz",
        ),
        (
            "sub-1",
            "/raw/sub-1/ses-b/anat/sub-1_FLAIR.nii",
            "sub-1/ses-b/anat",
            "sub-1_ses-b_label-lesion_desc-FLAIR_mask.nii.gz",
        ),
        ("sub-07_ses-2", "/x/flair.nii", "sub-07/ses-2/anat", "sub-07_ses-2_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("sub-7", "/x/sub-7_FLAIR_brain.nii", "sub-7/anat", "sub-7_label-lesion_desc-brainFLAIR_mask.nii.gz"),
        ("sub-7", "/x/sub-7_T1w_brain.nii", "sub-7/anat", "sub-7_label-lesion_desc-brainT1w_mask.nii.gz"),
        ("sub-7_2", "/x/b.nii", "sub-7/anat", "sub-7_run-2_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("my scan (2)", "", "sub-myscan2/anat", "sub-myscan2_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("\u05d0", "", "sub-defba94d/anat", "sub-defba94d_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("\u05d1", "", "sub-7c1562f2/anat", "sub-7c1562f2_label-lesion_desc-FLAIR_mask.nii.gz"),
        (
            "sub-M1",
            "/x/sub-M1_acq-e\u0301_FLAIR.nii",
            "sub-M1/anat",
            "sub-M1_acq-4a99557e_label-lesion_desc-FLAIR_mask.nii.gz",
        ),
        ("a b_2", "", "sub-ab2/anat", "sub-ab2_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("../../etc", "", "sub-etc/anat", "sub-etc_label-lesion_desc-FLAIR_mask.nii.gz"),
        ("sub-../x_FLAIR", "", "sub-subxFLAIR/anat", "sub-subxFLAIR_label-lesion_desc-FLAIR_mask.nii.gz"),
    ],
)
def test_names(name: str, image: str, folder: str, mask: str) -> None:
    made = BidsName.of(name, image)
    assert made.folder.as_posix() == folder
    assert made.file("mask") == mask


@pytest.mark.parametrize(
    ("name", "subject", "study_date", "prefix"),
    [
        ("P08152", "P08152", "", "sub-P08152"),
        ("P08152", "P08152", "20200115", "sub-P08152_ses-20200115"),
        ("P08152_2", "P08152", "20210203", "sub-P08152_ses-20210203_run-2"),
        ("P08152_2", "P08152", "", "sub-P08152_run-2"),
        ("P08152_2", "P08152_2", "20210203", "sub-P081522_ses-20210203"),  # another patient's number
        ("P-7_ses-2", "P 7", "", "sub-P7_ses-2"),
        ("P-7_ses-2_3", "P 7", "20210203", "sub-P7_ses-2_run-3"),
        ("other", "P 7", "20210203", "sub-other_ses-20210203"),
        (safe_name("P" * 200), "P" * 200, "20210203", f"sub-{'P' * 200}_ses-20210203"),
    ],
)
def test_the_studies_of_a_patient_are_sessions(name: str, subject: str, study_date: str, prefix: str) -> None:
    made = BidsName.of(name, "/archive/7/series", subject, study_date)
    assert made.file("mask") == f"{prefix}_label-lesion_desc-FLAIR_mask.nii.gz"
    session = [part for part in prefix.split("_") if part.startswith("ses-")]
    assert made.folder.parts == (prefix.partition("_")[0], *session, "anat")


def test_two_people_never_become_one(tmp_path: Path) -> None:
    record = {"subject": "P-1", "facts": {"StudyDate": "20200115"}}
    first = replace(state(tmp_path / "out", "P-1"), provenance={"input": record})
    other = {"subject": "P1", "facts": {"StudyDate": "20210203"}}
    second = replace(state(tmp_path / "out", "P1"), provenance={"input": other})
    with pytest.raises(DataError, match="'P-1' and 'P1' have the same BIDS name"):
        write_bids([first, second], tmp_path / "bids")
    with pytest.raises(DataError, match="'P-1' and 'P1' have the same BIDS name"):
        refuse_unexportable(tmp_path / "out", ["P1"], [Row("P1", Path("/a/b"))], [first])
    second = replace(second, name="P-1_2", provenance={"input": {**other, "subject": "P-1"}})
    write_bids([first, second], tmp_path / "b")
    assert {path.name for path in (tmp_path / "b").glob("sub-*/*")} == {"ses-20200115", "ses-20210203"}


@pytest.mark.parametrize("image", ["/raw/sub-1/anat/sub-1_T1w.nii", "/x/flair.nii"])
def test_a_scan_that_failed_keeps_its_place_for_others(image: str, tmp_path: Path) -> None:
    """Of the second image the name alone would not say whose it is."""
    error = DataError("is empty", image)
    source = {"path": image, "absolute": image, "subject": "P 1"}
    write_json(tmp_path / "P-1_failure.json", {"input": source, "error": error.one_line()})
    state = failed(tmp_path, "P-1", Path(image), error)
    refuse_unexportable(tmp_path, ["P-1_2"], [Row("P 1", Path("/y/flair.nii"))], [state])
    (tmp_path / "P-1_failure.json").unlink()  # of an error that leaves none
    assert failed(tmp_path, "P-1", Path(image), error).image == image


@pytest.mark.parametrize("date", ["", "2020", "20200115 ", None, 20200115.5, ["20200115"], "../../x"])
def test_what_is_no_date_is_no_session(date: Any, tmp_path: Path) -> None:
    made = replace(state(tmp_path / "out", "P"), provenance={"input": {"subject": "P", "facts": {"StudyDate": date}}})
    write_bids([made], tmp_path / "bids")
    assert [path.name for path in (tmp_path / "bids").glob("sub-*/*")] == ["anat"]


def test_a_tree_and_its_results_that_are_moved_together_keep_their_links(tmp_path: Path) -> None:
    """Repeated after the move, the export has nothing to write."""
    before, after = tmp_path / "before", tmp_path / "after"
    image = before / "raw/sub-1/anat/sub-1_FLAIR.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch()
    source = {"path": "raw/sub-1", "absolute": str(image)}
    made = replace(state(before / "out", "sub-1"), provenance={"input": with_place(source, before / "out")})
    write_json(made.files["provenance"], made.provenance)
    write_bids([made], before / "out/derivatives/uadtk")
    before.rename(after)
    target = after / "out/derivatives/uadtk"
    moved = replace(made, folder=after / "out", files={key: after / "out" / p.name for key, p in made.files.items()})
    assert write_bids([moved], target) == []
    links = json.loads((target / "dataset_description.json").read_text())["DatasetLinks"]
    assert links == {"raw": "../../../raw"}
    assert (target / links["raw"]).resolve() == after / "raw"


def test_contrasts_of_one_session_lie_side_by_side(tmp_path: Path) -> None:
    target = tmp_path / "derivatives" / "uadtk"
    written = write_bids(session(tmp_path / "out"), target)
    assert len(written) == 2 * (10 + 4 + 1) + 3
    anat = target / "sub-01/ses-1/anat"
    for suffix in ("FLAIR", "T1w"):
        mask = nib.load(anat / f"sub-01_ses-1_label-lesion_desc-{suffix}_mask.nii.gz")
        assert int(np.asarray(mask.dataobj).sum()) == 8
        about = json.loads((anat / f"sub-01_ses-1_label-lesion_desc-{suffix}_mask.json").read_text())
        assert about["Type"] == "Lesion"
        assert about["Sources"][1] == f"bids:raw:sub-01/ses-1/anat/sub-01_ses-1_{suffix}.nii.gz"
        assert (anat / f"sub-01_ses-1_desc-{suffix}lesions_dseg.tsv").read_text().startswith("index\tname\tcolor\n1\t")
    links = json.loads((target / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["raw"] == "file:///data/raw%20tree"


def test_again_replaces_what_was_there_of_these_scans_alone(tmp_path: Path) -> None:
    flair, t1 = session(tmp_path / "out")
    write_bids([flair, t1], tmp_path / "bids")
    anat = tmp_path / "bids/sub-01/ses-1/anat"
    bare = replace(flair, files={key: path for key, path in flair.files.items() if key != "reconstruction"})
    write_bids([bare, replace(t1, status="failed")], tmp_path / "bids")
    there = {path.name for path in anat.iterdir()}
    assert "sub-01_ses-1_label-lesion_desc-FLAIR_mask.nii.gz" in there
    assert not {name for name in there if "pseudohealthy" in name or "T1w" in name}
    write_bids([t1], tmp_path / "bids")
    assert {path.name for path in anat.iterdir()} > there


def test_of_a_scan_in_the_atlas_space_the_files_on_its_own_grid_are_exported(tmp_path: Path) -> None:
    made = state(tmp_path / "out", "sub-1", raw(f"sub-1_space-{MNI}_FLAIR"))
    resampled = tmp_path / "out" / "resampled.nii.gz"
    write_nifti(resampled, Mask(np.ones((3, 3, 3), bool), AFFINE))
    for files in ({"mask_mni": resampled, **made.files}, {**made.files, "mask_mni": resampled}):
        write_bids([replace(made, files=files)], tmp_path / "bids", overwrite=True)
        (mask,) = (tmp_path / "bids").rglob("*_label-lesion_*_mask.nii.gz")
        assert nib.load(mask).shape == (6, 6, 6)
        about = json.loads(mask.with_name(mask.name.replace(".nii.gz", ".json")).read_text())
        assert about["Description"].startswith("Voxels above")


def test_exports_are_never_taken_for_scans_or_masks(tmp_path: Path) -> None:
    write_bids(session(tmp_path / "out"), tmp_path / "bids")
    images = list((tmp_path / "bids").rglob("*.nii.gz"))
    assert len(images) == 10
    assert all(map(is_own, images))
    with pytest.raises(DataError, match="no NIfTI images"):
        read_cohort(tmp_path / "bids/sub-01/ses-1/anat")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    same = [state(tmp_path / "out", name) for name in ("a b", "ab")]
    with pytest.raises(DataError, match="'a b' and 'ab' have the same BIDS name"):
        write_bids(same, tmp_path / "bids")
    with pytest.raises(DataError, match="no scan that is done"):
        write_bids([], tmp_path / "bids")
    assert not (tmp_path / "bids").exists()
    call("export-bids", tmp_path / "none", tmp_path / "bids").refused(2, "no such folder")


def test_files_of_others_are_replaced_only_if_asked(tmp_path: Path) -> None:
    target, (flair, _) = tmp_path / "bids", session(tmp_path / "out")
    mask = target / "sub-01/ses-1/anat/sub-01_ses-1_label-lesion_desc-FLAIR_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.write_text("by hand")
    with pytest.raises(UsageError, match="exists"):
        write_bids([flair], target)
    write_bids([replace(flair, status="failed"), state(tmp_path / "out", "p")], target)
    assert mask.read_text() == "by hand"
    assert write_bids([flair], target, overwrite=True)
    assert nib.load(mask).shape == (6, 6, 6)
    (target / "dataset_description.json").write_text('{"Name": "Another", "GeneratedBy": [{"Name": "fmriprep"}]}')
    with pytest.raises(UsageError, match="uadtk did not make"):
        write_bids([flair], target)
    write_bids([flair], target, overwrite=True)
    assert json.loads((target / "dataset_description.json").read_text())["Name"] == "uadtk lesion segmentations"


def stamps(target: Path) -> dict[str, tuple[int, int]]:
    """What changes if a file is written again."""
    files = [path for path in target.rglob("*") if path.is_file() and "lock" not in path.name]
    return {str(path.relative_to(target)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(params=["links", "copies"])
def linked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with hard links, and without."""
    if request.param == "copies":
        monkeypatch.setattr("os.link", Mock(side_effect=OSError))


@pytest.mark.usefixtures("linked")
def test_only_what_is_missing_or_has_changed_is_written(tmp_path: Path) -> None:
    target, (flair, t1) = tmp_path / "bids", session(tmp_path / "out")
    write_bids([flair, t1], target)
    before = stamps(target)
    assert write_bids([flair, t1], target) == []
    assert stamps(target) == before

    # done again: files of the same names and sizes, another manifest
    write_json(flair.files["provenance"], {"files": {}, "again": 1})
    written = {str(path) for path in write_bids([flair, t1], target)}
    assert written == {name for name in before if "T1w" not in name and name.startswith("sub-")}
    assert "again" in (target / "sub-01/ses-1/anat/sub-01_ses-1_desc-FLAIR_provenance.json").read_text()
    assert {name for name, stamp in stamps(target).items() if before[name] == stamp} >= before.keys() - written

    anat = target / "sub-01/ses-1/anat"
    for spoil in (
        lambda: (anat / "sub-01_ses-1_label-lesion_desc-T1w_mask.nii.gz").unlink(),
        lambda: replaced(anat / "sub-01_ses-1_desc-T1w_report.html", "cut"),
        lambda: replaced(anat / "sub-01_ses-1_label-lesion_desc-T1w_mask.json", "{}"),
    ):
        spoil()
        written = {str(path) for path in write_bids([flair, t1], target)}
        assert written == {name for name in before if "T1w" in name}
        assert write_bids([flair, t1], target) == []
    assert stamps(target).keys() == before.keys()


def replaced(path: Path, text: str) -> None:
    path.unlink()  # which may be a link to the folder's own
    path.write_text(text)


def test_an_interrupted_export_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, (flair, t1) = tmp_path / "bids", session(tmp_path / "out")
    write_bids([flair], target)
    expected = {path.name: path.read_bytes() for path in target.rglob("*FLAIR*") if path.is_file()}
    write_json(flair.files["provenance"], {"files": {}, "again": 1})
    replace_file = Path.replace

    def killed(self: Path, there: Path) -> Path:
        if "_report" in there.name:
            raise KeyboardInterrupt
        return replace_file(self, there)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_bids([flair, t1], target)
    monkeypatch.undo()
    manifest = target / "sub-01/ses-1/anat/sub-01_ses-1_desc-FLAIR_provenance.json"
    assert "unfinished" in manifest.read_text()
    written = {path.name for path in write_bids([flair, t1], target)}
    assert written == {path.name for path in target.rglob("sub-*") if path.is_file()}
    assert json.loads(manifest.read_text())["again"] == 1
    assert {path.name for path in target.rglob("*FLAIR*") if path.is_file()} == expected.keys()
    assert write_bids([flair, t1], target) == []


def test_what_people_add_to_the_description_stays_and_links_keep_their_names(tmp_path: Path) -> None:
    target, (flair, t1) = tmp_path / "bids", session(tmp_path / "out")
    write_bids([flair], target)
    about = target / "dataset_description.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "Authors": ["A. B."], "Name": "Ours"}))
    (target / "README").write_text("Ours.")
    (target / ".bidsignore").write_text("notes/\n")
    other = state(tmp_path / "out", "sub-00", "/a/raw/sub-00/anat/sub-00_FLAIR.nii.gz")  # sorted before the first
    written = write_bids([flair, other], target)
    record = json.loads(about.read_text())
    assert (record["Authors"], record["Name"], (target / "README").read_text()) == (["A. B."], "Ours", "Ours.")
    assert (target / ".bidsignore").read_text().splitlines()[:2] == ["notes/", "*_statmap.nii.gz"]
    assert record["DatasetLinks"] == {"raw": "file:///data/raw%20tree", "raw1": "file:///a/raw"}
    assert not [path for path in written if "sub-01" in path.parts]
    write_bids([t1], target)  # of another folder, whose scans lie elsewhere
    assert json.loads(about.read_text())["DatasetLinks"] == record["DatasetLinks"]


@pytest.mark.slow
def test_the_official_validator_finds_nothing(tmp_path: Path) -> None:
    program = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    studies = [
        replace(state(tmp_path / "out", name), provenance={"input": {"subject": "P", "facts": {"StudyDate": date}}})
        for name, date in (("P", "20200115"), ("P_2", "20210203"), ("P_3", "20210203"))
    ]
    everything = [*session(tmp_path / "out"), state(tmp_path / "out", "patient7"), *studies]
    write_bids(everything, tmp_path / "bids")
    done = subprocess.run([program, "--json", tmp_path / "bids"], capture_output=True, text=True, timeout=300)
    found: list[dict[str, Any]] = json.loads(done.stdout)["issues"]["issues"]
    # of a scan that is not from a BIDS tree, nothing can say where it lies
    of_none = [one for one in found if re.search(r"sub-(patient7|P_.*)_label-brain", one.get("location", ""))]
    sources = [one for one in of_none if one.get("subCode") == "Sources"]
    authors = [one for one in found if one["code"] == "TOO_FEW_AUTHORS"]  # for people to fill in
    assert [one for one in found if one not in [*sources, *authors]] == []


def test_an_export_that_was_killed_between_two_files_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states, target = session(tmp_path / "out"), tmp_path / "bids"
    real = Path.replace

    def replace(self: Path, other: Path) -> Path:
        if other == target / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_label-lesion_desc-FLAIR_mask.nii.gz":
            raise KeyboardInterrupt
        return real(self, other)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write_bids(states, target)
    assert (target / "dataset_description.json").exists()
    write_bids(states, target)
    everything = set(write_bids(states, tmp_path / "other"))
    assert {path.relative_to(target) for path in target.rglob("*") if path.is_file()} == everything
    assert write_bids(states, target) == []
