"""The prepared run on a GPU, rehearsed on the CPU: every step and every table, on a few tiny scans."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.training.slices import load_slices

ROOT = Path(__file__).parent.parent
ROWS = ("lgg train", "lgg train", "phantom train", "lgg validation", "phantom validation")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of ``benchmarks`` by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gliomas with lesion masks, and phantoms without."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["subject\timage\tlesion_mask\tgroup\tsplit\tcollection"]
    for i, kind in enumerate(ROWS):
        collection, split = kind.split()
        image, lesion = (volume[:, :, 6:18] for volume in small_brain(i, lesion=collection == "lgg")[::2])
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), folder / f"s{i}.nii.gz")
        mask, group = (f"l{i}.nii.gz", "glioma") if collection == "lgg" else ("", "healthy")
        if mask:
            nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), folder / mask)
        lines.append(f"s{i}\ts{i}.nii.gz\t{mask}\t{group}\t{split}\t{collection}")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.tsv"


def test_packed_slices_are_found_where_training_looks_for_them(modules: Any, cohort: Path, tmp_path: Path) -> None:
    """All of them, and those of the gliomas alone, in the original order; without the scans, which are not packed."""
    packs = modules("device_pack")
    packs.pack(read_cohort(cohort), tmp_path / "cache", tmp_path / "pack.zip")
    for table, collection in zip(packs.unpack(tmp_path / "pack.zip", tmp_path / "work"), (None, "lgg"), strict=True):
        original = read_cohort(cohort).where(collection=collection) if collection else read_cohort(cohort)
        for split in ("train", "validation"):
            arguments = (Preparation(), True, Run(), "scans")
            ours = load_slices(list(original.split(split)), *arguments, tmp_path / "own")
            there = load_slices(list(read_cohort(table).split(split)), *arguments, tmp_path / "work" / "slices")
            assert np.abs(ours.image - there.image).max() < ours.image.max() / 500
            assert np.array_equal(ours.masks, there.masks)
            assert np.array_equal(ours.about, there.about)
            assert (ours.scans, ours.gates) == (there.scans, there.gates)
    work = tmp_path / "work"
    assert (work / "s0_FLAIR.nii.gz").read_text() == "s0 image\n"
    assert (work / "s3_FLAIR.nii.gz").read_bytes() == (cohort.parent / "s3.nii.gz").read_bytes()
    assert (work / "s4_FLAIR.nii.gz").read_text() == "s4 image\n"


def test_a_pack_that_is_too_large_is_refused(
    modules: Any, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs = modules("device_pack")
    monkeypatch.setattr(packs, "MOST_BYTES", 1000)
    with pytest.raises(SystemExit, match="more than"):
        packs.pack(read_cohort(cohort), tmp_path / "cache", tmp_path / "pack.zip")


def rehearsed(output: Path, pack: Path, work: Path) -> dict[str, Any]:
    script = str(ROOT / "benchmarks" / "device.py")
    folders = ["--output", str(output), "--work", str(work), "--pack", str(pack)]
    done = subprocess.run(
        [sys.executable, script, "--device", "cpu", *folders, "--budget-s", "900"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return summary


def tables(summary: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in summary.values():
        for row in record["rows"]:
            found.setdefault(row["table"], []).append(row)
    return found


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_run(modules: Any, cohort: Path, tmp_path: Path) -> None:
    pack, output, work = tmp_path / "pack.zip", tmp_path / "out", tmp_path / "work"
    modules("device_pack").pack(read_cohort(cohort), tmp_path / "cache", pack)
    summary = rehearsed(output, pack, work)
    text = (output / "summary.md").read_text()
    assert {name: record["state"] for name, record in summary.items()} == {
        step.name: "done" for step in modules("device").STEPS
    }, text
    found = tables(summary)
    assert "failed" not in text
    assert not [row for rows in found.values() for row in rows if "error" in row]
    assert all(row.get("agree") != "NO" for row in found["Kernels"])
    kernels = {"median3d", "erode", "curvature_flow", "aggregate", "quantile", "dice_curve", "average_precision"}
    assert {row["kernel"] for row in found["Kernels"]} == kernels | {"label_components", "label_stats"}
    assert [row["how"] for row in found["Restoration"]][-1] == "the paper's way"
    assert found["Plan"][0]["--steps"] == 1
    assert [row["state"] for row in found["Trainings"]] == ["finished"] * 3
    assert {row["model"] for row in found["Trainings"]} == {"implant", "scalespace-implants", "vae"}
    assert [row["model"] for row in found["Rows of the study"]] == ["vae"]
    files = list(output.iterdir())
    assert {"summary.json", "summary.md", "log.txt", "checkpoints.zip.0"} == {file.name for file in files}
    assert all(file.stat().st_size < 16 << 20 for file in files)


def test_what_is_done_is_not_repeated_on_another_machine(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of the first call, put back, is all that the second knows."""
    device, output, works = modules("device"), tmp_path / "out", iter((True, False))

    def fickle(job: Any) -> Any:
        (job.models / "implant.safetensors").write_bytes(b"weights")
        yield {"table": "T", "before": len(job.before)}
        if next(works):
            raise ValueError

    def machine(_: Any) -> Any:
        yield {"table": "Machine", "device": "a GPU"}

    def called(work: str) -> dict[str, Any]:
        monkeypatch.setattr(device, "STEPS", [device.Step("abc", "machine", machine, 1), steps[0], steps[1]])
        words = ["device.py", "--device", "cpu", "--output", output, "--work", tmp_path / work, "--part", "c"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        device.main()
        summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
        return summary

    steps = [device.Step("c", "one", lambda _: iter([{"table": "T", "x": 1}]), 1), device.Step("c", "two", fickle, 1)]
    first = called("here")
    next(works)  # the first call used it up in a process of its own
    assert [record["state"] for record in first.values()] == ["done", "done", "failed"]
    assert first["one"]["on"] == "a GPU"
    second = called("there")
    assert [record["state"] for record in second.values()] == ["done"] * 3
    assert second["one"] == first["one"]
    assert second["two"]["rows"] == [{"table": "T", "before": 3}]
    assert (tmp_path / "there" / "models" / "implant.safetensors").read_bytes() == b"weights"


def test_a_step_that_fails_or_takes_too_long_keeps_what_it_found(modules: Any, tmp_path: Path) -> None:
    device, job_of = modules("device"), modules("device_job")
    row = {"table": "T", "x": 1.0}

    def failing(_: Any) -> Any:
        yield row
        raise ValueError("a typo")

    def endless(_: Any) -> Any:
        yield row
        subprocess.run(["sleep", "60"], check=True)

    def run(work: Any, limit: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit
        job = job_of.Job("cpu", job_of.REHEARSAL, tmp_path, tmp_path / "none.zip", deadline, 0)
        record: dict[str, Any] = device.run_step(device.Step("a", "step", work, 1.0), job)
        return {**record, "on": "here"}

    failed, stopped = run(failing, 60), run(endless, 1.5)
    assert (failed["state"], failed["rows"]) == ("failed", [row])
    assert "ValueError: a typo" in failed["traceback"]
    assert (stopped["state"], stopped["rows"]) == ("stopped after 2 s", [row])
    text = "\n".join(device.markdown({"one": failed, "two": stopped}))
    assert text.startswith("## one: failed")
    assert "| x |\n|---|\n| 1 |" in text
    assert "ValueError: a typo" in text
    assert "## two: stopped after 2 s" in text


def test_checkpoints_come_back_in_parts_and_the_least_worth_stay(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, models, output = modules("device"), tmp_path / "models", tmp_path / "out"
    monkeypatch.setattr(device, "PART_BYTES", 5000)
    for folder in (models, output):
        folder.mkdir()
    first, second, *_, last = device.by_worth()
    for name in (last, second, first):
        (models / f"{name}.safetensors").write_bytes(os.urandom(7000))
    device.pack_checkpoints(models, output)
    assert sorted(file.name for file in output.iterdir()) == [f"checkpoints.zip.{k}" for k in range(3)]
    assert all(file.stat().st_size <= 5000 for file in output.iterdir())
    device.unpack_checkpoints(output, tmp_path / "there")
    there = {file.stem: file.read_bytes() for file in (tmp_path / "there").iterdir()}
    assert there == {name: (models / f"{name}.safetensors").read_bytes() for name in (first, second)}


def test_the_budget_goes_to_the_widest_implant_with_enough_epochs(modules: Any, tmp_path: Path) -> None:
    trainings, job_of = modules("device_trainings"), modules("device_job")

    def of(wide_ms: float, steps: int = 0) -> Any:
        rows = [("ae", 0, 1.0), ("implant-64", 5, wide_ms), ("implant-32", 5, 2.0), ("ae-0", 5, 10.0)]
        before = tuple(
            {"table": "Rates", "model": name, "beside": beside, "ms per step": ms, "steps per epoch": 100}
            for name, beside, ms in rows
        )
        deadline = time.monotonic() + trainings.START_S + trainings.END_S + 100
        return trainings.budget(job_of.Job("cuda", job_of.FULL, tmp_path, tmp_path, deadline, steps, before))

    fast, slow = of(10.0), of(100.0)
    assert (fast.width, fast.epochs) == (64, 89)
    assert (slow.width, slow.epochs) == (32, 400)
    assert of(10.0, steps=700).steps == 700
