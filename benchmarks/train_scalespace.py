"""Train the shipped ``scalespace`` checkpoint: phantoms, training, operating points.

    python benchmarks/train_scalespace.py ../shared/data build/scalespace

Trains on the ``train`` split of the shared data (known lesions and 6 mm around them excluded from the loss) and on
healthy phantoms made from its label maps; stops on the ``validation`` split, on which the operating points are also
calibrated (lesion-free slices). Each step is a uadtk command, printed first; steps with existing outputs are skipped,
and an interrupted training resumes.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

from uadtk.io import table as tables
from uadtk.io.cohort import read_cohort

COLUMNS = (
    "subject",
    "collection",
    "site",
    "split",
    "group",
    "image",
    "brain_mask",
    "lesion_mask",
    "lesion_free_slices",
)
PHANTOMS = {"5mm": ("--count", "20", "--slice-mm", "5", "--seed", "5000"), "3mm": ("--count", "20", "--slice-mm", "3")}
MODEL = ("--widths", "8,16,48", "--lowpass", "128", "--noise", "0.3")
TRAINING = tuple(
    "--masked --batch 16 --learning-rate 1e-3 --decay cosine --precision bfloat16 --threads 1".split()  # noqa: SIM905
)
# Chosen on the validation split (AUPRC of lgg, ms and wmh): erosion 2-4, prior power 0-4, median 5-8 mm.
CLEANERS = ("--cleaner", "erode:iterations=3", "--cleaner", "prior:power=4", "--cleaner", "median:size=6,unit=mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--epochs", default="34")
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name, settings in PHANTOMS.items():
        if not (work / name / "cohort.tsv").exists():
            run("phantom", "-o", work / name, "--labels", data / "labels", *settings)
    cohort, output = work / "cohort.tsv", work / "scalespace.safetensors"
    write_cohort(cohort, data, [work / name for name in PHANTOMS])
    schedule = (*TRAINING, "--epochs", arguments.epochs, "--patience", arguments.epochs)
    if not output.exists():
        run("train", "scalespace", cohort, "-o", output, *MODEL, *schedule)
    calibration = work / "calibration.tsv"
    write_calibration(calibration, data)
    for name, percentile in (("p98", "98"), ("p99.5", "99.5")):
        strategy = ("--strategy", f"p98:percentile={percentile}", "--name", name)
        run(
            "threshold",
            "--model",
            output,
            "--healthy",
            calibration,
            *strategy,
            *CLEANERS,
        )


def run(*words: object) -> None:
    command = ["uadtk", *map(str, words)]
    print("+", shlex.join(command), flush=True)
    subprocess.run([Path(sys.executable).parent / "uadtk", *command[1:]], check=True)


def write_cohort(path: Path, data: Path, phantoms: list[Path]) -> None:
    """Real scans to train and validate on, and all phantoms to train on, with absolute paths."""
    rows = []
    for folder in (data, *phantoms):
        with (folder / "cohort.tsv").open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                split = "train" if folder != data else row["split"]
                if split == "test" or row["collection"] in ("ms", "wmh"):
                    continue  # one scan each: used for model selection, not for early stopping
                files = {key: folder / row[key] for key in ("image", "brain_mask", "lesion_mask") if row.get(key)}
                subject = row["subject"] if folder == data else f"{folder.name}-{row['subject']}"
                rows.append({**row, **files, "subject": subject, "split": split})
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, COLUMNS, delimiter="\t", extrasaction="ignore", restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def write_calibration(path: Path, data: Path) -> None:
    """The validation scans, each patient once: heads with the skull on are the same scans again."""
    rows = read_cohort(data / "cohort.tsv").split("validation")
    tables.write_cohort(path, [row for row in rows if row.collection != "whole_head"])


if __name__ == "__main__":
    main()
