"""Draw 64 phantom slices with implants, as the model `implant` is trained on, with outlined targets.

    python benchmarks/implant_pictures.py [-o benchmarks/pictures/implants.png] [--cohort build/phantoms/cohort.tsv]

Without a cohort, phantoms are made of the ICBM brain. Pixels of 1.625 mm, anterior up. Targets are outlined in orange;
everything bright without an outline is to be learned as normal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort, read_row
from uadtk.networks.lessons import JUDGED, LEARNED, lesson
from uadtk.networks.seeded import seeded
from uadtk.phantom import make
from uadtk.preparation import Prepared, prepare

RECIPE, ROWS, CUT = Preparation(), 8, 12  # pixels cut off on each side
WHITE = 1.5  # intensity shown white


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/pictures/implants.png"))
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--held-out", action="store_true", help="Draw the kinds of implants used for validation.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    batch = slices(arguments.cohort, ROWS**2, arguments.seed)
    with seeded(arguments.seed):
        made = lesson(batch, RECIPE.pixel_mm, JUDGED if arguments.held_out else LEARNED)
    page(made.image[:, 0].numpy(), made.target[:, 0].numpy()).save(arguments.output, optimize=True)


def slices(cohort: Path | None, n: int, seed: int) -> Batch:
    """``n`` slices, a few of each phantom."""
    rng, scans = np.random.default_rng(seed), 16 if cohort is None else len(read_cohort(cohort))
    images, brains = [], []
    for k in rng.permutation(scans)[: min(scans, n)]:
        prepared = _phantom(int(k)) if cohort is None else _read(cohort, int(k))
        full = np.flatnonzero(prepared.brain.sum(axis=(1, 2)) > 0.25 * prepared.brain.sum(axis=(1, 2)).max())
        chosen = rng.choice(full, -(-n // min(scans, n)), replace=False)
        images.append(prepared.image[chosen])
        brains.append(prepared.brain[chosen])
    image, brain = (torch.from_numpy(np.concatenate(parts)[:n, None]) for parts in (images, brains))
    return Batch(image, brain, brain | True)


def _phantom(seed: int) -> Prepared:
    phantom = make(seed, slice_mm=(1.0, 2.0, 4.0)[seed % 3])
    return prepare(phantom.scan, RECIPE, Run(), phantom.brain)


def _read(cohort: Path, row: int) -> Prepared:
    scan, brain = read_row(read_cohort(cohort).rows[row], Run())
    return prepare(scan, RECIPE, Run(), brain)


def page(image: NDArray[np.float32], target: NDArray[np.bool_], rows: int = ROWS) -> Image.Image:
    """Slices (n, y, x) in rows, grey up to ``WHITE``, the rim of ``target`` in orange."""
    rim = np.stack([one & ~ndimage.binary_erosion(one) for one in target])
    shown = np.repeat((np.clip(image / WHITE, 0, 1) * 63).round()[..., None] * 4, 3, axis=-1).astype(np.uint8)
    shown[rim] = (255, 140, 0)
    tiles = shown[:, ::-1][:, CUT:-CUT, CUT:-CUT]
    tiles = tiles.reshape(rows, -1, *tiles.shape[1:])
    return Image.fromarray(np.concatenate(np.concatenate(tiles, axis=1), axis=1).astype(np.uint8)).quantize(96)


if __name__ == "__main__":
    main()
