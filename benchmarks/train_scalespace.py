"""Train the shipped ``scalespace`` checkpoint to remove implanted lesions and coarse noise, and calibrate its points.

    python benchmarks/train_scalespace.py ../shared/data build/scalespace

Trains on the ``lgg`` train split (known lesions and 6 mm around them excluded from the loss) and on healthy phantoms
made from the label maps, as `train_implant.py` does, without those of the ICBM brain. The number of epochs is fixed,
and the weights are the mean over the last six. The points are calibrated on the lesion-free slices of the
``validation`` split. Each step is a uadtk command, printed first; steps with existing outputs are skipped, and an
interrupted training resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _shared import finished, uadtk, validation_scans
from train_implant import make_phantoms, write_cohort

from uadtk.io import table as tables

LABEL_MAPS = ("phantoms", "phantoms-3mm", "phantoms-5mm")
MODEL = ("--widths", "8,16,48", "--lowpass", "128", "--noise", "0.3", "--corruption", "both")
TRAINING = (
    *("--prepare", "flatten=yes", "--masked", "--batch", "16", "--learning-rate", "1e-3", "--decay", "cosine"),
    *("--average", "6", "--precision", "bfloat16", "--threads", "1"),
)
# Chosen on the validation split, by AUPRC of lgg, ms and wmh.
CLEANERS = ("prior:power=32,smooth_mm=2,large_mm=8,rim_mm=10", "median:size=4,unit=mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, help="Output folder; phantoms are written beside it.")
    parser.add_argument("--epochs", default="24")
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    make_phantoms(data, work.parent, LABEL_MAPS)
    cohort, output = work / "cohort.tsv", work / "scalespace.safetensors"
    if not cohort.exists():
        write_cohort(cohort, data, work, names=LABEL_MAPS)
    if not finished(output):
        long = ("--epochs", arguments.epochs, "--patience", arguments.epochs, "--slices", str(work / "slices"))
        again = ("--overwrite",) if output.exists() else ()
        uadtk("train", "scalespace", str(cohort), "-o", str(output), *MODEL, *TRAINING, *long, *again)
    calibration = work / "calibration.tsv"
    tables.write_cohort(calibration, validation_scans(data))
    chain = [word for cleaner in CLEANERS for word in ("--cleaner", cleaner)]
    for name, percentile in (("p98", "98"), ("p99.5", "99.5")):
        strategy = ("--strategy", f"p98:percentile={percentile}", "--name", name)
        uadtk("threshold", "--model", str(output), "--healthy", str(calibration), *strategy, *chain)


if __name__ == "__main__":
    main()
