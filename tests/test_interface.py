"""The Python interface: the same results as the commands, from whatever holds a scan."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

import uadtk
from tests.commands import TINY, call, save_tiny
from tests.scans import patients
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import CheckpointError, DataError, UadtkError, UsageError
from uadtk.core.spec import Spec
from uadtk.interface import OpenModel, Result
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_scan


@pytest.fixture(autouse=True, scope="module")
def threads() -> Iterator[None]:
    """``uadtk.open`` decides how many threads torch uses; the tests that follow want theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="module")
def path(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the point ``p98``, made by the command."""
    made = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_tiny(made)
    assert call("threshold", "--model", made, "--healthy", cohort, "--split", "validation", "--threads", 1).code == 0
    return made


@pytest.fixture
def model(path: Path) -> OpenModel:
    return uadtk.open(path, threads=1)


@pytest.fixture(scope="module")
def scan(cohort: Path) -> Path:
    """A patient with a lesion."""
    return cohort.parent / "p2.nii.gz"


@pytest.fixture(scope="module")
def result(path: Path, scan: Path) -> Result:
    return uadtk.open(path, threads=1).segment(scan)


@pytest.fixture(scope="module")
def written(path: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``uadtk segment`` writes for this scan."""
    out = tmp_path_factory.mktemp("command") / "out"
    assert call("segment", scan, "--model", path, "-o", out).code == 0
    return out


def voxels(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def same(one: Result, other: Result) -> None:
    for name in ("mask", "score", "brain", "components"):
        np.testing.assert_array_equal(getattr(one, name).voxels, getattr(other, name).voxels)
        np.testing.assert_array_equal(getattr(one, name).affine, getattr(other, name).affine)
    assert one.findings == other.findings


# Import ------------------------------------------------------------------------------------------------------------


def printed(code: str) -> str:
    """What a new process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_uadtk_loads_nothing_heavy_and_names_what_it_offers() -> None:
    code = (
        "import sys, uadtk\n"
        "print(*sorted(set(sys.modules) & {'torch', 'numpy', 'numba', 'nibabel', 'scipy', 'typer'}))\n"
        "print(uadtk.__version__, *(name for name in uadtk.__all__ if name not in dir(uadtk)))\n"
        "try: uadtk.nothing\nexcept AttributeError as error: print(error)"
    )
    assert printed(code).splitlines() == ["", uadtk.__version__, "module 'uadtk' has no attribute 'nothing'"]


def test_what_it_offers_is_the_interface() -> None:
    from uadtk import interface

    assert {"open", "compare", "evaluate", "train"} <= set(uadtk.__all__) <= set(dir(uadtk))
    for name in ("open", "compare", "evaluate", "train"):
        assert getattr(uadtk, name) is getattr(interface, name)


def test_opening_a_model_imports_neither_training_nor_studies() -> None:
    code = (
        "import gc, sys, uadtk\n"
        "uadtk.open\n"
        "unused = ('uadtk.training', 'uadtk.study', 'uadtk.metrics.change', 'uadtk.interface.compared')\n"
        "print('torch' in sys.modules, gc.isenabled(), *(name for name in sys.modules if name.startswith(unused)))"
    )
    assert printed(code).split() == ["True", "True"]


# Segment -----------------------------------------------------------------------------------------------------------


def test_a_shipped_model_is_opened_by_name_and_finds_the_lesion(scan: Path) -> None:
    model = uadtk.open("scalespace", threads=1)
    assert "p98" in model.points
    found = model.segment(scan)
    lesion = voxels(scan.with_name("p2_lesion.nii.gz")) > 0
    assert (found.mask.voxels & lesion).sum() > 0.5 * lesion.sum()
    assert found.point == model.points["p98"]


def test_a_path_an_image_and_an_array_give_the_same_mask(model: OpenModel, scan: Path, result: Result) -> None:
    image = nib.load(scan)
    assert result.findings
    for found in (
        model.segment(str(scan)),
        model.segment(image),
        model.segment(read_scan(scan)),
        model.segment(np.asarray(image.dataobj), image.affine),
        model.segment(np.asarray(image.dataobj)[..., None], affine=image.affine.tolist()),
    ):
        same(found, result)


def test_the_mask_is_that_of_the_command(result: Result, written: Path) -> None:
    assert result.name == "p2"
    for name, volume in (
        ("label-lesion_mask", result.mask),
        ("label-lesion_dseg", result.components),
        ("desc-brain_mask", result.brain),
        ("desc-anomaly_statmap", result.score),
        ("desc-pseudohealthy_FLAIR", result.maps["reconstruction"]),
    ):
        np.testing.assert_array_equal(voxels(written / f"p2_{name}.nii.gz"), volume.voxels)
    told = json.loads((written / "p2_findings.json").read_text())["findings"]
    assert told == json.loads(json.dumps([asdict(finding) for finding in result.findings]))


def test_what_is_saved_is_what_the_command_writes(result: Result, written: Path, tmp_path: Path) -> None:
    paths = result.save(tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in written.iterdir()}
    assert set(paths.values()) == set((tmp_path / "out").glob("p2_*"))
    assert paths["mask"].name == "p2_label-lesion_mask.nii.gz"
    for file in written.iterdir():
        if file.name not in ("p2_provenance.json", "p2_report.html"):  # they tell the seconds
            assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name
    one, other = (json.loads((out / "p2_provenance.json").read_text()) for out in (written, tmp_path / "out"))
    assert one.pop("seconds").keys() == other.pop("seconds").keys()
    assert one["files"].pop("p2_report.html").keys() == other["files"].pop("p2_report.html").keys()
    assert one == other
    with pytest.raises(UsageError, match="output exists"):
        result.save(tmp_path / "out")
    assert result.save(tmp_path / "out", overwrite=True) == paths


def test_an_array_is_recorded_by_its_contents(model: OpenModel, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    array = np.asarray(image.dataobj)
    one, again, other = (
        model.segment(array, image.affine),
        model.segment(image),
        model.segment(array * np.float32(2), image.affine),
    )
    assert one.provenance["input"] == again.provenance["input"]
    assert one.provenance["input"]["path"] == "in memory"
    assert one.provenance["input"]["sha256"] != other.provenance["input"]["sha256"]
    assert {file.name.partition("_")[0] for file in one.save(tmp_path).values()} == {"scan"}


def test_a_brain_mask_may_be_a_path_an_image_or_an_array(model: OpenModel, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    brain = (np.asarray(image.dataobj) > 0) & (np.arange(24) < 14)
    stored = nib.Nifti1Image(brain.astype(np.uint8), image.affine)
    nib.save(stored, tmp_path / "brain.nii.gz")
    one, *others = (model.segment(scan, brain_mask=mask) for mask in (tmp_path / "brain.nii.gz", stored, brain))
    np.testing.assert_array_equal(one.brain.voxels, brain)
    assert not one.mask.voxels[~brain].any()
    for other in others:
        same(other, one)


def test_the_smallest_finding_can_be_chosen(model: OpenModel, scan: Path) -> None:
    every, large = model.segment(scan, min_voxels=1), model.segment(scan, min_volume_ml=1.0)
    assert len(every.findings) > len(large.findings)
    assert all(finding.volume_ml >= 1.0 for finding in large.findings)


def test_seconds_are_those_of_one_scan(model: OpenModel, scan: Path) -> None:
    first, second = model.segment(scan), model.segment(scan)
    assert set(first.provenance["seconds"]) == set(second.provenance["seconds"])
    assert {"read", "brain", "prepare", "network"} <= set(first.provenance["seconds"])


def test_a_cohort_is_written_scan_by_scan(model: OpenModel, cohort: Path, written: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    scans = [cohort.parent / "p2.nii.gz", tmp_path / "broken.nii.gz", cohort.parent / "p0.nii.gz"]
    outcomes = model.segment_cohort(scans, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # nothing is done before it is asked for
    found = dict(outcomes)
    assert list(found) == ["p2", "broken", "p0"]
    assert [outcome.error is None for outcome in found.values()] == [True, False, True]
    assert "broken.nii.gz" in str(found["broken"].error)
    mask = "p2_label-lesion_mask.nii.gz"
    assert (tmp_path / "out" / mask).read_bytes() == (written / mask).read_bytes()
    validation = model.segment_cohort(cohort, tmp_path / "validation", split="validation")
    assert [name for name, _ in validation] == ["p0", "p1"]


# In a notebook -----------------------------------------------------------------------------------------------------


def test_findings_make_a_data_frame(result: Result) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(result.findings)
    assert list(frame.columns) == ["label", "volume_ml", "centroid_mm", "peak", "mean", "peak_mm", "lobe"]
    assert frame.volume_ml.tolist() == [finding.volume_ml for finding in result.findings]


def test_volumes_are_arrays(result: Result) -> None:
    for volume in (result.mask, result.score, result.components):
        assert np.asarray(volume) is volume.voxels
    assert result.mask.voxels.dtype == bool
    assert result.mask.voxels.sum() * result.mask.voxel_ml == pytest.approx(sum(f.volume_ml for f in result.findings))


def test_jupyter_shows_a_picture_and_the_findings(result: Result) -> None:
    shown = replace(result, name="<i>p & q</i>")._repr_html_()
    assert "<i>" not in shown
    assert f"<b>&lt;i&gt;p &amp; q&lt;/i&gt;</b>: {len(result.findings)} findings" in shown
    assert "For research use only" in shown
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    picture = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    assert picture.format == "PNG"
    assert min(picture.size) > 50
    assert shown.count("<tr><td>") == min(20, len(result.findings))


def test_of_many_findings_the_first_are_shown(result: Result) -> None:
    many = replace(result.segmentation, findings=result.segmentation.findings[:1] * 23)
    shown = replace(result, segmentation=many)._repr_html_()
    assert "23 findings" in shown
    assert shown.count("<tr><td>") == 20
    assert "and 3 more" in shown


# Operating points --------------------------------------------------------------------------------------------------


def test_a_point_is_used_and_saved(model: OpenModel, path: Path, cohort: Path, scan: Path, tmp_path: Path) -> None:
    point = model.threshold(cohort, "p98:percentile=80", name="low", split="validation")
    assert model.points == {"p98": checkpoints.load(path).points[0], "low": point}
    low, by_itself, default = (model.segment(scan, point=one) for one in ("low", point, None))
    assert low.point == by_itself.point == point
    same(low, by_itself)
    assert low.mask.voxels.sum() > default.mask.voxels.sum() > 0
    np.testing.assert_array_equal(low.components.voxels > 0, low.mask.voxels)
    assert default.point.name == "p98"
    with pytest.raises(UsageError, match="output exists"):
        model.save(path)
    saved = model.save(tmp_path / "ours.safetensors")
    assert saved == tmp_path / "ours.safetensors"
    same(uadtk.open(saved, threads=1).segment(scan, point="low"), low)
    assert [one.name for one in checkpoints.load(path).points] == ["p98"]


def test_a_point_is_that_of_the_command(model: OpenModel, path: Path, cohort: Path, tmp_path: Path) -> None:
    output = tmp_path / "by-command.safetensors"
    options = ["--healthy", cohort, "--split", "validation", "--strategy", "p98:percentile=90", "--name", "n"]
    assert call("threshold", "--model", path, *options, "-o", output, "--threads", 1).code == 0
    model.threshold(read_cohort(cohort), "p98:percentile=90", name="n", split="validation")
    assert model.save(tmp_path / "by-python.safetensors").read_bytes() == output.read_bytes()


def test_a_budget_chooses_the_strategy(model: OpenModel, cohort: Path) -> None:
    promise = "healthy-fp:min_voxels=8,epsilon=0.5,delta=0.5"
    point = model.threshold(cohort, promise, budget="1 lesion/scan", split="validation")
    assert point.strategy == Spec.parse(promise).having(budget="1 lesion/scan")
    with pytest.raises(UsageError, match="needs 11 subjects, not 2"):
        model.threshold(cohort, budget="1 lesion/scan", split="validation")
    with pytest.raises(UsageError, match="a budget has no comma"):
        model.threshold(cohort, budget="0,5 ml/scan")
    assert list(model.points) == ["p98", "healthy-fp"]


def test_other_scorers_and_cleaners_may_be_chosen(path: Path, cohort: Path, scan: Path) -> None:
    model = uadtk.open(path, "residual:polarity=absolute", ["median:size=3"], threads=1)
    assert (model.checkpoint.scorer, model.checkpoint.cleaners) == (
        Spec.parse("residual:polarity=absolute"),
        (Spec.parse("median:size=3"),),
    )
    with pytest.raises(UsageError, match="was calibrated for residual"):
        model.segment(scan)
    point = model.threshold(cohort, name="own", split="validation")
    assert model.segment(scan, point="own").point == point
    assert uadtk.open(path, cleaners=[], threads=1).checkpoint.cleaners == ()


# Evaluate ----------------------------------------------------------------------------------------------------------


def timeless(evaluation: Any) -> Any:
    plain = json.loads(json.dumps(evaluation))
    for part in (plain["measures"], *plain["scans"]):
        part.pop("seconds")
        part.pop("peak_mb")
    return plain


def test_an_evaluation_is_that_of_the_command(model: OpenModel, path: Path, cohort: Path) -> None:
    done = call("evaluate", path, cohort, "--split", "test", "--where", "collection=ms", "--json", "--threads", 1)
    assert done.code == 0
    own, bare = json.loads(done.out)
    for found in (
        uadtk.evaluate(model, cohort, split="test", where={"collection": "ms"}),
        model.evaluate(read_cohort(cohort), split="test", where={"collection": "ms"}),
    ):
        assert found.baseline is not None
        assert timeless(found.model.to_json()) == timeless(own)
        assert timeless(found.baseline.to_json()) == timeless(bare)


def test_histeq_has_no_baseline_but_itself(cohort: Path) -> None:
    found = uadtk.evaluate(uadtk.open("histeq", threads=1), cohort, where={"collection": "ms"}, grid="model")
    assert found.baseline is None
    assert (found.model.model, found.model.grid) == ("histeq", "model")


# Train -------------------------------------------------------------------------------------------------------------


def test_a_training_is_that_of_the_command(small_cohort: Path, tmp_path: Path) -> None:
    by_python, by_command = tmp_path / "python" / "m.safetensors", tmp_path / "command" / "m.safetensors"
    for path in (by_python, by_command):
        path.parent.mkdir()
    model = uadtk.train("scalespace", small_cohort, by_python, epochs=1, batch=16, threads=1, **dict[str, Any](TINY))
    options = [word for name, value in TINY.items() for word in (f"--{name}", value)]
    done = call("train", "scalespace", small_cohort, "-o", by_command, "--epochs", 1, "--batch", 16, *options)
    assert done.code == 0, done
    one, other = (checkpoints.load(path) for path in (by_python, by_command))
    assert one.training.pop("date") <= other.training.pop("date")
    one.save(tmp_path / "one.safetensors")
    other.save(tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    assert model.checkpoint.weights == one.weights
    point = model.threshold(small_cohort, split="validation")
    assert model.segment(small_cohort.parent / "s4.nii.gz").point == point


# Errors ------------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_an_error_of_uadtk(model: OpenModel, scan: Path, cohort: Path, tmp_path: Path) -> None:
    array = voxels(scan)
    own = uadtk.open(model.checkpoint.source, scorer="own", threads=1)
    wrong: list[tuple[Any, type[UadtkError], str]] = [
        (lambda: own.segment(scan), UsageError, "needs score, which model 'scalespace' does not provide"),
        (lambda: uadtk.open("scalespce"), UsageError, "Did you mean 'scalespace'"),
        (lambda: uadtk.open("vae"), UsageError, "no weights are shipped"),
        (lambda: uadtk.open(tmp_path / "none.safetensors"), CheckpointError, "none.safetensors: cannot be read"),
        (lambda: uadtk.open("histeq", device="cuda"), UadtkError, "no CUDA device is available"),
        (lambda: model.segment(array), UsageError, "an array has no place in space"),
        (lambda: model.segment(tmp_path / "none.nii.gz"), DataError, "none.nii.gz: no such file"),
        (lambda: model.segment(np.zeros_like(array), np.eye(4)), DataError, "contains no image"),
        (lambda: model.segment(scan, brain_mask=array[..., 1:] > 0), DataError, "is not the scan's"),
        (lambda: model.segment(scan, point="p97"), UsageError, "no operating point 'p97'"),
        (
            lambda: model.segment(scan, point=replace(model.points["p98"], cleaners=())),
            UsageError,
            "was calibrated for residual",
        ),
        (lambda: model.segment_cohort(cohort, tmp_path, point="p97"), UsageError, "no operating point 'p97'"),
        (lambda: model.segment_cohort(cohort, tmp_path, split="none"), DataError, "no scans in split 'none'"),
        (lambda: model.threshold(cohort, "p89"), UsageError, "Did you mean 'p98'"),
        (lambda: model.threshold(tmp_path / "none.tsv"), DataError, "none.tsv"),
        (lambda: uadtk.evaluate(model, cohort, point="p97"), UsageError, "no operating point 'p97'"),
        (lambda: uadtk.evaluate(model, cohort, where={"colour": "red"}), UsageError, "no column 'colour'"),
        (lambda: uadtk.train("vea", cohort, tmp_path / "m.safetensors"), UsageError, "Did you mean 'vae'"),
        (lambda: uadtk.train("vae", cohort, tmp_path / "m.safetensors", epoch=2), UsageError, "no option 'epoch'"),
        (lambda: uadtk.train("vae", cohort, tmp_path / "m.ckpt"), UsageError, "a checkpoint ends in .safetensors"),
        (
            lambda: uadtk.train("vae", cohort, tmp_path / "m.safetensors", scorer="own"),
            UsageError,
            "which model 'vae' does not provide",
        ),
    ]
    if torch.cuda.is_available():
        wrong = [one for one in wrong if "CUDA" not in one[2]]
    for done_wrong, kind, words in wrong:
        with pytest.raises(kind, match=re.escape(words)):
            done_wrong()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(model: OpenModel, cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"mine")
    for overwrites in (lambda: model.save(path), lambda: uadtk.train("vae", cohort, path)):
        with pytest.raises(UsageError, match="output exists"):
            overwrites()
    assert path.read_bytes() == b"mine"
    assert model.save(path, overwrite=True) == path
    assert checkpoints.load(path).digest == model.checkpoint.digest


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_a_threshold_that_no_score_can_have_is_refused(small_cohort: Path, value: float) -> None:
    with pytest.raises(UsageError, match="not a threshold"):
        uadtk.open("scalespace", threads=1).segment(small_cohort.parent / "s0.nii.gz", point=value)


def test_a_threshold_of_ones_own_marks_the_scores_above_it(small_cohort: Path, tmp_path: Path) -> None:
    scan = small_cohort.parent / "s4.nii.gz"
    result = uadtk.open("scalespace", threads=1).segment(scan, point=0.05, min_voxels=1)
    np.testing.assert_array_equal(np.asarray(result.mask), np.asarray(result.score) > np.float32(0.05))
    assert (result.point.name, result.point.scans) == ("given", 0)
    own = ("--model", "scalespace", "--threads", 1)
    done = call("segment", scan, "-o", tmp_path, "--threshold", "0.05", "--min-voxels", 1, *own)
    assert done.code == 0, done
    written = nib.load(tmp_path / "s4_label-lesion_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj) > 0, np.asarray(result.mask))
    call("segment", scan, "-o", tmp_path, "--threshold", "0.05", "--point", "p98").refused(2, "--point, --threshold")
