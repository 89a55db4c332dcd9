"""Bad input through the real command line: one line, the documented exit code, nothing half-written."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.commands import TINY, Done, call
from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.pipeline import outputs

Segment = Callable[..., Done]


def saved(path: Path, voxels: np.ndarray, affine: np.ndarray = SMALL_AFFINE) -> None:
    nib.save(nib.Nifti1Image(voxels, affine), path)


def truncated(path: Path) -> None:
    saved(path, small_brain()[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_gzip(path: Path) -> None:
    saved(path, small_brain()[0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def shorter_than_promised(path: Path) -> None:
    saved(path, small_brain()[0])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1000]))


def with_value(value: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        voxels = small_brain()[0]
        voxels[20, 25, 12] = value
        saved(path, voxels)

    return write


def zero_spacing(path: Path) -> None:
    image = nib.Nifti1Image(small_brain()[0], None)
    data = bytearray(image.to_bytes())
    data[84:88] = np.float32(0).tobytes()  # pixdim[2]; neither sform nor qform says better
    path.write_bytes(gzip.compress(bytes(data)))


def almost_empty(path: Path) -> None:
    voxels = np.zeros((44, 52, 24), np.float32)
    voxels[20:24, 25:29, 10:12] = 500 + np.arange(32).reshape(4, 4, 2)
    saved(path, voxels)


BAD_SCANS = {
    "truncated gzip": (truncated, "is cut short"),
    "damaged gzip": (damaged_gzip, "has damaged gzip data"),
    "fewer voxels than the header says": (shorter_than_promised, "its header requires"),
    "empty file": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "not a NIfTI": (lambda path: path.write_text("hello " * 200), "not a NIfTI image"),
    "four frames": (lambda path: saved(path, np.stack([small_brain()[0]] * 4, 3)), "holds 4 volumes, not one"),
    "flat": (lambda path: saved(path, small_brain()[0][:, :, 12]), "has 2 axes, not three"),
    "complex": (lambda path: saved(path, small_brain()[0].astype(np.complex64)), "has complex voxels"),
    "NaN": (with_value(np.nan), "the first at (20, 25, 12)"),
    "infinity": (with_value(np.inf), "1 voxels are NaN, infinite"),
    "constant": (lambda path: saved(path, np.full((44, 52, 24), 7, np.float32)), "every voxel is 7"),
    "brain without contrast": (
        lambda path: saved(path, np.where(small_brain()[1], 500, 0).astype(np.float32)),
        "it is a binary mask",
    ),
    "no brain": (almost_empty, "no brain: the brain mask (already skull-stripped) holds 1.4 ml"),
    "zero spacing": (zero_spacing, "spacing of 0 mm is impossible"),
    "absurd spacing": (lambda path: saved(path, small_brain()[0], np.diag([300.0, 3, 5, 1])), "300 x 3 x 5 mm"),
    "spacing in metres": (lambda path: saved(path, small_brain()[0], np.diag([0.003, 0.003, 0.005, 1])), "0.003 x"),
    "missing": (lambda path: None, "no such file"),
    "a folder without scans": (lambda path: path.mkdir(), "no NIfTI images in the folder"),
}


@pytest.mark.parametrize("case", BAD_SCANS)
def test_a_bad_scan_costs_one_line(case: str, segment: Segment, tmp_path: Path) -> None:
    write, words = BAD_SCANS[case]
    bad = tmp_path / "bad.nii.gz"
    write(bad)
    segment(scans=(bad,)).refused(3, f"{bad}: ", words)
    assert not (tmp_path / "out").exists()


def test_a_brain_larger_than_the_field_of_view(segment: Segment, tmp_path: Path) -> None:
    wide, mask = tmp_path / "wide.nii.gz", tmp_path / "mask.nii.gz"
    image, brain, _ = small_brain()
    saved(wide, image, np.diag([9.0, 9, 5, 1]))
    saved(mask, brain.astype(np.uint8), np.diag([9.0, 9, 5, 1]))
    segment("--brain-mask", mask, scans=(wide,)).refused(3, "front-back, the model's field of view 208 mm", "spacing")
    assert not (tmp_path / "out").exists()


def test_masks_that_do_not_fit(segment: Segment, small_cohort: Path, tmp_path: Path) -> None:
    brain = small_brain()[1].astype(np.uint8)
    shifted, cut, empty = (tmp_path / f"{name}.nii.gz" for name in ("shifted", "cut", "empty"))
    saved(shifted, brain, SMALL_AFFINE + np.eye(4)[:, [3, 3, 3, 0]] * 5)
    saved(cut, brain[:-1])
    saved(empty, brain * 0)
    segment("--brain-mask", shifted).refused(3, f"{shifted}: the mask lies up to 5 mm off", "Resample the mask")
    segment("--brain-mask", cut).refused(3, "43 x 52 x 24 voxels", "44 x 52 x 24 voxels")
    segment("--brain-mask", empty).refused(3, "the mask is empty")
    segment("--brain-mask", tmp_path / "none.nii.gz").refused(3, "none.nii.gz: no such file")
    segment("--brain-mask", cut, scans=(small_cohort,)).refused(2, "--brain-mask: one mask for 5 scans")
    assert not (tmp_path / "out").exists()


# Checkpoints ----------------------------------------------------------------------------------------------------------


def rewritten(source: Path, target: Path, change: Callable[[dict], None]) -> Path:
    """``source`` with its header changed and its weights kept."""
    raw = source.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    outer = json.loads(raw[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["uadtk"])
    change(inner)
    outer["__metadata__"]["uadtk"] = json.dumps(inner)
    outer["__metadata__"]["uadtk_sha256"] = hashlib.sha256(outer["__metadata__"]["uadtk"].encode()).hexdigest()
    text = json.dumps(outer).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    return target


@pytest.mark.parametrize("command", ["segment", "inspect", "threshold"])
def test_checkpoints_that_cannot_be_read(
    command: str, weighted: Path, scan: Path, small_cohort: Path, tmp_path: Path
) -> None:
    raw = weighted.read_bytes()
    files = {
        "flipped": (raw[:-1] + bytes([raw[-1] ^ 1]), "the weights are damaged (checksum differs)"),
        "truncated": (raw[:-100], "is cut short or damaged"),
        "empty": (b"", "is not a safetensors file"),
        "other": (scan.read_bytes(), "is not a safetensors file"),
        "foreign": (len(b"{}").to_bytes(8, "little") + b"{}", "is a safetensors file but not a uadtk checkpoint"),
    }
    rest = {
        "segment": ["-o", tmp_path / "out"],
        "inspect": [],
        "threshold": ["--healthy", small_cohort, "-o", tmp_path / "new.safetensors"],
    }[command]

    def run(path: Path) -> Done:
        return call(command, *([scan, "--model"] if command == "segment" else ["--model"] * (command != "inspect")),
                    path, *rest)  # fmt: skip

    for name, (content, words) in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        run(path).refused(4, f"{path}: {words}")
    newer = rewritten(weighted, tmp_path / "newer.safetensors", lambda header: header.update(format=99))
    run(newer).refused(4, "is of checkpoint format 99, this uadtk reads up to 2", "pip install -U uadtk")
    partial = rewritten(weighted, tmp_path / "partial.safetensors", lambda header: header.pop("scorer"))
    run(partial).refused(4, "its header lacks 'scorer'")
    run(tmp_path / "none.safetensors").refused(4, "cannot be read (No such file or directory). Check the path.")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "new.safetensors").exists()


def test_a_checkpoint_of_a_missing_plugin(weighted: Path, scan: Path, tmp_path: Path) -> None:
    def foreign(header: dict) -> None:
        header["model"] |= {"dist": "uadtk-gone", "name": "gone", "version": "1.2"}

    path = rewritten(weighted, tmp_path / "gone.safetensors", foreign)
    done = call("segment", scan, "--model", path, "-o", tmp_path / "out")
    done.refused(5, f"{path}: needs model 'gone' of the package 'uadtk-gone', which is not installed. Install it")
    assert not (tmp_path / "out").exists()
    assert call("inspect", path).code == 0  # what is in it can be seen all the same


def test_weights_of_another_architecture(weighted: Path, scan: Path, tmp_path: Path) -> None:
    path = rewritten(weighted, tmp_path / "w.safetensors", lambda h: h["model"]["options"].update(latent=5))
    call("segment", scan, "--model", path, "-o", tmp_path / "out").refused(4, "the weights do not fit model")
    path = rewritten(weighted, tmp_path / "o.safetensors", lambda h: h["model"]["options"].update(atoms=5))
    done = call("segment", scan, "--model", path, "-o", tmp_path / "out")
    done.refused(4, f"{path}: model 'scalespace' does not take its options (scalespace: no option 'atoms'", "made with")


# What is asked for and does not exist ---------------------------------------------------------------------------------

MISUSE = {
    "unknown model": (["--model", "histq"], 2, "no model 'histq'. Did you mean 'histeq'?"),
    "unknown model option": (["--model", "histeq:bin=3"], 2, "histeq: no option 'bin'. Did you mean 'bins'?"),
    "model without weights": (["--model", "scalespace:levels=2"], 2, "uadtk train scalespace cohort.tsv -o"),
    "model without point": (["--model", "histeq"], 2, "has no operating point. Make one: uadtk threshold"),
    "unknown point": (["--point", "p89"], 2, "no operating point 'p89'. --point: Did you mean 'p98'?"),
    "unknown scorer": (["--scorer", "resdual"], 2, "no scorer 'resdual'. Did you mean 'residual'?"),
    "scorer the model cannot serve": (
        ["--scorer", "residual"],
        2,
        "needs reconstruct, which model 'histeq' does not provide",
    ),
    "choice that is none": (["--scorer", "residual:polarity=both"], 2, "residual: polarity=both: not a choice"),
    "unknown scorer option": (["--scorer", "own:size=3"], 2, "own: no option 'size'. It has no options."),
    "unknown cleaner": (["--cleaner", "medain"], 2, "no cleaner 'medain'. Did you mean 'median'?"),
    "cleaner not a number": (["--cleaner", "median:size=abc"], 2, "median: size=abc: not a number"),
    "cleaner out of range": (["--cleaner", "median:size=99"], 2, "median: size=99: must be at most 50"),
    "cleaner not finite": (["--cleaner", "median:size=nan"], 2, "median: size=nan: must be finite"),
    "cleaner without value": (["--cleaner", "median:5"], 2, "median:5: '5' is not key=value. Write it like"),
    "other cleaners than calibrated": (["--cleaner", "none"], 2, "operating point 'p98': was calibrated for own"),
    "range": (["--min-voxels", "0"], 2, "--min-voxels"),
    "negative millilitres": (["--min-volume-ml", "-1"], 2, "--min-volume-ml"),
    "not a whole number": (["--min-voxels", "few"], 2, "--min-voxels"),
    "unknown device": (["--device", "tpu"], 2, "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
    "unknown option": (["--mdel", "histeq"], 2, "No such option: --mdel. Did you mean '--model'?"),
    "option without value": (["--point"], 2, "--point"),
    "split of a single scan": (["--split", "test"], 3, "no scans in split 'test'"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_costs_one_line(case: str, segment: Segment, tmp_path: Path) -> None:
    arguments, code, words = MISUSE[case]
    segment(*arguments).refused(code, words)
    assert not (tmp_path / "out").exists()


def test_unknown_commands_and_missing_arguments() -> None:
    call("segmnt").refused(2, "no command 'segmnt'. Did you mean 'segment'?")
    call("segment").refused(2, "Missing argument 'scans'. See uadtk segment --help.")
    call("threshold", "--model", "histeq").refused(
        2, "missing: --healthy, scans without lesions", "; -o, the checkpoint"
    )
    call("threshold", "--budget", "0.5 ml/scan", "--split", "validation", "--name", "ours").refused(
        2,
        "scans of 11 subjects or more",
        '--strategy "healthy-fp:budget=0.5 ml/scan" --healthy cohort.tsv --split validation --name ours -o ',
    )
    call("--verison").refused(2, "Did you mean '--version'?")
    call("train", "scalspace").refused(2, "no model 'scalspace'. Did you mean 'scalespace'?")
    call("inspect", "nothing").refused(2, "no model 'nothing'. Known: aae, ae,", "scalespace")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(segment: Segment) -> None:
    segment("--device", "cuda").refused(6, "--device cuda: no CUDA device is available. Use --device cpu.")


# Cohorts --------------------------------------------------------------------------------------------------------------


def test_bad_tables(segment: Segment, scan: Path, tmp_path: Path) -> None:
    table = tmp_path / "cohort.tsv"
    for text, words in {
        "subjct\timage\ns0\ts0.nii.gz\n": "the table has no column 'subject'. Did you mean 'subjct'?",
        "subject\tpath\ns0\ts0.nii.gz\n": "the table has no column 'image'",
        "subject\timage\n": "no scans in it",
        "": "the table has no column 'subject'",
        "subject\timage\ns0\ts0.nii.gz\textra\n": "line 2: 3 cells under 2 columns",
        "subject\timage\ns0\t\n": "line 2: no image",
        "subject\timage\nA\tnone.nii.gz\nB\tneither.nii.gz\n": "none of the 2 images exists",
        f"subject\timage\tsplit\nA\t{scan}\ttrain\nA\t{scan}\ttest\n": "subject 'A' is in two splits",
    }.items():
        table.write_text(text)
        segment(scans=(table,)).refused(3, str(table), words)
        assert not (tmp_path / "out").exists()


def test_a_cohort_goes_on_after_failures(segment: Segment, small_cohort: Path, tmp_path: Path) -> None:
    folder = small_cohort.parent
    bad = tmp_path / "bad.nii.gz"
    truncated(bad)
    table = tmp_path / "cohort.tsv"
    rows = {"good": folder / "s0.nii.gz", "bad": bad, "gone": tmp_path / "gone.nii.gz", "last": folder / "s4.nii.gz"}
    table.write_text("subject\timage\n" + "".join(f"{name}\t{path}\n" for name, path in rows.items()))
    done = segment(scans=(table,))
    assert done.code == 1
    said = [line for line in done.err.splitlines() if ": amber: " not in line]  # the gate knows larger brains
    assert said[0].startswith(f"bad: failed: {bad}: is cut short")
    hint = "Check the path; those in a table are relative to the table's folder."
    assert said[1] == f"gone: failed: {tmp_path / 'gone.nii.gz'}: no such file. {hint}"
    assert [line.startswith("lesion-free scans have a median of ") for line in said[2:]] == [True]
    out = tmp_path / "out"
    assert (out / "summary.tsv").read_text() == done.out
    cells = [line.split("\t") for line in done.out.splitlines()]
    assert [row[:2] for row in cells[1:]] == [["good", "done"], ["bad", "failed"], ["gone", "failed"], ["last", "done"]]
    assert {len(row) for row in cells} == {6}
    assert {path.name.split("_")[0] for path in out.glob("*_report.html")} == {"good", "last"}
    again = segment(scans=(table,))
    assert (again.code, again.out) == (1, done.out)
    assert again.err.splitlines()[-1] == "2 of 4 were done before; --overwrite does them again"


def test_calibration_leaves_bad_scans_out_and_needs_one(small_cohort: Path, tmp_path: Path) -> None:
    bad, table, out = tmp_path / "bad.nii.gz", tmp_path / "cohort.tsv", tmp_path / "h.safetensors"
    truncated(bad)
    table.write_text(f"subject\timage\nbad\t{bad}\n")
    threshold = ["threshold", "--model", "histeq", "--healthy", table, "-o", out]
    call(*threshold).refused(3, f"uadtk: {bad}: is cut short")
    table.write_text(f"subject\timage\nbad\t{bad}\nworse\t{bad}\n")
    done = call(*threshold)
    assert done.code == 3
    first, second, last = done.err.splitlines()
    assert first.startswith(f"bad: failed: {bad}: is cut short")
    assert second.startswith(f"worse: failed: {bad}: is cut short")
    assert last == "uadtk: none of 2 scans could be scored. The lines above say why."
    assert not out.exists()
    table.write_text(f"subject\timage\nbad\t{bad}\ngood\t{small_cohort.parent / 's0.nii.gz'}\n")
    done = call(*threshold)
    assert done.code == 0
    (line,) = done.said
    assert line.startswith(f"bad: failed: {bad}: is cut short")
    assert "1 scans" in done.out
    point = checkpoints.load(out).points[0]
    assert (point.scans, point.failed) == (1, 1)


# Outputs --------------------------------------------------------------------------------------------------------------


def test_outputs_that_exist(segment: Segment, tmp_path: Path) -> None:
    assert segment().code == 0
    report = tmp_path / "out" / "s4_report.html"
    stale = tmp_path / "out" / "s4_desc-pseudohealthy_FLAIR.nii.gz"
    stale.write_bytes(b"of a model that reconstructs")
    report.write_text("mine")
    segment().refused(2, "s4_report.html: was changed after uadtk wrote it. Pass --overwrite to replace it.")
    assert report.read_text() == "mine"
    assert segment("--overwrite").code == 0
    assert report.read_text() != "mine"
    assert not stale.exists()  # it does not belong to the new mask


def test_an_existing_output_is_refused_before_the_work(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "s4_findings.tsv").write_text("mine")
    monkeypatch.setattr("uadtk.pipeline.segment.score_prepared", lambda *_: pytest.fail("scored for nothing"))
    segment().refused(2, "s4_findings.tsv: output exists")


@pytest.mark.parametrize("where", ["below a file", "a file", "/proc"])
def test_places_that_cannot_be_written_to(where: str, segment: Segment, scan: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    place = {"below a file": file / "out", "a file": file, "/proc": Path("/proc/uadtk-out")}[where]
    if where == "/proc":
        segment("-o", place).refused(1, f"{place}: cannot be written (", "Choose another place")
    else:  # found before the work
        segment("-o", place).refused(2, f"{file}: is a file; expected a folder. Choose another output.")
    assert file.read_text() == "mine"
    done = call("threshold", "--model", "histeq", "--healthy", scan, "-o", place / "h.safetensors")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert file.read_text() == "mine"


def test_checkpoints_are_not_overwritten(histeq: Path, small_cohort: Path, scan: Path, tmp_path: Path) -> None:
    before = histeq.read_bytes()
    threshold = ["threshold", "--model", "histeq", "--healthy", small_cohort]
    call(*threshold, "-o", histeq).refused(2, f"{histeq}: output exists. Pass --overwrite")
    call(*threshold, "-o", tmp_path).refused(2, "is a folder")
    call(*threshold, "-o", tmp_path / "no" / "h.safetensors").refused(2, f"{tmp_path / 'no'}: no such folder")
    call(*threshold).refused(2, "missing: -o, the checkpoint to write ('histeq' is not a file). For example: uadtk")
    strategy = ["threshold", "--model", histeq, "--healthy", small_cohort, "--strategy"]
    call(*strategy, "p89").refused(2, "no thresholder 'p89'. Did you mean 'p98'?")
    call(*strategy, "p98:percentile=200").refused(2, "p98: percentile=200: must be at most 100")
    assert histeq.read_bytes() == before


def test_training_that_cannot_start(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    new = tmp_path / "m.safetensors"
    train = ["train", "scalespace", small_cohort]
    call(*train, "-o", tmp_path / "m.pt").refused(2, "m.pt: a checkpoint ends in .safetensors")
    call(*train, "-o", histeq).refused(2, f"{histeq}: output exists")
    call(*train, "-o", tmp_path / "no" / "m.safetensors").refused(2, "no such folder")
    call(*train, "-o", new, "--levels", "9").refused(2, "--levels", "less than or equal to 4")
    call(*train, "-o", new, "--widths", "wide").refused(2, "scalespace: widths=wide: not a list of whole numbers")
    call(*train, "-o", new, "--widths", "8,8").refused(2, "2 widths for 3 levels")
    call(*train, "-o", new, "--prepare", "sde=128").refused(2, "--prepare: no option 'sde'. Did you mean 'side'?")
    call(*train, "-o", new, "--prepare", "side=100").refused(2, "--prepare: side=100: not a choice. Choose 128 or 256.")
    call(*train, "-o", new, "--epochs", "0").refused(2, "--epochs")
    call(*train, "-o", new, "--scorer", "resdual").refused(2, "no scorer 'resdual'. Did you mean 'residual'?")
    call(*train, "-o", new, "--cleaner", "median:size=x").refused(2, "median: size=x: not a number")
    call("train", "histeq", small_cohort, "-o", new).refused(2, "model 'histeq' learns nothing. Use it by name")
    call("train", "scalespace", small_cohort.parent / "s0.nii.gz", "-o", new).refused(3, "at least two subjects")
    bad, table = tmp_path / "bad.nii.gz", tmp_path / "cohort.tsv"
    truncated(bad)
    table.write_text(f"subject\timage\nA\t{bad}\nB\t{bad}\n")
    call("train", "scalespace", table, "-o", new).refused(3, f"uadtk: {bad}: is cut short")
    table.write_text("subject\timage\tsplit\n" + "".join(f"{name}\t{bad}\ttrain\n" for name in "ABC"))
    done = call("train", "scalespace", table, "-o", new)
    assert done.code == 3
    lines = [line.partition(": ")[::2] for line in done.err.splitlines()]
    *failed, last = lines
    assert len(failed) == 2  # the third is to be validated on
    assert all(name in "ABC" and words.startswith(f"failed: {bad}: is cut short") for name, words in failed)
    assert last == (
        "uadtk",
        "no slice to use for training scans. See the lines above; are the scans lesion-free anywhere?",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.nii.gz", "cohort.tsv"]


@contextmanager
def full_disk(room: int = 4096) -> Iterator[None]:
    """No file of this process may grow beyond ``room`` bytes: the system itself refuses the write."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(segment: Segment, weighted: Path, small_cohort: Path, tmp_path: Path) -> None:
    assert segment("-o", tmp_path / "before").code == 0  # everything that is compiled and cached is so now
    tiny = ["scalespace", small_cohort, *(f"--{name}={value}" for name, value in {**TINY, "epochs": 1}.items())]
    ready = ["--slices", tmp_path / "before" / "slices"]
    assert call("train", *tiny, "-o", tmp_path / "before" / "m.safetensors", *ready).code == 0
    with full_disk():
        segmented = segment()
        calibrated = call("threshold", "--model", "histeq", "--healthy", small_cohort, "-o", tmp_path / "h.safetensors")
        prepared = call("train", *tiny, "-o", tmp_path / "m.safetensors")
        trained = call("train", *tiny, "-o", tmp_path / "m.safetensors", *ready)
    segmented.refused(1, f"{tmp_path / 'out'}", "cannot be written (File too large). Make room")
    calibrated.refused(1, "scores cannot be stored there (", "Set TMPDIR")
    where = f"{tmp_path / 'm.safetensors.slices'}: prepared slices cannot be stored there"
    prepared.refused(1, where, "--slices")
    assert trained.code == 1
    assert trained.err.splitlines()[-1].startswith(f"uadtk: {tmp_path / 'm.safetensors.resume'}: cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    assert segment().code == 0


# Interrupted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """It arrives when half of the files are written."""
    monkeypatch.setattr(outputs, "write_json", lambda *_: os.kill(os.getpid(), number))
    # a shell's background job ignores ctrl-c, and nohup the end of the terminal
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        done = segment()
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert (done.code, done.err) == (130, "uadtk: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_signal_that_is_ignored_stays_ignored(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    write = outputs.write_text
    monkeypatch.setattr(outputs, "write_text", lambda *all_: (os.kill(os.getpid(), signal.SIGHUP), write(*all_)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert segment().code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


KILLED = """
import os, signal, sys
from uadtk.cli import main
from uadtk.pipeline import outputs
write, written = outputs.write_nifti, []
def dying(*given):
    write(*given)
    written.append(given[0])
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
outputs.write_nifti = dying
main(sys.argv[1:])
"""


def test_a_killed_process_leaves_nothing_to_see(segment: Segment, histeq: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [sys.executable, "-c", KILLED, "segment", scan, "--model", histeq, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (hidden,) = out.iterdir()
    assert hidden.name.startswith(".uadtk-")
    os.utime(hidden, (0, 0))  # as a user comes back after more than ten seconds
    assert segment().code == 0
    assert not hidden.exists()
    assert (out / "s4_report.html").exists()


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"")
    command: list[str | Path] = [sys.executable, "-m", "uadtk", "segment", bad, "-o", tmp_path / "out"]
    command += ["--model", "nothing.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == "uadtk: nothing.safetensors: cannot be read (No such file or directory). Check the path.\n"


def test_what_is_no_user_error_is_called_a_bug_and_keeps_its_traceback(
    histeq: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadtk.cli import main

    monkeypatch.setattr(checkpoints, "open_checkpoint", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", str(histeq)])
    assert "this is a bug in uadtk" in capsys.readouterr().err


# Configuration --------------------------------------------------------------------------------------------------------


def test_bad_configurations(scan: Path, tmp_path: Path) -> None:
    config = tmp_path / "uadtk.toml"
    segment, train = ["segment", scan], ["train", "scalespace", scan, "-o", tmp_path / "m.safetensors"]
    for text, command, words in (
        ('[segmnt]\nmodel = "x"', segment, f"{config} [segmnt]: no command 'segmnt'. Did you mean 'segment'?"),
        ('[segment]\nmodle = "x"', segment, "--config [segment]: no option 'modle'. Did you mean 'model'?"),
        ("[train.scalspace]\nlevels = 3", train, "--config [train]: no section 'scalspace'. Did you mean 'scalespace'"),
        ("[train.scalespace]\nlevles = 3", train, "--config [train.scalespace]: no option 'levles'. Did you mean"),
        ("[train]\nlevels = 3", train, "--config [train]: no section 'levels'"),
        ("segment = 3", segment, "--config [segment]: is not a table"),
        ("[segment]\nmin_voxels = 0", segment, "--min-voxels"),
        ("segment =", segment, f"{config}: is not TOML"),
    ):
        config.write_text(text)
        call("--config", config, *command).refused(2, words)
    call("--config", tmp_path / "none.toml", *segment).refused(2, "none.toml: cannot be read (No such file")


def test_the_command_line_wins_over_environment_over_configuration_over_default(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which model is asked for is seen in the complaint about it."""
    config = tmp_path / "uadtk.toml"
    config.write_text('[segment]\nmodel = "configured-model"\n')
    segment = ["segment", scan, "-o", tmp_path / "out"]
    call("--config", config, *segment).refused(2, "no model 'configured-model'")
    monkeypatch.setenv("UADTK_CONFIG", str(config))
    call(*segment).refused(2, "no model 'configured-model'")
    monkeypatch.setenv("UADTK_SEGMENT_MODEL", "environment-model")
    call(*segment).refused(2, "no model 'environment-model'")
    call(*segment, "--model", "given-model").refused(2, "no model 'given-model'")


def test_options_of_a_model_come_from_the_configuration_too(small_cohort: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "uadtk.toml", tmp_path / "m.safetensors"
    config.write_text("[train.scalespace]\nlevels = 2\nwidths = '4'\nlatent = 2\nlowpass = 2\nepochs = 1\nbatch = 32\n")
    done = call("--config", config, "train", "scalespace", small_cohort, "-o", output, "--latent", "3")
    assert done.code == 0, done
    made = checkpoints.load(output)
    assert (made.options["levels"], made.options["widths"], made.options["latent"]) == (2, [4], 3)
    assert made.training["epochs"] == 1


def test_a_version_variable_of_a_container_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UADTK_VERSION", "0.1.0")
    assert "histeq" in call("models").out


def test_a_scan_that_vanished_between_listing_and_reading(segment: Segment, small_cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "cohort.tsv"
    table.write_text(f"subject\timage\nhere\t{small_cohort.parent / 's0.nii.gz'}\nlink\tlink.nii.gz\n")
    (tmp_path / "link.nii.gz").symlink_to("annexed.nii.gz")
    done = segment(scans=(table,))
    assert done.code == 1
    assert done.err.splitlines()[-2].startswith(
        f"link: failed: {tmp_path / 'link.nii.gz'}: is a link to a file that is not there"
    )


def test_phantoms_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cohort.tsv").write_text("mine")
    call("phantom", "-o", tmp_path).refused(2, "cohort.tsv: output exists. Pass --overwrite")
    call("phantom", "-o", tmp_path, "--count", "0").refused(2, "--count")
    call("phantom", "-o", tmp_path / "new", "--prepare", "side=256").refused(2, "--prepare: needs --slices")
    call("phantom", "-o", tmp_path, "--lesions", "mss").refused(2, "'mss' is not one of 'none', 'ms', 'tumour'")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("segment", "{pipe}", "-o", "{out}"), 3),
        (("segment", "{pipe}.nii.gz", "-o", "{out}"), 3),
        (("segment", "{pipe}.tsv", "-o", "{out}"), 3),
        (("segment", "{folder}/s.nii", "-o", "{out}"), 3),  # beside it, a mask by name
        (("segment", "{folder}/s.nii", "--brain-mask", "{pipe}", "-o", "{out}"), 3),
        (("threshold", "--healthy", "{folder}/cohort.csv", "-o", "{out}.safetensors"), 3),
        (("--config", "{pipe}", "segment", "{folder}/s.nii", "-o", "{out}"), 2),
        (("report-training", "{pipe}"), 3),
        (("reproduce", "{pipe}"), 3),
        (("inspect", "{pipe}.safetensors"), 4),
        (("benchmark", "{folder}/one.csv", "--model", "histeq", "--published", "{pipe}", "-o", "{out}"), 3),
    ],
)
def test_a_pipe_is_refused_at_once(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """Opening one would wait for a writer that never comes."""
    for name in ("p", "p.nii.gz", "p.tsv", "p.safetensors", "f/s_brain_mask.nii", "f/a.nii", "f/b.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    image = small_brain()[0]
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE), tmp_path / "f/s.nii")
    (tmp_path / "f/cohort.csv").write_text("subject,image,split\na,a.nii,train\nb,b.nii,test\n")
    (tmp_path / "f/one.csv").write_text("subject,image,split,lesion_mask\ns,s.nii,test,\n")
    places = {"pipe": tmp_path / "p", "folder": tmp_path / "f", "out": tmp_path / "out"}
    previous = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits"))
    signal.alarm(60)
    try:
        done = call(*(word.format(**places) for word in words))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert done.code == code, done
    assert "pipe" in done.err or "not a file" in done.err, done


def test_a_configuration_nested_beyond_reason(scan: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("a = " + "[" * 100_000)
    call("--config", path, "segment", scan, "-o", tmp_path / "out").refused(2, "is not TOML")
