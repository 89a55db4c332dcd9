"""What has changed between two scans of one person: findings matched through a rigid transform.

No mask is resampled: the centre of each voxel of a finding is looked up in the other scan, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine, Mask, Volume
from uadtk.metrics.repeatability import Repeatability

Array = NDArray[Any]
Point = tuple[float, float, float]
Kind = Literal["new", "gone", "grown", "shrunk", "not covered", "same"]
KINDS: tuple[Kind, ...] = ("new", "gone", "grown", "shrunk", "not covered", "same")

SHARE = 0.1  # of the smaller finding: two that overlap by less are not one
NEAR_MM = 3.0  # two that overlap nothing are one if their centroids are this close, or one voxel where that is more
APART_ML = 0.05  # parts outside the other outline that are smaller are not mentioned


@dataclass(frozen=True)
class Marked:
    """Findings of a scan: ``components`` holds their labels; ``brain``, on the same grid, is where they were sought."""

    components: Volume
    brain: Mask


@dataclass(frozen=True)
class Change:
    """Findings of both scans that are one: usually one of each, several where one was split or some have merged.

    ``before`` and ``after``: labels, the largest first. ``limit_ml``: repeated scans rarely differ by more. ``once``:
    the share of findings of this size that are in one of two repeated scans only.
    ``unseen_ml``: what of the first volume lies where the second scan was not examined, and the other way round.
    ``apart_ml``: the largest piece of the first volume that lies farther outside the second's outline than even
    shrinking explains, and the other way round: findings that touch are one, and this may have been another.
    ``before_mm`` and ``after_mm``: one place inside the largest finding, in RAS+ mm of each scan.
    """

    kind: Kind
    before: tuple[int, ...]
    after: tuple[int, ...]
    before_ml: float
    after_ml: float
    limit_ml: float
    once: float
    unseen_ml: tuple[float, float]
    apart_ml: tuple[float, float]
    before_mm: Point
    after_mm: Point

    @property
    def change_ml(self) -> float:
        return self.after_ml - self.before_ml

    @property
    def known(self) -> bool:
        """Both scans have it: the limit applies."""
        return bool(self.before and self.after)

    @property
    def usual(self) -> str:
        """What repeated scans of an unchanged head show of a finding of this size."""
        return f"±{self.limit_ml:.2f} ml" if self.known else f"{self.once:.0%} in one only"

    @property
    def percent(self) -> float | None:
        """Of the volume before; None for what was not there."""
        return 100 * self.change_ml / self.before_ml if self.before_ml else None

    @property
    def note(self) -> str:
        """What a reader must know beside the kind; empty for most."""
        parts = []
        if len(self.before) > 1 or len(self.after) > 1:
            parts.append(f"{len(self.before)} before, {len(self.after)} after")
        for i, (scan, other) in enumerate((("first", "second"), ("second", "first"))):
            ml, own = self.unseen_ml[i], (self.before_ml, self.after_ml)[i]
            if ml > 0.005 * own:
                what = f"{ml / own:.0%} of it in the {scan} scan"
                parts.append(f"{what} is outside the field of view or brain mask of the {other}")
            if self.apart_ml[i]:
                what = f"{self.apart_ml[i]:.2f} ml of it in the {scan} scan, in one piece, is well outside its outline"
                perhaps = ("one of its own that is gone", "a new one that touches it")[i]
                parts.append(f"{what} in the {other}: perhaps {perhaps}")
        return "; ".join(parts)


def changes(before: Marked, after: Marked, to_after: Affine, repeatability: Repeatability) -> list[Change]:
    """Every finding of both scans, in exactly one change each; by kind, then the largest first.

    Parameters
    ----------
    to_after
        Rigid transform (4, 4) from RAS+ mm of the first scan to those of the second.
    repeatability
        What differs between two scans of a head that has not changed.
    """
    from scipy import sparse

    one, two = _look_up(before, after, to_after), _look_up(after, before, np.linalg.inv(to_after).astype(np.float64))
    overlap = (_table(one, two, before.components.voxel_ml) + _table(two, one, after.components.voxel_ml).T) / 2
    pairs = overlap.tocoo()
    enough = pairs.data >= SHARE * np.minimum(one.ml[pairs.row], two.ml[pairs.col])
    rows, columns = pairs.row[enough], pairs.col[enough]
    near = _near(one, two, to_after, rows, columns, max(NEAR_MM, one.spacing_mm, two.spacing_mm))
    rows, columns = np.concatenate([rows, near[0]]), np.concatenate([columns, near[1]]) + len(one.labels)
    size = len(one.labels) + len(two.labels)
    links = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    count, group = sparse.csgraph.connected_components(links, directed=False)
    members: list[tuple[list[int], list[int]]] = [([], []) for _ in range(count)]
    for place, number in enumerate(group.tolist()):
        second = place >= len(one.labels)
        members[number][second].append(place - len(one.labels) * second)
    found = [_change(one, two, *both, to_after, repeatability) for both in members]
    return sorted(found, key=_order)


def _order(change: Change) -> tuple[Any, ...]:
    judged = change.kind not in ("same", "not covered")
    size = abs(change.change_ml) if judged else max(change.before_ml, change.after_ml)
    return KINDS.index(change.kind), -size, change.before, change.after


class _Findings(NamedTuple):
    """Per finding: label, ml, ml that the other scan does not cover, and the voxel next to its centroid. Per voxel, in
    the order of findings: its place in the grid and in mm, its finding, whether the other scan covers it, and the label
    that it falls on there (0 for none)."""

    voxel_ml: float
    spacing_mm: float  # the largest
    labels: Array
    ml: Array
    unseen_ml: Array
    centroid_mm: Array
    inside_mm: Array
    voxel: Array
    mm: Array
    finding: Array
    seen: Array
    other: Array

    def voxels_of(self, findings: list[int]) -> Array:
        starts = np.searchsorted(self.finding, findings), np.searchsorted(self.finding, findings, side="right")
        return np.concatenate([np.arange(*ends) for ends in zip(*starts, strict=True)])


def _look_up(own: Marked, other: Marked, to_other: Affine) -> _Findings:
    axes, origin = own.components.affine[:3, :3].T, own.components.affine[:3, 3]
    voxels = np.argwhere(own.components.voxels > 0)
    labels, finding = np.unique(own.components.voxels[tuple(voxels.T)].astype(np.int64), return_inverse=True)
    order = np.argsort(finding, kind="stable")
    voxels, finding = voxels[order], finding[order]
    mm = voxels @ axes + origin
    there = np.linalg.inv(other.components.affine) @ to_other
    place = np.rint(mm @ there[:3, :3].T + there[:3, 3]).astype(np.int64)
    inside = np.all((place >= 0) & (place < other.components.shape), axis=1)
    at = tuple(np.where(inside[:, None], place, 0).T)
    seen = inside & other.brain.voxels[at]
    found = np.where(inside, other.components.voxels[at], 0).astype(np.int64)
    size = np.bincount(finding, minlength=len(labels))
    sums = [np.bincount(finding, mm[:, axis], minlength=len(labels)) for axis in range(3)]
    centroid = np.stack(sums, axis=1) / np.maximum(size, 1)[:, None]
    off = ((mm - centroid[finding]) ** 2).sum(axis=1)
    order = np.lexsort((off, finding))
    first = order[np.searchsorted(finding[order], np.arange(len(labels)))] if len(labels) else order
    unseen = np.bincount(finding, ~seen, minlength=len(labels))
    voxel_ml, spacing_mm = own.components.voxel_ml, max(own.components.spacing_mm)
    per_finding = labels, size * voxel_ml, unseen * voxel_ml, centroid, mm[first]
    return _Findings(voxel_ml, spacing_mm, *per_finding, voxels, mm, finding, seen, found)


def _table(own: _Findings, other: _Findings, voxel_ml: float) -> Any:
    """Overlap in ml of each finding with each of the other scan, sparse."""
    from scipy import sparse

    hit = own.other > 0
    column = np.searchsorted(other.labels, own.other[hit])
    ml = np.full(len(column), voxel_ml)
    return sparse.coo_matrix((ml, (own.finding[hit], column)), shape=(len(own.labels), len(other.labels))).tocsr()


def _near(
    one: _Findings, two: _Findings, to_after: Affine, rows: Array, columns: Array, reach_mm: float
) -> tuple[Array, Array]:
    """Findings without a match that are each other's nearest."""
    from scipy import spatial

    left = np.setdiff1d(np.arange(len(one.labels)), rows)
    right = np.setdiff1d(np.arange(len(two.labels)), columns)
    if not len(left) or not len(right):
        return left[:0], right[:0]
    ours, theirs = one.centroid_mm[left] @ to_after[:3, :3].T + to_after[:3, 3], two.centroid_mm[right]
    distance, nearest = map(np.asarray, spatial.cKDTree(theirs).query(ours))
    _, back = spatial.cKDTree(ours).query(theirs)
    mutual = np.flatnonzero((distance <= reach_mm) & (back[nearest] == np.arange(len(left))))
    return left[mutual], right[nearest[mutual]]


def _change(
    one: _Findings,
    two: _Findings,
    first: list[int],
    second: list[int],
    to_after: Affine,
    repeatability: Repeatability,
) -> Change:
    first.sort(key=lambda place: -one.ml[place])
    second.sort(key=lambda place: -two.ml[place])
    before_ml, after_ml = float(one.ml[first].sum()), float(two.ml[second].sum())
    unseen = float(one.unseen_ml[first].sum()), float(two.unseen_ml[second].sum())
    to_before = np.linalg.inv(to_after).astype(np.float64)
    apart = _apart_ml(one, two, first, second, to_after), _apart_ml(two, one, second, first, to_before)
    larger_ml = max(before_ml, after_ml)
    limit_ml = repeatability.limit_ml(larger_ml)
    if second:
        after_mm = two.inside_mm[second[0]]
        before_mm = to_before[:3, :3] @ after_mm + to_before[:3, 3]
    else:
        before_mm = one.inside_mm[first[0]]
        after_mm = to_after[:3, :3] @ before_mm + to_after[:3, 3]
    return Change(
        kind_of(before_ml, after_ml, limit_ml, unseen),
        tuple(one.labels[first].tolist()),
        tuple(two.labels[second].tolist()),
        before_ml,
        after_ml,
        limit_ml,
        repeatability.once(larger_ml),
        unseen,
        apart,
        tuple(before_mm.tolist()),
        tuple(after_mm.tolist()),
    )


def _apart_ml(own: _Findings, other: _Findings, mine: list[int], theirs: list[int], to_other: Affine) -> float:
    """As ``Change.apart_ml``, of ``own``.

    A body that grows by the same thickness everywhere gains no less volume than a ball would (Brunn-Minkowski), so the
    thickness is at most the difference of the radii of two balls of these volumes.
    """
    from scipy import ndimage, spatial

    if not mine or not theirs or own.ml[mine].sum() < APART_ML:
        return 0.0
    grown_mm = _radius_mm(own.ml[mine].sum()) - _radius_mm(other.ml[theirs].sum())
    reach_mm = max(grown_mm, 0.0) + max(NEAR_MM, own.spacing_mm, other.spacing_mm)
    voxels = own.voxels_of(mine)
    voxels = voxels[own.seen[voxels]]
    there = own.mm[voxels] @ to_other[:3, :3].T + to_other[:3, 3]
    distance, _ = spatial.cKDTree(other.mm[other.voxels_of(theirs)]).query(there, distance_upper_bound=reach_mm)
    far = own.voxel[voxels[np.isinf(distance)]]
    if len(far) * own.voxel_ml < APART_ML:
        return 0.0
    box = np.zeros(np.ptp(far, axis=0) + 1, bool)
    box[tuple((far - far.min(axis=0)).T)] = True
    parts, _ = ndimage.label(box, np.ones((3, 3, 3)))
    largest_ml = float(np.bincount(parts[box]).max()) * own.voxel_ml
    return largest_ml if largest_ml >= APART_ML else 0.0


def _radius_mm(ml: float) -> float:
    """Of a ball of this volume."""
    return float(np.cbrt(1000 * ml * 3 / (4 * np.pi)))


def kind_of(before_ml: float, after_ml: float, limit_ml: float, unseen_ml: tuple[float, float] = (0.0, 0.0)) -> Kind:
    """What a change is called. Where the other scan was not examined, it may hold as much as this one, or nothing;
    a verdict that depends on it is none: ``not covered``."""
    if not before_ml:
        return "new" if unseen_ml[1] <= after_ml / 2 else "not covered"
    if not after_ml:
        return "gone" if unseen_ml[0] <= before_ml / 2 else "not covered"
    least, most = after_ml - before_ml - unseen_ml[1], after_ml - before_ml + unseen_ml[0]
    if least > limit_ml:
        return "grown"
    if most < -limit_ml:
        return "shrunk"
    return "same" if -limit_ml <= least and most <= limit_ml else "not covered"
