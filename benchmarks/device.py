"""The prepared run on a borrowed machine with one H100 or H200: kernels, segmentation and trainings on CUDA.

No machine has been lent yet: nothing here has run on a GPU. `tests/test_device_rehearsal.py` rehearses it, and

    PYTHONPATH=. python benchmarks/device.py --device cpu --output build/device --budget-s 120 --part a b

does with the packed scans. First `python benchmarks/device_pack.py ...` fills the folder `.device` of the checkout that
the session began in (its docstring has the command). Then two calls of the tool ``run``, with ``carry=[".device"]`` and
``timeout_s=500``; the first:

    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target /tmp/site .device/whl/*.whl &&
    export PYTHONPATH=/tmp/site:$PWD PYTHONUNBUFFERED=1 &&
    python3 benchmarks/device.py --output $OUT --budget-s 420 --part a b

the second the same with ``--part c``. To resume, copy what the first call brought back to `.device/earlier`, and put
``cp -r .device/earlier/. $OUT &&`` before the last line: steps that are done there, and trainings whose checkpoints are
there, are not repeated. Part c then needs ``--steps`` with the number that its table "Plan" names; a larger number from
the start gives fewer models longer trainings. The whole tree that travels has at most 64 MiB, 47 of them without these.

    a  the kernel tests on CUDA; a table of the kernels beside what CuPy offers and our CPU
    b  `segment` and restoration: seconds by stage, kernels, transfers
    c  trainings: `implant`, then `scalespace` and `dae` against implants, then every model with equal steps

Each step is a process that is ended when its share of the time is used up. What it found until then is in the output
folder, as are the tracebacks of steps that failed: ``summary.json``, ``summary.md``, ``log.txt`` and the checkpoints,
as ``checkpoints.zip.0`` and so on (`cat checkpoints.zip.* > checkpoints.zip`), at most 8 files of less than 16 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_job import FULL, REHEARSAL, ROOT, Job, Result
from device_kernels import kernel_table, kernel_tests, machine
from device_scans import restoration, segment
from device_trainings import by_worth, models, rates, trainings

PART_BYTES, PARTS = 15 << 20, 4  # of the checkpoints; 64 MiB come back in all
LOG_BYTES = 2 << 20
LEAST_S = 2.0
MACHINE = "machine"  # described anew in every call


@dataclass(frozen=True)
class Step:
    """``share``: of the time that is left when it begins, the most it may take."""

    part: str
    name: str
    work: Callable[[Job], Iterator[Result]]
    share: float


STEPS = (
    Step("abc", MACHINE, machine, 0.2),
    Step("a", "kernel tests", kernel_tests, 0.4),
    Step("a", "kernel table", kernel_table, 0.5),
    Step("b", "segment", segment, 0.4),
    Step("b", "restoration", restoration, 0.4),
    Step("c", "rates", rates, 0.25),
    Step("c", "trainings", trainings, 0.75),
    Step("c", "models", models, 0.9),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="what comes back")
    parser.add_argument("--budget-s", type=float, default=420)
    parser.add_argument("--part", nargs="+", choices="abc", default=list("abc"))
    parser.add_argument("--skip", nargs="+", default=[], help="names of steps")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--steps", type=int, default=0, help="batches per training; 0: as many as there is time for")
    parser.add_argument("--pack", type=Path, default=ROOT / ".device" / "pack.zip")
    parser.add_argument("--work", type=Path, default=Path("/tmp/uadtk-device"), help="what does not come back")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.budget_s
    output, work = arguments.output.resolve(), arguments.work.resolve()
    for folder in (output, work):
        folder.mkdir(parents=True, exist_ok=True)
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))
    unpack_checkpoints(output, work / "models")
    records = read_summary(output)
    for step in STEPS:
        done = step.name in records and records[step.name]["state"] == "done" and step.name != MACHINE
        if done or step.name in arguments.skip or not set(step.part) & set(arguments.part):
            continue
        limit = (end - time.monotonic()) * step.share
        before = tuple(row for record in records.values() for row in record["rows"])
        job = Job(
            arguments.device,
            FULL if arguments.device == "cuda" else REHEARSAL,
            work,
            arguments.pack.resolve(),
            time.monotonic() + limit,
            arguments.steps,
            before,
        )
        records[step.name] = run_step(step, job) if limit >= LEAST_S else {"state": "no time left", "rows": []}
        records[step.name]["on"] = next((row["device"] for row in records[MACHINE]["rows"]), "an unknown machine")
        print(f"{step.name}: {records[step.name]['state']}", flush=True)
        write_summary(output, records)
        if step.part == "c":
            pack_checkpoints(work / "models", output)
        keep_log(work / "log.txt", output)
    print((output / "summary.md").read_text(encoding="utf-8"))


def run_step(step: Step, job: Job) -> Result:
    """Do a step in a process group of its own; returns its state, seconds, rows and traceback."""
    rows = job.work / "rows.jsonl"
    rows.write_bytes(b"")
    start = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(step, job, rows))
    process.start()
    process.join(max(0.0, job.left_s()))
    stopped = process.is_alive()
    process.kill()
    with contextlib.suppress(ProcessLookupError):  # nothing that it started is left
        os.killpg(process.pid or -1, signal.SIGKILL)
    process.join()
    taken = time.monotonic() - start
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    error = next((row.pop("traceback") for row in found if "traceback" in row), None)
    state = f"stopped after {taken:.0f} s" if stopped else "done" if process.exitcode == 0 else "failed"
    kept = [row for row in found if row]
    return {"state": state, "seconds": round(taken, 1), "rows": kept, **({"traceback": error} if error else {})}


def _child(step: Step, job: Job, rows: Path) -> None:
    """In the new process: rows are written as they are found, all other output goes to the log."""
    os.setsid()
    with (job.work / "log.txt").open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    print(f"\n=== {step.name} ===", flush=True)
    with rows.open("a", encoding="utf-8") as out:
        try:
            for row in step.work(job):
                print(json.dumps(row), file=out, flush=True)
        except BaseException:
            print(json.dumps({"traceback": traceback.format_exc()}), file=out, flush=True)
            traceback.print_exc()
            sys.exit(1)


def read_summary(output: Path) -> dict[str, Result]:
    path = output / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}  # type: ignore[no-any-return]


def write_summary(output: Path, records: dict[str, Result]) -> None:
    (output / "summary.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    (output / "summary.md").write_text("\n".join(markdown(records)) + "\n", encoding="utf-8")


def markdown(records: dict[str, Result]) -> Iterator[str]:
    """A section per step, and in it a table per title."""
    for name, record in records.items():
        yield f"## {name}: {record['state']}" + (f", {record['seconds']} s" if "seconds" in record else "")
        yield f"On {record['on']}."
        for title in dict.fromkeys(row["table"] for row in record["rows"]):
            yield from ("", f"**{title}**", "")
            yield from table([row for row in record["rows"] if row["table"] == title])
        if "traceback" in record:
            yield from ("", "```", record["traceback"].rstrip(), "```")
        yield ""


def table(rows: Sequence[Result]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "table"))
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(shown(row.get(column)) for column in columns)} |"


def shown(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def pack_checkpoints(models: Path, output: Path) -> None:
    """The checkpoints and logs in order of worth, as many as come back, in parts of less than 16 MB."""
    for old in output.glob("checkpoints.zip.*"):
        old.unlink()
    whole, size = models.with_suffix(".zip"), 0
    with zipfile.ZipFile(whole, "w") as packed:
        for name in by_worth():
            for path in sorted(models.glob(f"{name}.safetensors")) + sorted(models.glob(f"{name}.log.jsonl")):
                size += path.stat().st_size + 1024
                if size <= PARTS * PART_BYTES:
                    packed.write(path, path.name)
    data = whole.read_bytes()
    for k in range(-(-len(data) // PART_BYTES)):
        (output / f"checkpoints.zip.{k}").write_bytes(data[k * PART_BYTES : (k + 1) * PART_BYTES])


def unpack_checkpoints(output: Path, models: Path) -> None:
    """Those of an earlier call, whose output was put back."""
    models.mkdir(exist_ok=True)
    parts = sorted(output.glob("checkpoints.zip.*"))
    if parts:
        whole = models.with_suffix(".zip")
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        with zipfile.ZipFile(whole) as packed:
            packed.extractall(models)


def keep_log(log: Path, output: Path) -> None:
    (output / "log.txt").write_bytes(log.read_bytes()[-LOG_BYTES:])


if __name__ == "__main__":
    main()
