"""Every command does what it is for, with data on stdout and words for people on stderr."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import uadtk
from tests.commands import TINY, Done, call
from uadtk import checkpoint as checkpoints
from uadtk.cli import _ORDER, _command
from uadtk.cli._lazy import as_command
from uadtk.core.preparation import Preparation
from uadtk.core.spec import Spec
from uadtk.kernels import label_components


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


# Train, threshold, inspect -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done, Done]:
    """A tiny scale-space model, trained and calibrated by the two commands."""
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    options = [f"--{name}={value}" for name, value in {**TINY, "epochs": 2, "batch": 16}.items()]
    training = call("train", "scalespace", small_cohort, "-o", path, "--no-augment", *options, "--prepare", "side=128")
    calibration = call("threshold", "--model", path, "--healthy", small_cohort, "--split", "validation")
    return path, training, calibration


def test_train_says_how_it_goes_and_prints_where_it_is(trained: tuple[Path, Done, Done]) -> None:
    path, done, _ = trained
    assert (done.code, done.out) == (0, f"{path}\n")
    said = done.said
    assert re.fullmatch(r"\d+ slices of 3 scans to train on, \d+ of 1 to validate", said[0])
    assert [re.match(r"epoch +(\d) +train [\d.]+ +validation [\d.]+", line)[1] for line in said[1:]] == ["1", "2"]
    log = [json.loads(line) for line in path.with_name("model.log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    made = checkpoints.load(path)
    assert made.options["widths"] == [4]
    assert made.training["schedule"]["augment"] is False
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "model.log.jsonl",
        "model.safetensors",
        "model.training.html",
    ]


def test_threshold_adds_a_point_and_leaves_the_weights(trained: tuple[Path, Done, Done]) -> None:
    path, training, calibration = trained
    assert calibration.code == 0
    (point,) = checkpoints.load(path).points
    assert f"{path}: p98 = {point.threshold:.6g} (98 % of healthy brain voxels; 1 scans; " in calibration.out
    assert (point.scans, point.strategy) == (1, Spec("p98"))
    assert point.measured["voxel_fpr"] == pytest.approx(0.02, abs=0.002)
    assert checkpoints.load(path).training["epochs"] == 2
    assert training.code == 0


def test_several_points_and_the_choice_among_them(
    trained: tuple[Path, Done, Done], small_cohort: Path, scan: Path, tmp_path: Path
) -> None:
    path = tmp_path / "copy.safetensors"
    shutil.copy(trained[0], path)
    healthy = ["--healthy", small_cohort, "--split", "validation"]
    low = ["threshold", "--model", path, *healthy, "--strategy", "p98:percentile=80", "--name"]
    assert call(*low, "low").said == ["segment takes 'p98' unless it gets --point low; --name default changes that"]
    assert [point.name for point in checkpoints.load(path).points] == ["p98", "low"]
    assert checkpoints.load(path).weights == checkpoints.load(trained[0]).weights
    volumes = []
    for point in ("p98", "low"):
        done = call("segment", scan, "--model", path, "--point", point, "-o", tmp_path / point)
        volumes.append(float(rows(done.out)[0]["volume_ml"]))
    assert 0 < volumes[0] < volumes[1]
    default = rows(call("segment", scan, "--model", path, "-o", tmp_path / "default").out)[0]
    assert float(default["volume_ml"]) == volumes[0]
    assert call(*low, "default").said == []
    default = rows(call("segment", scan, "--model", path, "-o", tmp_path / "mine").out)[0]
    assert float(default["volume_ml"]) == volumes[1]


def test_inspect_for_people_and_for_programs(trained: tuple[Path, Done, Done]) -> None:
    path = trained[0]
    shown = call("inspect", path).out
    for words in (
        "model        scalespace (uadtk",
        "levels = 2",
        "side = 128",
        "scorer       residual",
        "point        p98",
    ):
        assert words in shown
    record = json.loads(call("inspect", path, "--json").out)
    assert record["digest"] == checkpoints.load(path).digest
    assert record["points"][0]["threshold"] == checkpoints.load(path).points[0].threshold
    assert "training     none" in call("inspect", "histeq").out


# Segment -----------------------------------------------------------------------------------------------------------


def test_segment_one_scan_with_a_trained_model(
    trained: tuple[Path, Done, Done], scan: Path, tmp_path: Path, small_cohort: Path
) -> None:
    out = tmp_path / "out"
    done = call("segment", scan, "--model", trained[0], "-o", out, "--device", "cpu", "--threads", "1")
    assert done.code == 0
    warned, usual = done.err.splitlines()
    assert warned.startswith(f"{scan}: amber: ")  # pixels of 3 mm
    assert usual.startswith("lesion-free scans have a median of ")
    (row,) = rows(done.out)
    assert (row["name"], row["status"], row["report_or_error"]) == ("s4", "done", str(out / "s4_report.html"))
    findings = rows((out / "s4_findings.tsv").read_text())
    assert int(row["findings"]) == len(findings) > 0
    assert float(row["volume_ml"]) == pytest.approx(sum(float(f["volume_ml"]) for f in findings), abs=1e-3)
    lesion, mask = voxels(small_cohort.parent / "s4_lesion.nii.gz") > 0, voxels(out / "s4_label-lesion_mask.nii.gz") > 0
    assert (mask & lesion).sum() / lesion.sum() > 0.5
    assert not voxels(out / "s4_desc-pseudohealthy_FLAIR.nii.gz")[voxels(scan) == 0].any()
    assert not (out / "summary.tsv").exists()


def test_the_reconstruction_is_in_the_scans_intensity(weighted: Path, scan: Path, tmp_path: Path) -> None:
    """A model that passes the low frequencies through looks like the scan before it has learned anything."""
    fresh = checkpoints.new("scalespace", {**TINY, "lowpass": 0}, Preparation())
    path = tmp_path / "m.safetensors"
    points = checkpoints.load(weighted).points
    replace(fresh, weights=checkpoints.pack(fresh.new_model()), points=points).save(path)
    assert call("segment", scan, "--model", path, "-o", tmp_path / "out").code == 0
    rebuilt, image = voxels(tmp_path / "out" / "s4_desc-pseudohealthy_FLAIR.nii.gz"), voxels(scan)
    assert rebuilt[image > 0].mean() / image[image > 0].mean() == pytest.approx(1, abs=0.15)


def test_segment_many_scans(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    scans = [small_cohort.parent / f"s{i}.nii.gz" for i in (0, 4)]
    done = call("segment", *scans, "--model", histeq, "-o", tmp_path)
    assert [row["name"] for row in rows(done.out)] == ["s0", "s4"]
    assert (tmp_path / "summary.tsv").read_text() == done.out


def test_segment_a_split_of_a_cohort(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    done = call("segment", small_cohort, "--split", "train", "--model", histeq, "-o", tmp_path / "out")
    assert done.code == 0
    *warnings, usual = done.err.splitlines()
    assert all(": amber: " in line for line in warnings)
    assert usual.startswith("lesion-free scans have a median of ")
    assert [row["name"] for row in rows(done.out)] == ["s0", "s1", "s2"]


def test_segment_a_bids_tree(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    for subject, session in (("sub-1", "ses-a"), ("sub-1", "ses-b"), ("sub-2", "")):
        folder = tmp_path / "bids" / subject / session / "anat"
        folder.mkdir(parents=True)
        name = "_".join(filter(None, (subject, session, "FLAIR.nii.gz")))
        shutil.copy(small_cohort.parent / "s0.nii.gz", folder / name)
    out = tmp_path / "bids" / "derivatives" / "uadtk"
    done = call("segment", tmp_path / "bids", "--model", histeq, "-o", out)
    assert [row["name"] for row in rows(done.out)] == ["sub-1_ses-a", "sub-1_ses-b", "sub-2"]
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    again = call("segment", tmp_path / "bids", "--model", histeq, "-o", out, "--overwrite")
    assert rows(again.out) == rows(done.out)  # our own results are not taken for scans


@pytest.mark.parametrize("link", ["derivatives", "derivatives/uadtk"])
def test_a_derivative_is_not_written_through_a_link(
    histeq: Path, small_cohort: Path, tmp_path: Path, link: str
) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(victim)
    asked = ("segment", small_cohort.parent / "s0.nii.gz", "--model", histeq, "-o", out, "--layout", "bids")
    call(*asked).refused(2, "links below an output folder are not followed")
    assert not list(victim.iterdir())
    assert [path for path in out.rglob("*") if path.is_file()] == []  # before the work


def test_a_bids_tree_becomes_a_bids_derivative_that_follows_the_folder(
    histeq: Path, small_cohort: Path, tmp_path: Path
) -> None:
    for subject in ("sub-1", "sub-2"):
        folder = tmp_path / "bids" / subject / "ses-a" / "anat"
        folder.mkdir(parents=True)
        shutil.copy(small_cohort.parent / "s0.nii.gz", folder / f"{subject}_ses-a_acq-3D_FLAIR.nii.gz")
    out = tmp_path / "out"
    derivative = out / "derivatives" / "uadtk"
    flat = ["segment", tmp_path / "bids", "--model", histeq, "-o", out]
    assert call(*flat, "--layout", "flat").code == 0
    assert not derivative.exists()
    before = {path: path.stat().st_ino for path in out.glob("sub-*")}
    for shard in ("1/2", "2/2"):
        assert call(*flat, "--shard", shard).code == 0
    masks = sorted(path.relative_to(derivative).as_posix() for path in derivative.rglob("*_mask.nii.gz"))
    stem = "sub-{0}/ses-a/anat/sub-{0}_ses-a_acq-3D_label-{1}_desc-FLAIR_mask.nii.gz"
    assert masks == [stem.format(n, what) for n in (1, 2) for what in ("brain", "lesion")]
    assert {path: path.stat().st_ino for path in out.glob("sub-*")} == before  # done before
    assert before[out / "sub-1_ses-a_acq-3D_label-lesion_mask.nii.gz"] == (derivative / masks[1]).stat().st_ino
    assert call(*flat, "--threshold", "0.9").code == 0
    assert (derivative / masks[1]).read_bytes() == (out / "sub-1_ses-a_acq-3D_label-lesion_mask.nii.gz").read_bytes()
    twins = [tmp_path / "a b.nii.gz", tmp_path / "ab.nii.gz"]
    for twin in twins:
        shutil.copy(small_cohort.parent / "s0.nii.gz", twin)
    refused = call("segment", *twins, "--model", histeq, "-o", tmp_path / "twins", "--layout", "bids")
    refused.refused(3, "the same BIDS name")
    assert not (tmp_path / "twins").exists()
    (derivative / "dataset_description.json").write_text('{"Name": "Somebody else\'s"}')
    before = {path: path.stat().st_ino for path in out.glob("sub-*")}
    call(*flat, "--threshold", "0.8").refused(2, "uadtk did not make")
    assert {path: path.stat().st_ino for path in out.glob("sub-*")} == before


def test_segment_follows_a_given_brain_mask_and_the_smallest_size(histeq: Path, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    brain = (np.asarray(image.dataobj) > 0) & (np.arange(24) < 14)
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), image.affine), tmp_path / "brain.nii.gz")
    options = ["--model", histeq, "--brain-mask", tmp_path / "brain.nii.gz"]
    call("segment", scan, *options, "-o", tmp_path / "all", "--min-voxels", "1")
    np.testing.assert_array_equal(voxels(tmp_path / "all" / "s4_desc-brain_mask.nii.gz") > 0, brain)
    call("segment", scan, *options, "-o", tmp_path / "large", "--min-volume-ml", "1.0")
    every = voxels(tmp_path / "all" / "s4_label-lesion_mask.nii.gz") > 0
    large = voxels(tmp_path / "large" / "s4_label-lesion_mask.nii.gz") > 0
    assert not every[~brain].any()
    labels, count = label_components(every, connectivity=26)
    wanted = [k for k in range(1, count + 1) if (labels == k).sum() * 0.045 >= 1.0]
    assert len(wanted) < count
    np.testing.assert_array_equal(large, np.isin(labels, wanted))


def test_other_cleaners_need_and_get_their_own_point(
    histeq: Path, scan: Path, small_cohort: Path, tmp_path: Path
) -> None:
    path, plain = tmp_path / "h.safetensors", ["--cleaner", "none"]
    shutil.copy(histeq, path)
    assert call("threshold", "--model", path, "--healthy", small_cohort, "--name", "plain", *plain).code == 0
    assert call("segment", scan, "--model", path, "--point", "plain", *plain, "-o", tmp_path / "out").code == 0


# The small ones ----------------------------------------------------------------------------------------------------


def test_models_plugins_and_doctor() -> None:
    assert re.search(r"^histeq +No learning", call("models").out, re.MULTILINE)
    listed = json.loads(call("models", "--json").out)
    assert {"histeq", "scalespace"} <= {model["name"] for model in listed}
    assert all(model["summary"] for model in listed)
    assert call("plugins").out == "no plugins installed\n"
    assert json.loads(call("plugins", "--json").out) == []
    doctor = call("doctor")
    assert f"uadtk        {uadtk.__version__}, Python 3." in doctor.out
    for library in ("torch", "deepbet", "SimpleITK", "nilearn", "cupy", "shipped", "plugins"):
        assert re.search(rf"^{library} +\S", doctor.out, re.MULTILINE), library
    assert all(done.err == "" for done in (call("models"), call("plugins"), doctor))


def test_version() -> None:
    assert call("--version") == Done(0, f"uadtk {uadtk.__version__}\n", "")


def test_no_command_shows_the_help() -> None:
    done = call()
    assert done.code == 2
    assert "Usage: uadtk" in done.out + done.err


def options_of(command: Any) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts + parameter.secondary_opts]


@pytest.mark.parametrize("name", [*_ORDER, "train scalespace"])
def test_help_names_every_option(name: str) -> None:
    done = call(*name.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out == call(*name.split(), "-h").out
    if name == "train scalespace":
        wanted = [f"--{word}" for word in ("levels", "widths", "kl-weight", "patience", "learning-rate", "no-masked")]
    else:
        wanted = options_of(as_command(_command(name), name))
    for option in wanted:
        assert option in done.out, option
    assert done.out.startswith(f"Usage: uadtk {name} ")


@pytest.mark.skipif(find_spec("nilearn") is None, reason='needs nilearn: pip install "uadtk[phantom]"')
def test_phantom_can_be_segmented(histeq: Path, tmp_path: Path) -> None:
    out = tmp_path / "phantom"
    grid = ["--slice-mm", "6", "--in-plane-mm", "3"]
    done = call("phantom", "-o", out, "--lesions", "ms", "--lesion-ml", "15", "--seed", "3", *grid)
    assert (done.code, done.out) == (0, f"{out / 'cohort.tsv'}\n")
    done = call("segment", out / "cohort.tsv", "--model", histeq, "-o", tmp_path / "out")
    assert (done.code, rows(done.out)[0]["status"]) == (0, "done")
    truth = voxels(out / "sub-phantom001_label-lesion_mask.nii.gz") > 0
    assert truth.sum() * 0.054 == pytest.approx(15, rel=0.15)
    score = voxels(tmp_path / "out" / "sub-phantom001_desc-anomaly_statmap.nii.gz")
    brain = voxels(out / "sub-phantom001_desc-brain_mask.nii.gz") > 0
    assert score[truth].mean() > score[brain & ~truth].mean() + 0.1


def test_the_names_that_models_may_not_take_are_those_of_the_command() -> None:
    from uadtk.cli.train import _settings
    from uadtk.training.train import RESERVED

    assert set(inspect.signature(_settings).parameters) == set(RESERVED)
