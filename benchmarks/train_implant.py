"""Train the model `implant` on a cohort of which about half are phantoms.

    python benchmarks/train_implant.py ../shared/data build/implant [--width 16] [--epochs 12] [--shapes shapes.npy]

Real slices come from the `lgg` train split; known lesions and a margin of 6 mm are excluded from the loss. More come
from phantoms of the label maps (every fifth slice of 36 heads with slices of 1 mm, all slices of 20 with 5 mm and of
8 with 3 mm) and of the ICBM brain (16 with 1 mm), so that many heads contribute a few slices each. The weights are
the mean over the last epochs. Held-out slices (the `lgg` validation split and four more phantoms) get kinds of
implants that are never trained on, so no lesion influences the training or its log. The test split is not read.

With `--fold 1/2` and `--fold 2/2`, two more models leave out one half of the patients each: `crossfit.py` calibrates
operating points on the patients that a model has not seen.

Each step is a uadtk command, printed before it runs. A step whose output exists is not repeated; an interrupted
training resumes after its last complete epoch when the same command is run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from _shared import finished, uadtk

from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io import table as tables
from uadtk.io.cohort import Row, read_cohort, read_row
from uadtk.io.write import write_nifti

PHANTOMS = {
    "phantoms": ("--count", "40", "--slice-mm", "1", "--in-plane-mm", "1", "--seed", "100"),
    "phantoms-3mm": ("--count", "20", "--slice-mm", "3", "--seed", "3000"),
    "phantoms-5mm": ("--count", "20", "--slice-mm", "5", "--seed", "5000"),
    "phantoms-icbm": ("--count", "16", "--slice-mm", "1", "--seed", "7000"),
}
USED = {"phantoms": 40, "phantoms-3mm": 8, "phantoms-5mm": 20, "phantoms-icbm": 16}
ICBM, THIN, EVERY, HELD = "phantoms-icbm", ("phantoms", "phantoms-icbm"), 5, 4
COLUMNS = ("subject", "collection", "split", "group", "image", "brain_mask", "lesion_mask")
SCHEDULE = (
    *("--masked", "--no-augment", "--batch", "16", "--learning-rate", "2e-3", "--decay", "cosine"),
    *("--precision", "bfloat16", "--threads", "1"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, help="Output folder; phantoms are written beside it.")
    parser.add_argument("--width", default="16")
    parser.add_argument("--epochs", default="12")
    parser.add_argument("--average", default="8", help="Last epochs whose weights are averaged; 0 for none.")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--shapes", type=Path, help="Output of `lesion_shapes.py`: outlines of real lesions.")
    parser.add_argument("--fold", help="As 1/2: leave out every second `lgg` patient, beginning with the first.")
    parser.add_argument("--minutes", help="Pause after this time; the same command resumes.")
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    make_phantoms(data, work.parent)
    kind = "shapes-" if arguments.shapes else ""
    part = f"-fold{arguments.fold.replace('/', 'of')}" if arguments.fold else ""
    cohort, slices = work / f"cohort{part}.tsv", work / f"slices{part}"
    output = work / f"implant-{kind}{arguments.width}-{arguments.seed}{part}.safetensors"
    if not cohort.exists():
        write_cohort(cohort, data, work, arguments.fold)
    if finished(output):
        return
    pause = ("--minutes", arguments.minutes) if arguments.minutes else ()
    again = ("--overwrite",) if output.exists() else ()
    long = ["--epochs", arguments.epochs, "--patience", arguments.epochs, "--average", arguments.average]
    long += ["--seed", arguments.seed]
    model = ["--width", arguments.width, "--slices", str(slices)]
    model += ["--shapes", str(arguments.shapes.resolve())] if arguments.shapes else []
    uadtk("train", "implant", str(cohort), "-o", str(output), *model, *SCHEDULE, *long, *pause, *again)


def make_phantoms(data: Path, folder: Path, names: Iterable[str] = PHANTOMS) -> None:
    for name in names:
        if not (folder / name / "cohort.tsv").exists():
            labels = () if name == ICBM else ("--labels", str(data / "labels"))
            uadtk("phantom", "-o", str(folder / name), *labels, *PHANTOMS[name])


def write_cohort(path: Path, data: Path, work: Path, fold: str | None = None, names: Iterable[str] = PHANTOMS) -> None:
    """Gliomas and phantoms for training and validation, with absolute paths; without the patients of a fold."""
    rows = [row for row in read_cohort(data / "cohort.tsv").where(collection="lgg") if row.split != "test"]
    left_out = {row.subject for row in fold_of(data, fold)} if fold else set()
    rows = [row for row in rows if row.subject not in left_out]
    rows += [row for name in names for row in phantoms(work.parent / name, work / "thinned")]
    tables.write_cohort(path, (Row(**{name: getattr(row, name) for name in COLUMNS}) for row in rows))


def fold_of(data: Path, fold: str) -> list[Row]:
    """The `lgg` training patients of fold ``k/n``."""
    k, n = (int(part) for part in fold.split("/"))
    patients = [row for row in read_cohort(data / "cohort.tsv").where(collection="lgg") if row.split == "train"]
    return part_of(patients, k, n)


def part_of(patients: list[Row], k: int, n: int) -> list[Row]:
    """Every n-th, beginning with the k-th (from 1), so that sites are mixed."""
    return patients[k - 1 :: n]


def phantoms(folder: Path, thinned: Path) -> Iterator[Row]:
    """Phantoms for training; the last few with thin slices are for validation."""
    for k, row in enumerate(read_cohort(folder / "cohort.tsv").rows[: USED[folder.name]]):
        split = "validation" if folder.name == THIN[0] and k >= USED[THIN[0]] - HELD else "train"
        row = replace(row, subject=f"{folder.name}-{row.subject}", split=split)
        yield every_fifth(row, k, thinned) if folder.name in THIN else row


def every_fifth(row: Row, k: int, folder: Path) -> Row:
    """The scan with every fifth slice, written to ``folder``: slices as thin as before, with gaps."""
    folder.mkdir(exist_ok=True)
    scan, brain = read_row(row, Run())
    assert brain is not None
    step = np.diag([1.0, 1.0, EVERY, 1.0])
    step[2, 3] = first = k % EVERY
    image, mask = (folder / f"{row.subject}_{kind}.nii.gz" for kind in ("FLAIR", "brain"))
    write_nifti(image, Scan(scan.voxels[:, :, first::EVERY], scan.affine @ step))
    write_nifti(mask, Mask(brain.voxels[:, :, first::EVERY], scan.affine @ step))
    return replace(row, image=image, brain_mask=mask)


if __name__ == "__main__":
    main()
