"""The commands that write files, on scans and models small enough for hundreds of runs, and a way to run them fast.

A run is a fork of a process that has imported everything and done each command once, so that it costs what the command
itself costs. It is the real command line (``uadtk.cli.main``) in a process of its own, which can be killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from uadtk.cli import main
from uadtk.io.results import altered, read_folder

AFFINE = np.diag([4.0, 4, 5, 1])
# Files with seconds or dates in them, of which only the presence is compared; those of a set, with its manifest, too.
TIMED = ("_provenance.json", "_report.html", ".training.html", ".log.jsonl", "index.html")
TINY = ("--levels", "2", "--widths", "4", "--latent", "4", "--lowpass", "4", "--epochs", "2", "--batch", "16")


@dataclass(frozen=True)
class Case:
    """A command; ``{in}`` and ``{out}`` in its words are the folders. ``given``: what of ``{in}`` it works on in place.

    ``workers``: others than this process do the work, and are killed in its place.
    """

    name: str
    words: str
    given: str = ""
    workers: bool = False


_SEGMENT = "segment {in}/cohort.tsv --model {in}/h.safetensors -o {out}/seg --threads 1"
_TRAIN = "train scalespace {in}/cohort.tsv -o {out}/m.safetensors --threads 1 --no-augment " + " ".join(TINY)
_HISTEQ = "{in}/h.safetensors {in}/cohort.tsv --threads 1"
CASES = (
    Case("segment", _SEGMENT),
    Case("threshold", "threshold --model {in}/h.safetensors --healthy {in}/cohort.tsv --name new --threads 1 "
         "-o {out}/t.safetensors"),
    Case("train", _TRAIN),
    Case("train --folds", _TRAIN + " --folds 2"),
    Case("selfteach", "selfteach {in}/h.safetensors {in}/cohort.tsv -o {out}/s.safetensors --epochs 2 --batch 16 "
         "--student unet:depth=2,width=4 --no-augment --threads 1"),
    Case("tune-restoration", "tune-restoration --model {in}/w.safetensors --healthy {in}/cohort.tsv --slices 2 "
         "-o {out}/r.safetensors --scorer restoration:steps=2 --threads 1"),
    Case("evaluate", f"evaluate {_HISTEQ} -o {{out}}/e.tsv"),
    Case("benchmark", "benchmark {in}/cohort.tsv --model {in}/h.safetensors -o {out}/b --threads 1"),
    Case("limits", f"limits {_HISTEQ} -o {{out}}/l --sizes-mm 30 --contrasts 100 --repeats 1"),
    Case("compare", "compare {in}/before {in}/after -o {out}/c --force --threads 1"),
    Case("phantom", "phantom -o {out}/p --labels {in}/labels.nii.gz --slice-mm 8 --in-plane-mm 4 --lesions ms"),
    Case("report", "report {out}/seg", given="seg"),
    Case("report-training", "report-training {in}/m.log.jsonl -o {out}/page.html"),
    Case("export-bids", "export-bids {in}/seg {out}/bids"),
    Case("watch", "watch {in}/incoming -o {out}/w --model {in}/h.safetensors --once --settle 0.1 --threads 1"),
    Case("demo", "demo -o {out}/d --model {in}/h.safetensors --threads 1"),
)  # fmt: skip
IN_WORKERS = (
    Case("segment --jobs 2", _SEGMENT + " --jobs 2", workers=True),
    Case("segment --cluster local", _SEGMENT + " --cluster local --jobs 2", workers=True),
)


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: a signal), stdout and stderr."""

    code: int
    out: str
    err: str


class Bench:
    """Inputs, an output folder that is the same for every run, and what each command leaves there undisturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given, self.out = folder, folder / "in", folder / "out"
        self.scratch = folder / "tmp"
        self._wanted: dict[str, dict[str, bytes | None]] = {}

    def words(self, case: Case) -> list[str]:
        return case.words.replace("{in}", str(self.given)).replace("{out}", str(self.out)).split()

    def fresh(self, case: Case) -> None:
        """Nothing in the output folder but what the command works on."""
        for folder in (self.out, self.scratch):
            _empty(folder)
        if case.given:
            shutil.copytree(self.given / case.given, self.out / case.given)

    def wanted(self, case: Case) -> dict[str, bytes | None]:
        """The contents an undisturbed run leaves; None for a file that differs between two (seconds, dates)."""
        if case.name not in self._wanted:
            runs = []
            for _ in range(2):
                self.fresh(case)
                self.finish(case)
                runs.append(contents(self.out))
            assert runs[0].keys() == runs[1].keys() != set(), f"{case.name}: {runs[0].keys() ^ runs[1].keys()}"
            first, second = runs
            self._wanted[case.name] = {
                name: data if data == second[name] and not name.endswith(TIMED) else None
                for name, data in first.items()
            }
        return self._wanted[case.name]

    def finish(self, case: Case) -> Ended:
        ended = self.run(case)
        assert ended.code == 0, f"{case.name}: {ended}"
        return ended

    def start(self, case: Case, first: Callable[[], Any] = lambda: None, last: Callable[[], Any] = lambda: None) -> int:
        """Begin the command as a process group; ``first`` and ``last`` are called in it. Returns its process id."""
        sys.stdout.flush(), sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a process with threads; here they are idle
            child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setsid()
            os.environ["TMPDIR"], tempfile.tempdir = str(self.scratch), None
            for stream, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            first()
            main(self.words(case))
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            last()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, process: int) -> Ended:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return Ended(code, *((self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr")))

    def run(self, case: Case) -> Ended:
        return self.ended(self.start(case))

    def faults(self, case: Case) -> list[str]:
        """What is wrong with the folder after a run that failed or was killed, before anything else is done."""
        wanted, found = self.wanted(case), contents(self.out)
        wrong = [f"half-written {name}" for name in found if not _whole(name, found[name], wanted.get(name))]
        folders = {path.parent for path in self.out.rglob("*_provenance.json") if ".uadtk-" not in str(path)}
        wrong += [
            f"mixed set {state.name}"
            for folder in folders
            for state in read_folder(folder)
            if state.status == "done" and altered(state)
        ]
        return wrong

    def end_faults(self, case: Case) -> list[str]:
        """How the folder differs from that of an undisturbed run."""
        wanted, found = self.wanted(case), contents(self.out)
        wrong = [
            f"{name} is {'missing' if name in wanted else 'left'}" for name in sorted(wanted.keys() ^ found.keys())
        ]
        return wrong + [
            f"{name} differs" for name in wanted.keys() & found.keys() if wanted[name] not in (None, found[name])
        ]


@contextmanager
def bench(names: list[str] | None = None) -> Iterator[tuple[Bench, list[Case]]]:
    """A bench with its inputs, and the cases of these names (all without workers, if None), each of them done once."""
    chosen = [case for case in (*CASES, *IN_WORKERS) if (case.name in names if names else not case.workers)]
    with tempfile.TemporaryDirectory() as folder:
        made = Bench(Path(folder))
        make_inputs(made, " ".join(f"{case.words} {case.given}" for case in chosen))
        for case in chosen:
            if not case.workers:
                made.fresh(case)
                _here(made.words(case))  # imports and compiled kernels, which every fork then has
        yield made, chosen


def make_inputs(made: Bench, words: str) -> None:
    """Scans, tables, and those checkpoints and results that the words of the chosen commands name."""
    given = made.given
    (given / "incoming").mkdir(parents=True)
    made.out.mkdir()
    made.scratch.mkdir()
    lines = ["subject\timage\tlesion_mask\tgroup\tsplit"]
    for number in range(4):
        image, labels, lesion = tiny_brain(number)
        nib.save(nib.Nifti1Image(image, AFFINE), given / f"p{number}.nii.gz")
        nib.save(nib.Nifti1Image(lesion, AFFINE), given / f"l{number}.nii.gz")
        lines.append(
            f"p{number}\tp{number}.nii.gz\tl{number}.nii.gz\thealthy\t{'validation' if number == 3 else 'train'}"
        )
    nib.save(nib.Nifti1Image(labels, AFFINE), given / "labels.nii.gz")
    (given / "cohort.tsv").write_text("\n".join(lines) + "\n")
    for name in ("p0", "p1"):
        shutil.copy(given / f"{name}.nii.gz", given / "incoming")
    again = tiny_brain(0)[0] * np.random.default_rng(9).normal(1, 0.01, (34, 40, 24)).astype(np.float32)
    nib.save(nib.Nifti1Image(again, AFFINE), given / "again.nii.gz")
    _here(f"threshold --model histeq -o {given}/h.safetensors --healthy {given}/cohort.tsv --threads 1".split())
    if "{in}/w." in words or "{in}/m." in words:
        train = f"train scalespace {given}/cohort.tsv -o {given}/w.safetensors --threads 1 --epochs 1"
        _here([*train.split(), *TINY[:8]])
        (given / "w.log.jsonl").rename(given / "m.log.jsonl")
    for name, scans in (("seg", "cohort.tsv"), ("before", "p0.nii.gz"), ("after", "again.nii.gz")):
        if name in words:
            _here(f"segment {given}/{scans} -o {given}/{name} --model {given}/h.safetensors --threads 1".split())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, but for the hidden stages of killed processes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: path.read_bytes() for path in files if ".uadtk-" not in (name := str(path.relative_to(folder)))}


def _whole(name: str, found: bytes, wanted: bytes | None) -> bool:
    """A file is as in the end, or the manifest of a set that is not; the summary, which changes, has whole lines."""
    if wanted is None or found == wanted or found.startswith(b'{"unfinished": '):
        return True
    lines = found.splitlines(True)
    return name.endswith("summary.tsv") and all(line.count(b"\t") == 5 and line.endswith(b"\n") for line in lines)


def stages(made: Bench) -> list[str]:
    return [path.name for folder in (made.out, made.scratch) for path in folder.rglob(".uadtk-*")]


def tiny_brain(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, FreeSurfer labels (white matter, cortex, ventricles) and lesion mask of 34 x 40 x 24 voxels."""
    draw = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (34, 40, 24)), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    labels = np.where(radius < 0.85, np.where(radius < 0.5, np.where(radius < 0.18, 4, 2), 3), 0).astype(np.int16)
    image = np.choose(labels, [0, 0, 700, 500, 150]) + 20 * draw.standard_normal(radius.shape)
    lesion = np.zeros(radius.shape, np.uint8)
    lesion[20:25, 22:27, 10:14] = 1
    image = np.where(lesion > 0, 1300, image)
    return np.where(labels > 0, image, 0).astype(np.float32), labels, lesion


def _here(words: list[str]) -> None:
    printed = StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            main(words)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{words}: {printed.getvalue()}") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
