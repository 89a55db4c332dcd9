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
from collections.abc import Sequence
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
    arguments = parsed(__doc__, "24")
    output = train("scalespace", MODEL, TRAINING, arguments)
    calibrate(output, CLEANERS, arguments.data)


def parsed(description: str | None, epochs: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=lambda text: Path(text).resolve())
    parser.add_argument("work", type=lambda text: Path(text).resolve(), help="Output; phantoms are written beside it.")
    parser.add_argument("--epochs", default=epochs)
    return parser.parse_args()


def train(name: str, model: Sequence[str], training: Sequence[str], arguments: argparse.Namespace) -> Path:
    """The trained checkpoint, made now unless it is finished."""
    data, work = arguments.data, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    make_phantoms(data, work.parent, LABEL_MAPS)
    cohort, output = work / "cohort.tsv", work / f"{name}.safetensors"
    if not cohort.exists():
        write_cohort(cohort, data, work, names=LABEL_MAPS)
    if not finished(output):
        long = ("--epochs", arguments.epochs, "--patience", arguments.epochs, "--slices", str(work / "slices"))
        again = ("--overwrite",) if output.exists() else ()
        uadtk("train", name, str(cohort), "-o", str(output), *model, *training, *long, *again)
    return output


def calibrate(checkpoint: Path, cleaners: Sequence[str], data: Path) -> None:
    """Store ``p98`` and ``p99.5``, from the lesion-free slices of the validation scans."""
    calibration = checkpoint.parent / "calibration.tsv"
    tables.write_cohort(calibration, validation_scans(data))
    chain = [word for cleaner in cleaners for word in ("--cleaner", cleaner)]
    for name, percentile in (("p98", "98"), ("p99.5", "99.5")):
        strategy = ("--strategy", f"p98:percentile={percentile}", "--name", name)
        uadtk("threshold", "--model", str(checkpoint), "--healthy", str(calibration), *strategy, *chain)


if __name__ == "__main__":
    main()
