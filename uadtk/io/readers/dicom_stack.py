"""Frames to one volume: which of them, in which order, on which grid; or the reason why they do not form one.

The place of a slice is computed from its position in the patient alone. File names, instance numbers and slice
locations are only used to detect missing slices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.volume import Affine
from uadtk.io.readers.dicom_frames import Frame, text_of

SAME_MM = 0.01  # slices closer than this are at one position
REGULAR = 0.02  # of a step: how far a slice may lie from its place in a regular stack
_SHEAR_DEGREES = 0.5
_EXPORT = "Export the whole series again."


@dataclass(frozen=True)
class Stack:
    """Frames in the order of their slices, along ``axes[0] x axes[1]``; ``affine`` is to RAS+ mm."""

    frames: tuple[Frame, ...]
    affine: Affine
    notes: tuple[str, ...]


def stack(frames: Sequence[Frame]) -> Stack:
    """One volume of magnitude.

    Raises
    ------
    DataError
        Slices in several orientations or of several sizes, several volumes, slices missing, sheared or at irregular
        distances.
    """
    _alike(frames)
    chosen, notes = _magnitude(frames)
    chosen = sorted(chosen, key=lambda frame: float(frame.position @ frames[0].normal))
    at = np.array([frame.position @ frames[0].normal for frame in chosen])
    _one_volume(chosen, np.concatenate([[0], np.cumsum(np.diff(at) > SAME_MM)]))
    if len(chosen) == 1:
        step, more = _single(chosen[0])
    else:
        step, more = _step(chosen, at)
    first = chosen[0]
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([first.axes[0] * first.spacing_mm[0], first.axes[1] * first.spacing_mm[1], step])
    affine[:3, 3] = first.position
    affine[:2] *= -1  # LPS to RAS
    affine += 0.0  # no negative zeros
    return Stack(tuple(chosen), affine, (*notes, *more))


def _alike(frames: Sequence[Frame]) -> None:
    orientations: list[Frame] = []
    for frame in frames:
        if not any(np.abs(frame.axes - other.axes).max() < 1e-3 for other in orientations):
            orientations.append(frame)
    if len(orientations) > 1:
        kind = "a localizer or a rotating view" if len(frames) < 100 else "not one volume"
        what = f"slices in {len(orientations)} orientations: {kind}"
        raise DataError(what, fix="Name the series of parallel slices.")
    sizes = {(f.size, f.spacing_mm) for f in frames}
    if len({size for size, _ in sizes}) > 1 or np.ptp([spacing for _, spacing in sizes], axis=0).max() > 1e-4:
        shown = ", ".join(sorted(f"{c} x {r} pixels of {x:g} x {y:g} mm" for (r, c), (x, y) in sizes))
        raise DataError(f"slices of several sizes in one series: {shown}", fix="Separate them first.")


def _magnitude(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """The magnitude frames, if there are other components too."""
    components = Counter(frame.component for frame in frames)
    if len(components) == 1:
        (only,) = components
        if only in ("phase", "imaginary"):
            raise DataError(f"holds {only} images, not magnitude", fix="Name the magnitude series.")
        return list(frames), []
    if not components["magnitude"]:
        shown = ", ".join(sorted(name or "unnamed" for name in components))
        raise DataError(f"holds images of several kinds ({shown}), none called magnitude", fix="Separate them first.")
    others = " and ".join(sorted(name or "unnamed" for name in components if name != "magnitude"))
    note = f"took {components['magnitude']} magnitude images, left {others} images of the same series"
    return [frame for frame in frames if frame.component == "magnitude"], [note]


def _one_volume(frames: Sequence[Frame], place: NDArray[np.integer[Any]]) -> None:
    """``place`` counts positions. Raises DataError if one of them has several frames."""
    places, counts = np.unique(place, return_counts=True)
    if counts.max() == 1:
        return
    fix = "Export one volume as a series of its own, or name a file of one if each has all slices."
    for name in frames[0].kinds:
        values = {frame.kinds[name] for frame in frames}
        pairs = {(frame.kinds[name], int(at)) for frame, at in zip(frames, place, strict=True)}
        if len(values) > 1 and len(pairs) == len(frames):
            shown = ", ".join(sorted(values, key=lambda v: (len(v), v))[:6])
            raise DataError(f"holds {len(values)} volumes: {name} {shown}", fix=fix)
    if counts.min() == counts.max():
        raise DataError(f"holds {counts.max()} volumes: each position has {counts.max()} slices", fix=fix)
    twice = ", ".join(
        f"{frames[int(np.argmax(place == p))].position.round(2).tolist()}" for p in places[counts > 1][:3]
    )
    count = int((counts > 1).sum())
    raise DataError(f"{count} of {len(places)} positions have more than one slice, such as {twice} (LPS mm)", fix=fix)


def _single(frame: Frame) -> tuple[NDArray[np.float64], list[str]]:
    depth_mm = frame.depth_mm[0] or frame.depth_mm[1]
    if not depth_mm:
        raise DataError("a single slice without thickness", fix="Name the folder that holds its series.")
    return frame.normal * depth_mm, [f"a single slice, {depth_mm:g} mm thick: the rest of its series is not there"]


def _step(frames: Sequence[Frame], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """From one slice to the next, in mm. Raises DataError if the stack is not regular."""
    gaps = np.diff(at)
    _no_holes(frames, gaps)
    positions = np.array([frame.position for frame in frames])
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    away = np.linalg.norm(positions - (positions[0] + np.arange(len(frames))[:, None] * step), axis=1)
    if away.max() > max(SAME_MM, REGULAR * float(np.linalg.norm(step))):
        spread = f"{gaps.min():.3g} to {gaps.max():.3g} mm"
        if np.ptp(gaps) <= REGULAR * gaps.max():
            spread = f"shifted sideways by up to {away.max():.3g} mm"
        raise DataError(f"the slices are not in a regular stack: {spread} apart", fix="Resample it, or name another.")
    angle = np.degrees(np.arccos(min(1.0, float(step @ frames[0].normal / np.linalg.norm(step)))))
    if angle > _SHEAR_DEGREES:
        what = f"the stack is sheared by {angle:.1f} degrees (gantry tilt)"
        raise DataError(what, fix="Resample it to upright slices first, with dcm2niix for instance.")
    return step, _contradictions(frames[0], float(np.linalg.norm(step)))


def _heights_mm(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Positions for messages: along the normal, to the left, the back or the head, whichever it is nearest to."""
    normal = frames[0].normal
    return np.array([frame.position @ normal for frame in frames]) * np.sign(normal[np.argmax(np.abs(normal))])


def _no_holes(frames: Sequence[Frame], gaps: NDArray[np.float64]) -> None:
    step = float(gaps.min())
    steps = np.rint(gaps / step)
    if steps.max() < 2 or np.abs(gaps - steps * step).max() > 0.1 * step:
        return
    at = _heights_mm(frames)
    step, missing = float(np.ptp(at) / steps.sum()), steps.sum() - len(steps)
    first = islice(_holes_mm(at, steps, step), 5)  # of billions, where a tag is wrong
    shown = ", ".join(f"{mm:.1f}" for mm in first) + (", ..." if missing > 5 else "")
    raise DataError(
        f"{missing:.0f} of {len(at) + missing:.0f} slices are missing, at {shown} mm along the stack "
        f"(slices are {step:.3g} mm apart, from {at.min():.1f} to {at.max():.1f})",
        fix=_EXPORT,
    )


def _holes_mm(at: NDArray[np.float64], steps: NDArray[np.float64], step: float) -> Iterator[float]:
    """Where slices are missing, from the lowest; ``steps`` from each slice to the next."""
    for low, n in sorted(zip(np.minimum(at[:-1], at[1:]).tolist(), steps.tolist(), strict=True)):
        k = 1
        while k < n:
            yield low + k * step
            k += 1


def _contradictions(frame: Frame, step_mm: float) -> list[str]:
    """Spacing as the file states it against the positions. Some old files state the gap between slices in its place."""
    stated, thickness = frame.depth_mm
    if not stated or stated < 0.99 * thickness or abs(step_mm / stated - 1) <= 0.01:
        return []
    times = step_mm / stated
    if round(times) >= 2 and abs(times - round(times)) <= 0.02 * times:
        what = f"slices are missing: positions are {step_mm:.3g} mm apart, SpacingBetweenSlices is {stated:g} mm"
        raise DataError(what, fix=_EXPORT)
    return [f"SpacingBetweenSlices is {stated:g} mm, positions are {step_mm:.4g} mm apart: the positions were used"]


def refuse_incomplete(frames: Sequence[Frame], chosen: Sequence[Frame], data: Any) -> list[str]:
    """Detect slices missing at an end, which positions cannot show, by the counts in the tags of a file of the series.

    Returns notes on slices that are probably missing. Raises DataError if fewer slices are there than were acquired.
    """
    if text_of(data.get("ImageType")).startswith("DERIVED"):  # counts are those of the original
        return []
    one_each = len({frame.file for frame in frames}) == len(frames)
    for source, count, found in (
        ("the scanner's protocol", _acquired_slices(data), len(chosen)),
        ("ImagesInAcquisition", _number(data.get("ImagesInAcquisition")) if one_each else 0, len(frames)),
    ):
        if count > found:
            raise _too_few(count, found, source, chosen)
    return _numbering(chosen) if one_each and len(chosen) > 1 else []


def _numbering(chosen: Sequence[Frame]) -> list[str]:
    """Missing slices by the instance numbers of single-slice files."""
    numbers = [frame.instance for frame in chosen if frame.instance is not None]
    steps = {abs(b - a) for a, b in pairwise(numbers)}
    if len(numbers) < len(chosen) or len(steps) > 1:
        return []
    (by,) = steps
    step_mm = float(np.linalg.norm(chosen[1].position - chosen[0].position))
    thickness = chosen[0].depth_mm[1]
    if by > 1 and thickness and step_mm > (by - 0.5) * thickness:
        what = (
            f"slices are missing: instance numbers go in steps of {by}, "
            f"and slices of {thickness:g} mm are {step_mm:.3g} mm apart"
        )
        raise DataError(what, fix=_EXPORT)
    if by == 1 and min(numbers) > 1:
        return [f"instance numbers start at {min(numbers)}: slices before that may be missing"]
    return []


def _too_few(count: int, found: int, source: str, chosen: Sequence[Frame]) -> DataError:
    at = _heights_mm(chosen)
    there = f"those there lie from {at.min():.1f} to {at.max():.1f} mm"
    what = f"{count - found} of {count} slices are missing by {source}: {there}"
    return DataError(what, fix=_EXPORT)


def _acquired_slices(data: Any) -> int:
    """Number of slices the scanner was set to acquire, from private attributes; 0 if unknown."""
    for group, creator, offset in ((0x2001, "Philips Imaging DD 001", 0x18), (0x0021, "GEMS_RELA_01", 0x4F)):
        try:
            return _number(data.private_block(group, creator)[offset].value)
        except KeyError:
            continue
    if str(data.get("MRAcquisitionType", "")) != "2D":
        return 0
    for group, creator, offset in ((0x0021, "SIEMENS MR SDS 01", 0x19), (0x0029, "SIEMENS CSA HEADER", 0x20)):
        try:
            protocol = data.private_block(group, creator)[offset].value
        except KeyError:
            continue
        if isinstance(protocol, bytes) and (match := re.search(rb"sSliceArray\.lSize\s*=\s*(\d+)", protocol)):
            return int(match[1])
    return 0


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
