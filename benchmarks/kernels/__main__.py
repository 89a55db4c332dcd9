"""``python -m benchmarks.kernels [--quick] [kernel ...]``: the table of ratios, as Markdown; exit 1 below a floor.

Each kernel is measured in its own process, so that thread pools and allocators of its peers do not affect the next.
Freed memory stays in it, as in uadtk's commands: else the pages of each result above 32 MB would be counted, too.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.kernels import harness
from uadtk import kernels
from uadtk.networks.memory import keep_memory

_FILES = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
MODULES = [name for name in _FILES if name not in ("__main__", "__init__", "harness")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("kernel", nargs="*", help=f"file or function; files: {', '.join(MODULES)}")
    parser.add_argument("--quick", action="store_true", help="smallest size and fewer repeats; same floors")
    parser.add_argument("--rows-of", choices=MODULES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows_of:
        return _rows_of(arguments.rows_of, arguments.quick)

    homes = kernels._MODULES
    wanted = [homes.get(name, name) for name in arguments.kernel] or MODULES
    unknown = sorted(set(wanted) - set(MODULES))
    if unknown:
        parser.error(f"no benchmark for {', '.join(unknown)}; choose from {', '.join(MODULES)}")

    print(f"{harness.machine()}\n", flush=True)
    command = [sys.executable, "-m", "benchmarks.kernels", *(["--quick"] if arguments.quick else [])]
    failed = [
        name
        for name in dict.fromkeys(wanted)
        if subprocess.run(
            [*command, "--rows-of", name], cwd=harness.ROOT, env={**os.environ, **harness.ONE_THREAD}, check=False
        ).returncode
    ]

    print("\n| first call | empty compile cache, s | filled cache, s |\n|---|---:|---:|")
    for name in dict.fromkeys(wanted):
        cold, warm = harness.first_call_seconds(name)
        print(f"| {name} | {cold:.2f} | {warm:.3f} |", flush=True)
    if failed:
        print(f"below the floor, or broken: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _rows_of(module: str, quick: bool) -> int:
    print(f"\n### {module}\n")
    keep_memory()  # as every command does; for the peers, too
    missed = []
    for line in harness.table(importlib.import_module(f"benchmarks.kernels.{module}").rows(quick)):
        if isinstance(line, harness.BelowFloor):
            missed.append(line)
        else:
            print(line, flush=True)
    for line in missed:
        print(f"below the floor: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
