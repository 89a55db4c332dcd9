"""Scans and masks from files: the readers of ``io/readers`` in their order, then those of plugins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.core.absent import absence, refuse_pointer, refuse_special
from uadtk.core.errors import DataError, UadtkError, UsageError
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.readers import read_any

MOST_LESION = 0.5  # of the field, air included: more is an inverted mask
SLIGHTLY_MM = 0.02  # a mask that is further off than rounding explains is used with a note


def read_scan(path: str | os.PathLike[str], trust: str = "") -> Scan:
    """Read a scan as float32, scaled by its header, in its own orientation and with its own affine.

    The affine is the sform, else the qform, else from the spacing, as in nibabel; where these contradict each other,
    ``trust`` (sform or qform) chooses one. A fourth axis of length 1 is dropped.

    Raises
    ------
    DataError
        Missing, unreadable, not an image, truncated, several volumes, colour or complex voxels, infinite voxels, NaN
        inside the image (around it, NaN is 0), impossible spacing, or the same value everywhere.
    """
    with located(Path(path)):
        return _scan(read_volume(path, trust))


def as_scan(source: Any, affine: Any = None, trust: str = "") -> Scan:
    """A scan from a path, a ``Scan``, a nibabel image, or an array (x, y, z) with its ``affine``. Raises as above."""
    if isinstance(source, Scan):
        return source
    return read_scan(source, trust) if isinstance(source, str | os.PathLike) else _scan(_in_memory(source, affine))


def as_mask(source: Any, like: Volume) -> Mask:
    """A brain mask from a path, a nibabel image, or an array on the grid of ``like``. Raises as ``read_mask``."""
    if isinstance(source, str | os.PathLike):
        return read_mask(source, like)
    return _mask(_in_memory(source, like.affine), like, may_be_empty=False)


def _in_memory(source: Any, affine: Any) -> Volume:
    voxels = np.asanyarray(source.dataobj) if hasattr(source, "dataobj") else np.asanyarray(source)
    affine = source.affine if hasattr(source, "affine") else affine
    if affine is None:
        raise UsageError("an array has no place in space", fix="Pass its affine (4, 4) from voxel indices to RAS+ mm.")
    if voxels.dtype.kind not in "biuf":
        raise DataError(f"has voxels of type {voxels.dtype}, not one number per voxel")
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    with np.errstate(over="ignore"):
        return _finite(Volume(voxels.astype(np.float32), affine))


def _scan(volume: Volume) -> Scan:
    if volume.voxels.min() == volume.voxels.max():
        value = float(volume.voxels.flat[0])
        raise DataError(f"contains no image: every voxel is {value:g}", fix="Export the scan again.")
    return Scan(volume.voxels, volume.affine, volume.header, volume.notes, volume.facts, volume.origin)


def read_mask(path: str | os.PathLike[str], like: Volume, *, may_be_empty: bool = False) -> Mask:
    """Read a mask on the grid of ``like``: true where the stored value (0/1, 0/255, probability, label) is above 0.5.

    Parameters
    ----------
    path
        Any image that ``read_volume`` reads.
    like
        The scan the mask belongs to. The mask takes its affine, so that the two are bit-identical.
    may_be_empty
        Set for lesion masks, which are empty for healthy subjects; a brain mask never is.

    Raises
    ------
    DataError
        As ``read_scan``; or another shape, another place (a corner off by more than a tenth of a voxel), or empty.
    """
    with located(Path(path)):
        return _mask(read_volume(path, like.header.trust), like, may_be_empty)


def _mask(volume: Volume, like: Volume, may_be_empty: bool) -> Mask:
    volume = _on_grid(volume, like)
    inside = volume.voxels > 0.5
    if not may_be_empty and not inside.any():
        raise DataError("the mask is empty: no voxel is above 0.5", fix="Give a mask that covers something.")
    return Mask(inside, like.affine, notes=volume.notes)


def _on_grid(volume: Volume, like: Volume) -> Volume:
    """A mask with its axes as those of the scan ``like``, and a note if it is slightly off. Raises DataError."""
    volume = _as_stored(volume, like)
    off_mm = like.off_by_mm(volume)
    if like.same_grid(volume):
        slightly = f"the mask lies {off_mm:.2g} mm off the scan, less than a tenth of a voxel: it is used"
        return replace(volume, notes=(slightly,) if off_mm > SLIGHTLY_MM else ())
    fix = "Resample the mask onto the scan with nearest neighbour, or give the mask made for this scan."
    if like.shape != volume.shape:
        raise DataError(f"the mask's grid ({_words(volume)}) is not the scan's ({_words(like)})", fix=fix)
    off = f"the mask lies up to {off_mm:.3g} mm off the scan"
    raise DataError(f"{off}: its grid is {_words(volume)}, the scan's {_words(like)}", fix=fix)


def read_volume(path: str | os.PathLike[str], trust: str = "") -> Volume:
    """Read any image with one number per voxel, as finite float32. Raises ``DataError`` as ``read_scan`` does."""
    path = Path(path)
    with located(path):
        volume = _read(path, trust)
        voxels = np.asarray(volume.voxels, dtype=np.float32)
        return _finite(volume if voxels is volume.voxels else replace(volume, voxels=voxels))


def _finite(volume: Volume) -> Volume:
    """NaN around the image, as resampling leaves outside the field of view, becomes 0. Raises DataError for others."""
    finite = np.isfinite(volume.voxels)
    if finite.all():
        return volume
    count = finite.size - int(np.count_nonzero(finite))
    wrong = ~finite & (_between(finite) | ~np.isnan(volume.voxels)) if finite.any() else ~finite
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        raise DataError(
            f"{count} voxels are NaN, infinite or beyond float32, the first at {first}",
            fix="Replace them, outside the brain with 0 (NaN: fslmaths IN -nan OUT).",
        )
    note = f"{count} voxels around the image are NaN, as outside a field of view: taken as 0"
    return replace(volume, voxels=np.where(finite, volume.voxels, np.float32(0)), notes=(*volume.notes, note))


def _between(finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels with finite ones on both sides along some axis: of a box in any orientation, all that are inside."""
    found = np.zeros_like(finite)
    for axis in range(finite.ndim):
        before = np.logical_or.accumulate(finite, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(finite, axis), axis), axis)
        found |= before & after
    return found


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Add the path to errors raised inside without a ``where``; ``OSError`` becomes ``DataError``."""
    try:
        yield
    except UadtkError as error:
        error.locate(path)
        raise
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            what, fix = absence(path)
            raise DataError(what, str(path), fix) from error
        named = error.filename if isinstance(error.filename, str | bytes) else path  # of a mask, perhaps
        what, fix = f"cannot be read ({error.strerror or error})", "Check path and permissions."
        raise DataError(what, os.fsdecode(named), fix) from error


def _read(path: Path, trust: str) -> Volume:
    if not path.exists():
        what, fix = absence(path)
        raise DataError(what, fix=fix)
    refuse_special(path)
    volume = read_any(path, trust)
    if volume is None:
        volume = _ask_plugins(path)
    if volume is not None:
        return volume
    if path.is_dir():
        raise DataError("is a folder without DICOM, not an image", fix="Name an image in it.")
    refuse_pointer(path)
    raise DataError(
        "not a NIfTI image nor of another known format, and no installed plugin reads it", fix="Convert it to .nii.gz."
    )


def _ask_plugins(path: Path) -> Volume | None:
    try:
        volume: Volume | None = registry.hooks().uadtk_read(path=path)
    except (UadtkError, OSError):
        raise
    except Exception as error:
        what = f"the plugin that reads it failed ({type(error).__name__}: {error})"
        raise DataError(what, fix="Convert it to .nii.gz.") from error
    return volume


def _as_stored(volume: Volume, like: Volume) -> Volume:
    """With its axes in the order of ``like``, if that alone differs: converters of DICOM turn rows or slices around."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

    own, wanted = io_orientation(volume.affine), io_orientation(like.affine)
    if np.array_equal(own, wanted):
        return volume
    turn = ornt_transform(own, wanted)
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    turned = Volume(apply_orientation(volume.voxels, turn), affine)
    return turned if like.same_grid(turned) else volume


def _words(grid: Volume) -> str:
    import nibabel as nib

    shape, spacing = (" x ".join(f"{n:.4g}" for n in numbers) for numbers in (grid.shape, grid.spacing_mm))
    origin = ", ".join(f"{n:.2f}" for n in grid.affine[:3, 3])
    codes: Any = nib.orientations.aff2axcodes
    axes = "".join(code or "?" for code in codes(grid.affine))
    return f"{shape} voxels of {spacing} mm, axes {axes}, first voxel at {origin} mm"


def read_lesion_mask(path: str | os.PathLike[str], like: Volume, labels: Sequence[int] | None = None) -> Mask:
    """A lesion mask on the grid of ``like``: 0 and one other value, whichever, or the values ``labels`` of a label map.

    Raises
    ------
    DataError
        As ``read_mask``; probabilities, several labels without a word on which are lesions, or most of the field.
    """
    with located(Path(path)):
        # The grid first: of another image, values say nothing.
        volume = _on_grid(read_volume(path, like.header.trust), like)
        lesions = _lesions(volume.voxels, labels)
        if (share := float(lesions.mean())) > MOST_LESION:
            what = f"{share:.0%} of the field is marked as lesion"
            raise DataError(what, fix="Is the mask inverted, or that of another image? Lesions are not 0.")
        return Mask(lesions, like.affine, notes=volume.notes)


def _lesions(voxels: NDArray[Any], labels: Sequence[int] | None) -> NDArray[np.bool_]:
    values = np.unique(voxels)  # sorted
    whole = np.rint(values)
    if np.abs(values - whole).max() > 1e-3 and len(values) > 2:
        what = f"holds fractions, such as {values[np.abs(values - whole).argmax()]:.3g}, not a mask"
        raise DataError(what, fix="Choose a threshold and store a mask of 0 and 1.")
    if labels is not None:
        return np.isin(np.rint(voxels), labels)
    if len(values) > 2 or values[0] < 0 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        fix = "Name those that are lesions in the column lesion_labels, as '1 2', or store a mask of 0 and 1."
        raise DataError(f"holds the values {shown}, not 0 and one other", fix=fix)
    return np.asarray(voxels > values[-1] / 2)  # also where 1 is stored as 1/255
