"""Everything that `device.py` needs on a borrowed machine and that is not in the repository, in one folder.

    python benchmarks/device_pack.py build/implant/cohort.tsv --slices build/implant/slices [-o .device]

The cohort and the prepared slices are those of `train_implant.py`. The folder, which git ignores, then holds

* ``pack.zip``, at most 40 MB: the cohort, all its training and validation slices as ``uadtk train --slices`` prepares
  them, quantised to 8 bits of each slice's range, and the ``lgg`` validation scans, which models are measured on;
* ``whl/``: wheels of what the machine lacks, for Python 3.12 on x86-64 Linux, and of the plugin `uadtk-dae`.

``unpack`` writes the slices where ``uadtk train --slices`` looks for them. Their scans are not there: files that hold
only a name stand for them, since nothing reads a scan whose slices are prepared.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.io.memo import digest_of, write_memo
from uadtk.io.table import read_table, write_cohort
from uadtk.preparation.gate import wanted_by
from uadtk.training.slices import FORMAT, Slices, load_slices, slices_key
from uadtk.training.statistics import usual_contrast

ROOT = Path(__file__).parent.parent
SPLITS = ("train", "validation")
LGG = "lgg"
MOST_BYTES = 40_000_000
MISSING = ("nibabel", "connected-components-3d")  # of the packages that KINDS.md lists
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux1")
FILES = {"image": "FLAIR", "brain_mask": "brain", "lesion_mask": "lesion"}  # the name tells the contrast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--slices", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / ".device")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "pack.zip"
    pack(read_cohort(arguments.cohort), arguments.slices, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    for wheel in collect_wheels(arguments.output / "whl"):
        print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB")


def pack(cohort: Cohort, cache: Path, path: Path) -> None:
    """Raises SystemExit if it would be larger than ``MOST_BYTES``, or if the slices cannot be told apart by scan."""
    run = Run(say=lambda line: print(line, file=sys.stderr))
    usual = usual_contrast(list(cohort.split("train")), run)
    rows: list[Row] = []
    with zipfile.ZipFile(path, "w") as out, tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            of_split = list(cohort.split(split))
            slices = load_slices(of_split, Preparation(), True, run, f"{split} scans", cache, usual)
            of_split = [row for row in of_split if row.subject not in slices.failed]
            if len(of_split) != slices.scans:
                raise SystemExit(f"{len(of_split)} {split} scans gave slices of {slices.scans}")
            out.writestr(f"{split}.npz", _packed(slices))
            out.writestr(f"{split}.json", json.dumps(slices.gates))
            rows += of_split
        table = Path(folder) / "cohort.tsv"
        renamed = [_renamed(row, table.parent) for row in rows]
        write_cohort(table, renamed)
        out.write(table, table.name)
        for row, new in zip(rows, renamed, strict=True):
            if (row.collection, row.split) == (LGG, "validation"):
                for kind in FILES:
                    if file := getattr(row, kind):
                        out.write(file, getattr(new, kind).name)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} is {path.stat().st_size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f} MB")


def _renamed(row: Row, folder: Path) -> Row:
    named = {kind: folder / f"{row.subject}_{FILES[kind]}.nii.gz" for kind in FILES if getattr(row, kind)}
    return replace(row, lesion_free_slices=None, **named)  # type: ignore[arg-type]


def _packed(slices: Slices) -> bytes:
    """Slice by slice in 8 bits of its range, so that rounding moves no pixel by more than 1/510 of the brightest."""
    scale = slices.image.reshape(len(slices), -1).max(1) / np.float32(255)
    levels = np.stack([np.rint(image / step) for image, step in zip(slices.image, scale, strict=True)])
    content = io.BytesIO()
    np.savez_compressed(
        content, levels=levels.astype(np.uint8), scale=scale, masks=np.asarray(slices.masks), about=slices.about
    )
    return content.getvalue()


def collect_wheels(folder: Path) -> list[Path]:
    """One wheel of each missing package, of the version that is installed here, and of the plugin."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    where = [f"--platform={platform}_x86_64" for platform in PLATFORMS]
    wanted = [f"{name}=={version(name)}" for name in MISSING]
    target = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", *where]
    subprocess.run([*pip, "download", "--no-deps", *target, "-d", folder, *wanted], check=True)
    with tempfile.TemporaryDirectory() as copy:  # pip builds in the folder that it is given
        plugin = shutil.copytree(ROOT / "plugins" / "uadtk-dae", Path(copy) / "plugin")
        subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, plugin], check=True)
    return sorted(folder.glob("*.whl"))


def unpack(path: Path, work: Path) -> tuple[Path, Path]:
    """Slices in ``work/slices``; returns the tables of all rows and of the ``lgg`` rows, which `train_all.py` uses."""
    table, of_gliomas = work / "cohort.tsv", work / "lgg.tsv"
    if of_gliomas.exists():
        return table, of_gliomas
    with zipfile.ZipFile(path) as packed:
        for name in packed.namelist():
            if not name.endswith((".npz", ".json")):
                packed.extract(name, work)
        rows, _ = read_table(table)
        for row in rows:
            _stand_in(row)
        gliomas = [row for row in rows if row.collection == LGG]
        for split in SPLITS:
            arrays = dict(np.load(io.BytesIO(packed.read(f"{split}.npz"))))
            gates = json.loads(packed.read(f"{split}.json"))
            whole = [row for row in rows if row.split == split]
            for chosen in (whole, [row for row in gliomas if row.split == split]):
                _place(whole, chosen, arrays, gates, work / "slices")
    write_cohort(of_gliomas, gliomas)
    return table, of_gliomas


def _stand_in(row: Row) -> None:
    """Files with the subject's name in place of those that were not packed."""
    for kind in FILES:
        file: Path | None = getattr(row, kind)
        if file and not file.exists():
            file.write_text(f"{row.subject} {kind}\n", encoding="utf-8")


def _place(whole: Sequence[Row], chosen: Sequence[Row], arrays: dict[str, Any], gates: list[Any], cache: Path) -> None:
    """The slices of ``chosen``, as ``load_slices`` stores them and finds them again."""
    numbers = [whole.index(row) for row in chosen]
    scan = arrays["about"][:, 0]
    kept = np.flatnonzero(np.isin(scan, numbers))
    about = arrays["about"][kept]
    about[:, 0] = np.searchsorted(numbers, scan[kept])
    recipe = Preparation()
    key = {**slices_key(chosen, recipe, True), "gate": [wanted_by({}), Run().worst]}
    folder = cache / digest_of(key)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    image = arrays["levels"][kept] * arrays["scale"][kept, None, None]
    image.astype("<f4").tofile(folder / "image.f32")
    arrays["masks"][kept].tofile(folder / "masks.u8")
    about.astype("<i4").tofile(folder / "about.i4")
    found = {"slices": len(kept), "scans": len(chosen), "pixels": len(kept) * recipe.pixels**2, "failed": []}
    write_memo(folder / "slices.json", FORMAT, key, {**found, "gates": [gates[number] for number in numbers]})


if __name__ == "__main__":
    main()
