"""Extract outlines of real lesions for `uadtk train implant --shapes`: axial cuts of MS lesions of the shared data.

    python benchmarks/lesion_shapes.py ../shared/data/lesion_shapes/csim_ms_lesion_shapes.npz build/shapes.npy

The largest axial cut of each connected lesion, if it has at least 12 mm2, is padded to a square and resampled to
24 x 24, as a soft mask in [0, 1]. Locations, sizes and intensities are discarded. The options of a checkpoint trained
with `--shapes` record it: its shapes come from annotated lesions (Slicer lesion simulator, Apache-2.0).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE, LEAST_MM2 = 24, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    shapes = np.stack([framed(cut) for label in unpacked(arguments.labels) for cut in cuts(label)])
    np.save(arguments.output, shapes.astype(np.float16))
    print(f"{len(shapes)} shapes")


def unpacked(path: Path) -> Iterator[NDArray[np.bool_]]:
    """The bounding boxes of the labels, (x, y, z) of 1 mm."""
    with np.load(path) as packed:
        bits, offsets, sizes = packed["bits"], packed["offsets"], packed["size"]
    for start, stop, size in zip(offsets[:-1], offsets[1:], sizes, strict=True):
        yield np.unpackbits(bits[start:stop], count=int(np.prod(size))).astype(bool).reshape(size)


def cuts(label: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The largest axial cut of each lesion in a label, cropped to it."""
    lesions, _ = ndimage.label(label)
    for number, box in enumerate(ndimage.find_objects(lesions), 1):
        lesion = lesions[box] == number
        cut = lesion[:, :, lesion.sum(axis=(0, 1)).argmax()]
        if cut.sum() >= LEAST_MM2:
            rows, columns = (np.flatnonzero(cut.any(axis=axis)) for axis in (1, 0))
            yield cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def framed(cut: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Centred in a square frame with a margin of one pixel, resampled to ``SIDE`` pixels."""
    side = max(cut.shape) + 2
    frame = np.zeros((side, side), np.float32)
    top, left = ((side - n) // 2 for n in cut.shape)
    frame[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    soft = ndimage.gaussian_filter(frame, 0.04 * side)
    return np.clip(ndimage.zoom(soft, SIDE / side, order=1, grid_mode=True, mode="grid-constant"), 0, 1)


if __name__ == "__main__":
    main()
