"""Seconds of ``uadtk export-bids`` of many scans, at first, and again when nothing, or one scan, has changed.

    python benchmarks/bids_export.py OUT [--scans 500]

OUT is an output folder of ``uadtk segment``; its first scan that is done is linked as many times under other names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from uadtk.io.bids_out import write_bids
from uadtk.io.results import MANIFEST, ScanState, read_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scans", type=int, default=500)
    given = parser.parse_args()
    scan = next(state for state in read_folder(given.out) if state.status == "done")
    with tempfile.TemporaryDirectory(dir=given.out.parent) as place:
        folder, target = Path(place), Path(place, "derivatives", "uadtk")
        for number in range(given.scans):
            _copied(scan, folder, f"sub-{number:04d}")
        _timed("first", folder, target)
        _timed("nothing has changed", folder, target)
        _copied(scan, folder, "sub-0000", " ")
        _timed("one scan has changed", folder, target)


def _copied(scan: ScanState, folder: Path, name: str, more: str = "") -> None:
    for key, path in scan.files.items():
        there = folder / path.name.replace(scan.name, name, 1)
        there.unlink(missing_ok=True)
        if key != "provenance":
            os.link(path, there)
    (folder / f"{name}_{MANIFEST}").write_text((scan.files["provenance"].read_text() + more).replace(scan.name, name))


def _timed(what: str, folder: Path, target: Path) -> None:
    start = time.perf_counter()
    written = write_bids(read_folder(folder), target)
    print(f"{what}: {len(written)} files in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
