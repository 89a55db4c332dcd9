"""The peer of ``benchmarks/cohort.py``: a script as one writes it without uadtk, around a trained network.

Torch, nibabel, SciPy and cc3d; batches, float32 arrays and cropped filters, but no compiled code of one's own. It does
what ``uadtk segment`` does to a skull-stripped scan with the checkpoint :func:`twin`, the shipped ``scalespace`` with
the study's kind of post-processing, and writes the same five images, without the gate, findings, page and provenance.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cc3d
import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.checkpoint import Checkpoint, open_checkpoint
from uadtk.core.spec import parse_all
from uadtk.pipeline.point import uncalibrated

SIDE, FIELD_MM, BATCH = 128, 208.0, 32
EROSIONS, POWER, MEDIAN_MM, LEVELS = 3, 4.0, 6.0, 65535
Array = NDArray[Any]


def twin() -> Checkpoint:
    """`scalespace` without bias correction, with the cleaners of this script, and a point ``p98`` near that share."""
    shipped = open_checkpoint("scalespace")
    chain = (f"erode:iterations={EROSIONS}", f"prior:power={POWER}", f"median:size={MEDIAN_MM},unit=mm")
    bare = replace(
        shipped, preparation=replace(shipped.preparation, flatten=False), cleaners=parse_all(chain), points=()
    )
    return bare.with_point(uncalibrated(bare, "p98", 0.05, "about 98 % of healthy brain voxels"))


def segment(path: Path, folder: Path, network: Any, threshold: float, smallest: int) -> Array:
    """Writes the images; returns the mask."""
    loaded: Any = nib.load(path)
    scan = nib.as_closest_canonical(loaded)
    image, mm = np.asarray(scan.dataobj, np.float32), np.array(scan.header.get_zooms()[:3], float)
    brain = ndimage.binary_fill_holes(image > 0)
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    inside = brain[box].astype(np.float32)
    to_x, from_x = matrices(inside.shape[0], FIELD_MM / SIDE / mm[0])
    to_y, from_y = matrices(inside.shape[1], -FIELD_MM / SIDE / mm[1])
    cut = image[box]
    cut = cut / np.percentile(cut[inside > 0], 98) * inside
    slices, mask = (to_y @ volume.T @ to_x.T for volume in (cut, inside))
    mask = mask > 0.5
    slices *= mask
    with torch.inference_mode():
        parts = torch.from_numpy(slices)[:, None].split(BATCH)
        rebuilt = torch.cat([network.reconstruct(part) for part in parts])[:, 0].numpy() * mask
    score = np.maximum(slices - rebuilt, 0)
    score *= ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1)[1:2], iterations=EROSIONS)
    score *= ranks(slices, mask)
    score = median(score, [MEDIAN_MM / mm[2], *[MEDIAN_MM * SIDE / FIELD_MM] * 2])

    def own(values: Array) -> Array:
        found = np.zeros(image.shape, np.float32)
        found[box] = (from_y @ values @ from_x.T).T * inside
        return found

    own_score = own(score)
    labels: Array = cc3d.dust(own_score > threshold, threshold=smallest, connectivity=26, in_place=False)
    labels = cc3d.connected_components(labels, connectivity=26)
    outputs = {"mask": (labels > 0).astype(np.uint8), "score": own_score, "components": labels.astype(np.int16)}
    outputs |= {"brain": brain.astype(np.uint8), "reconstruction": own(rebuilt)}
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(loaded.affine)
    )
    name = path.name.removesuffix(".nii.gz")
    for what, values in outputs.items():
        turned = nib.orientations.apply_orientation(values, back)
        nib.save(nib.Nifti1Image(turned, loaded.affine), folder / f"{name}_{what}.nii.gz")
    return nib.orientations.apply_orientation(outputs["mask"], back) > 0


def matrices(size: int, step: float) -> tuple[Array, Array]:
    """Linear interpolation from ``size`` voxels to the pixels of a slice, and back."""
    off = 0.25 * min(max((1.25 - abs(step)) / 0.15, 0.0), 1.0)
    at = (size - 1) / 2 + (np.arange(SIDE) - (SIDE - 1) / 2 + off) * step
    return weights(at, size), weights((np.arange(size) - at[0]) / step, SIDE)


def weights(at: Array, size: int) -> Array:
    width = max(1.0, abs(at[1] - at[0]))
    margin = int(np.ceil(width))
    found = np.maximum(0, 1 - np.abs(np.arange(-margin, size + margin) - at[:, None]) / width)
    total = found.sum(1, keepdims=True)
    return (found[:, margin : margin + size] / np.where(total > 0, total, 1)).astype(np.float32)


def ranks(slices: Array, mask: Array) -> Array:
    """The share of the brain's pixels that are at most as bright, to the ``POWER``."""
    values = slices[mask]
    grey = (values * (LEVELS / values.max())).astype(np.int32)
    share = np.cumsum(np.bincount(grey, minlength=LEVELS + 1)) / len(values)
    found = np.zeros_like(slices)
    found[mask] = (share**POWER).astype(np.float32)[grey]
    return found


def median(score: Array, widths: list[float]) -> Array:
    """Medians of the two odd windows around a width, blended; in the box of what is not zero."""
    widths = [min(max(width, 1.0), 7.0) for width in widths]
    low = [2 * int((width - 1) / 2) + 1 for width in widths]
    shares = [(width - first) / 2 for width, first in zip(widths, low, strict=True)]
    box = ndimage.find_objects((score > 0).astype(np.uint8))[0]
    box = tuple(slice(max(0, side.start - 7), side.stop + 7) for side in box)
    cuts = sorted({0.0, *shares, 1.0})
    found = np.zeros_like(score)
    for start, end in pairwise(cuts):
        window = [first + 2 * (share >= end) for first, share in zip(low, shares, strict=True)]
        found[box] += np.float32(end - start) * ndimage.median_filter(score[box], window)
    return found
