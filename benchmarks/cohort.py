"""A cohort: ``segment`` beside a plain script, beside its network alone, as two processes, and its memory.

    OMP_NUM_THREADS=1 python benchmarks/cohort.py [--scans FLAIR.nii.gz ...] [--repeat 2] [--small 300]

Processor seconds on one thread per network, so that other load on the machine disturbs little; the first scan, which
loads libraries and kernels, is not counted. Printed for each kind of scan:

* ``segment`` and the plain script (``benchmarks/plain.py``: torch, SciPy, cc3d, nibabel) take turns with the same scans
  and the network of ``scalespace``; the least of each. Masks are compared voxel by voxel.
* The thread of the network (``implant``): its seconds beside those of the network in it, which is how near a cohort
  comes to the network where a second core does everything else; and the seconds of the other threads.
* Two processes: processor seconds per scan of one that has another beside it, and of one alone. Two free cores would do
  twice that ratio; on a busy machine wall time says nothing.
* Memory (``--small`` scans of 44 x 52 x 24 voxels, in a process of its own): resident after each eighth.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DEMO = Path(__file__).parent.parent / "uadtk" / "phantom" / "demo" / "FLAIR.nii.gz"
SMALL = (44, 52, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="+", default=[DEMO], help="One of each kind.")
    parser.add_argument("--copies", type=int, default=3, help="Of each scan, for a cohort.")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--small", type=int, default=0, help="Small scans, to look at memory; 0 for none.")
    parser.add_argument("--only", choices=["cohort", "memory"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only == "memory":
        memory(arguments.small)
        return
    if arguments.only == "cohort":
        print(cohort_seconds(arguments.scans, "implant")[0])
        return
    print(f"load at the start: {', '.join(f'{load:.1f}' for load in os.getloadavg())}\n")
    for scan in arguments.scans:
        with tempfile.TemporaryDirectory() as folder:
            scans = copies(scan, arguments.copies, Path(folder))
            print(f"## {scan.parent.name}/{scan.name}\n")
            for lines in (beside_plain(scans, arguments.repeat), beside_network(scans), two(scans)):
                print("\n".join(lines), flush=True)
    if arguments.small:
        command = [sys.executable, __file__, "--only", "memory", "--small", str(arguments.small)]
        print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def copies(scan: Path, count: int, folder: Path) -> list[Path]:
    """As a cohort of ``count``, after a first scan."""
    found = [folder / f"s{number}.nii.gz" for number in range(count + 1)]
    for path in found:
        shutil.copy(scan, path)
    return found


class Forgetful(dict[bytes, Any]):
    """In place of what the gate remembers of a scan: copies are measured anew, as other scans are."""

    def __contains__(self, _: object) -> bool:
        return False


def cohort_seconds(scans: list[Path], model: str, folder: Path | None = None) -> tuple[float, float, float, float]:
    """Per scan, after the first: processor seconds of all threads, of this thread, of the network, and of the gate."""
    import torch

    import uadtk
    import uadtk.core.run
    from uadtk.preparation import contrast

    torch.set_num_threads(1)
    contrast._MEASURED = Forgetful()
    uadtk.core.run.perf_counter = time.thread_time  # type: ignore[assignment, attr-defined]
    opened = uadtk.open(model, threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        list(opened.segment_cohort(scans[:1], scratch, "p98"))
        start = time.process_time(), time.thread_time()
        outcomes = list(opened.segment_cohort(scans[1:], folder or scratch, "p98", overwrite=True))
        whole, own = time.process_time() - start[0], time.thread_time() - start[1]
    stages = [outcome.result.provenance["seconds"] for _, outcome in outcomes]
    network, gate = (sum(seconds[name] for seconds in stages) for name in ("network", "gate"))
    counted = len(outcomes)
    return whole / counted, own / counted, network / counted, gate / counted


def beside_plain(scans: list[Path], repeat: int) -> Iterator[str]:
    from benchmarks import plain
    from uadtk.io.read import read_scan

    checkpoint = plain.twin()
    network, threshold = checkpoint.build("cpu"), checkpoint.point("p98").threshold
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        plain.segment(scans[0], Path(folder), network, threshold, 8)
        twin = Path(folder) / "twin.safetensors"
        checkpoint.save(twin)
        for _ in range(repeat):
            whole, _, alone, gate = cohort_seconds(scans, str(twin), Path(folder) / "ours")
            ours.append((whole, gate, alone))
            start = time.process_time()
            for scan in scans[1:]:
                mask = plain.segment(scan, Path(folder), network, threshold, 8)
            theirs.append((time.process_time() - start) / (len(scans) - 1))
        own = read_scan(Path(folder) / "ours" / f"s{len(scans) - 1}_label-lesion_mask.nii.gz").voxels > 0
    dice = 2 * np.count_nonzero(own & mask) / (np.count_nonzero(own) + np.count_nonzero(mask))
    yield (
        f"uadtk {min(ours)[0]:.2f} s ({min(ours)[1]:.2f} s the gate, which the script lacks), "
        f"plain script {min(theirs):.2f} s per scan: {min(theirs) / min(ours)[0]:.1f} times"
    )
    bound = min(theirs) / min(ours)[2]
    yield f"the network, the same in both, takes {min(ours)[2]:.2f} s: with it, at most {bound:.1f} times is possible"
    yield f"masks: Dice {dice:.5f}, {np.count_nonzero(own != mask)} of {np.count_nonzero(mask)} voxels differ"


def beside_network(scans: list[Path]) -> Iterator[str]:
    whole, own, network, _ = cohort_seconds(scans, "implant")
    yield (
        f"implant: network {network:.2f} s per scan, its thread {own:.2f} s ({own / network - 1:+.0%}), "
        f"other threads {whole - own:.2f} s ({(whole - own) / network:.0%} of the network)"
    )


def two(scans: list[Path]) -> Iterator[str]:
    """Processes of ``--only cohort``: one after the other, then at once."""

    def started() -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--only", "cohort", "--scans", *map(str, scans)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def of(process: subprocess.Popen[str]) -> float:
        found = float(process.communicate()[0])
        if process.returncode:
            raise SystemExit("a process failed")
        return found

    alone = of(started())
    both = [of(process) for process in [started(), started()]]
    ratio = 2 * alone / float(np.mean(both))
    yield f"two processes: {np.mean(both):.2f} s per scan and process, one alone {alone:.2f} s: {ratio:.2f} times"


def memory(count: int) -> None:
    import nibabel as nib
    import torch

    import uadtk

    torch.set_num_threads(1)
    grid: Any = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SMALL], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            noise = np.random.default_rng(number).normal(0, 20, SMALL)
            image = np.where(radius < 0.85, np.where(radius < 0.5, 700, 500) + noise, 0).astype(np.float32)
            nib.save(nib.Nifti1Image(image, affine), Path(folder) / f"s{number:04d}.nii.gz")
        opened, marks = uadtk.open("implant", threads=1), []
        opened.run.say = lambda _: None
        outcomes = opened.segment_cohort(sorted(Path(folder).glob("s*.gz")), Path(folder) / "out", force=True)
        for place, (_, outcome) in enumerate(outcomes):
            assert outcome.error is None, outcome.error
            if (place + 1) % max(1, count // 8) == 0:
                marks.append((place + 1, resident_mb()))
    print("| scans | " + " | ".join(str(scans) for scans, _ in marks) + " |")
    print("|---" * (len(marks) + 1) + "|")
    print("| MB | " + " | ".join(f"{mb:.0f}" for _, mb in marks) + " |")
    half = marks[len(marks) // 2 :]
    scans, resident = np.array(half).T
    slope = np.polyfit(scans, resident, 1)[0] * 1024
    print(f"\nslope of the second half: {slope:+.1f} KB per scan")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
