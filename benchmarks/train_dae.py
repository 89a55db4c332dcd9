"""Train the checkpoint of the plugin ``uadtk-dae``, calibrate its points, and write it into the plugin.

    pip install -e ./plugins/uadtk-dae
    python benchmarks/train_dae.py ../shared/data build/dae

As `train_scalespace.py`, on the same slices: ``lgg`` train and phantoms, implanted lesions and coarse noise to remove.
The number of epochs is fixed, and the weights are the mean over the last four, in half precision, which is what the
points and the numbers of the card are of. An interrupted training resumes.
"""

from __future__ import annotations

from pathlib import Path

from pack_weights import halved, write
from train_scalespace import calibrate, parsed, train

from uadtk.checkpoint import load

MODEL = ("--width", "32", "--noise", "0.3", "--corruption", "both")
TRAINING = (
    *("--prepare", "flatten=yes", "--masked", "--batch", "16", "--learning-rate", "1e-3", "--decay", "cosine"),
    *("--average", "4", "--precision", "bfloat16", "--threads", "1"),
)
# Chosen on the validation split, by AUPRC of lgg, ms and wmh.
CLEANERS = ("fill", "prior:power=32,smooth_mm=2,large_mm=8,rim_mm=10", "median:size=4,unit=mm")
PACKAGE = Path(__file__).parents[1] / "plugins" / "uadtk-dae" / "src" / "uadtk_dae" / "weights"


def main() -> None:
    arguments = parsed(__doc__, "12")
    trained = train("dae", MODEL, TRAINING, arguments)
    half = arguments.work / "half.safetensors"
    halved(load(trained)).save(half)
    calibrate(half, CLEANERS, arguments.data)
    write(PACKAGE, {"dae": load(half)}, {"dae": (PACKAGE / "dae.md").read_text(encoding="utf-8")})


if __name__ == "__main__":
    main()
