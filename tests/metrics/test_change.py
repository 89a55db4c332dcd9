"""Matching of findings by pure geometry: planted boxes on two grids, and a transform between them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from uadtk.core.volume import Mask, Volume
from uadtk.metrics.change import Change, Marked, changes, kind_of
from uadtk.metrics.repeatability import Repeatability, Size

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # mm, from and to
FIELD: Box = ((0, 80), (0, 100), (0, 60))
BIG, SMALL, FAR = ((20, 40), (20, 40), (20, 40)), ((60, 66), (60, 66), (20, 26)), ((10, 16), (80, 86), (40, 46))
STILL = np.eye(4)


def marked(
    *boxes: Box,
    spacing: tuple[float, float, float] = (2, 2, 2),
    field: Box = FIELD,
    place: np.ndarray = STILL,
    brain: Box = FIELD,
) -> Marked:
    """Findings 1, 2, ... in these boxes of a head that ``place`` moves to where the scan has it."""
    corners = np.array([[x, y, z, 1] for x in field[0] for y in field[1] for z in field[2]]) @ place.T
    low, high = corners[:, :3].min(axis=0), corners[:, :3].max(axis=0)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low + np.array(spacing) / 2
    shape = np.ceil((high - low) / spacing).astype(int)
    mm = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3] + affine[:3, 3]
    back = np.linalg.inv(place)
    head = mm @ back[:3, :3].T + back[:3, 3]
    labels = np.zeros(shape, np.int32)
    for label, box in enumerate(boxes, 1):
        labels[inside(head, box)] = label
    return Marked(Volume(labels, affine), Mask(inside(head, brain), affine))


def inside(mm: np.ndarray, box: Box) -> np.ndarray:
    return np.logical_and.reduce([(mm[..., i] >= box[i][0]) & (mm[..., i] < box[i][1]) for i in range(3)])


def repeatable(limit: float, once: int = 0) -> Repeatability:
    """Volumes may differ by this share; so many of a hundred findings are found once."""
    return Repeatability("", 0.0, 1, "", (), (Size(1.0, 100, once, limit),))


TENTH = repeatable(0.1)


def found(before: Marked, after: Marked, to_after: np.ndarray = STILL) -> list[Change]:
    every = changes(before, after, to_after, TENTH)
    for side, own in ((before, [c.before for c in every]), (after, [c.after for c in every])):
        labels = Counter(label for some in own for label in some)
        assert labels == Counter(np.unique(side.components.voxels[side.components.voxels > 0]).tolist())
    return every


def kinds(every: list[Change]) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return [(change.kind, change.before, change.after) for change in every]


def test_nothing_has_changed() -> None:
    every = found(marked(BIG, SMALL), marked(SMALL, BIG))
    assert kinds(every) == [("same", (1,), (2,)), ("same", (2,), (1,))]
    assert every[0].before_ml == every[0].after_ml == pytest.approx(8.0)
    assert (every[0].change_ml, every[0].percent, every[0].note) == (0.0, 0.0, "")
    assert every[0].limit_ml == pytest.approx(0.8)


def test_new_and_gone_come_first_and_grown_before_shrunk() -> None:
    wider = ((18, 42), (20, 40), (20, 40))
    every = found(marked(BIG, SMALL), marked(wider, FAR))
    assert kinds(every) == [("new", (), (2,)), ("gone", (2,), ()), ("grown", (1,), (1,))]
    assert every[0].percent is None
    assert every[1].percent == pytest.approx(-100)
    assert every[2].percent == pytest.approx(20)
    assert kinds(found(marked(wider), marked(BIG))) == [("shrunk", (1,), (1,))]


def test_neither_scan_has_findings() -> None:
    assert found(marked(), marked()) == []
    assert kinds(found(marked(), marked(BIG))) == [("new", (), (1,))]


@pytest.mark.parametrize("spacing", [(2, 2, 2), (1, 1, 4), (3, 1, 2)])
@pytest.mark.parametrize("degrees", [0, 9])
def test_a_head_that_lies_otherwise_on_another_grid(spacing: tuple[float, float, float], degrees: float) -> None:
    place = np.eye(4)
    place[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees, degrees], degrees=True).as_matrix()
    place[:3, 3] = 12.5, -7.3, 31
    boxes = BIG, SMALL, FAR
    every = changes(marked(*boxes), marked(*boxes, spacing=spacing, place=place), place, repeatable(0.35))
    assert sorted(kinds(every)) == [("same", (n,), (n,)) for n in (1, 2, 3)]
    for change in every:
        there = place[:3, :3] @ change.before_mm + place[:3, 3]
        assert np.allclose(there, change.after_mm)
        assert inside(np.array(change.before_mm), boxes[change.before[0] - 1])
    assert kinds(found(marked(BIG), marked(BIG, place=place))) != [("same", (1,), (1,))]  # without the transform


def test_a_split_and_a_merger_are_one_change_each() -> None:
    left, right = ((20, 28), (20, 40), (20, 40)), ((32, 40), (20, 40), (20, 40))
    split = found(marked(BIG), marked(left, right))
    assert kinds(split) == [("shrunk", (1,), (1, 2))]
    assert split[0].after_ml == pytest.approx(6.4)
    assert split[0].note == "1 before, 2 after"
    assert kinds(found(marked(left, right), marked(BIG))) == [("grown", (1, 2), (1,))]


def test_a_touch_is_not_a_match() -> None:
    tenth_of_it, less = ((38, 46), (36, 46), (20, 40)), ((38, 48), (38, 48), (20, 40))
    assert kinds(found(marked(BIG), marked(tenth_of_it))) == [("shrunk", (1,), (1,))]
    assert kinds(found(marked(BIG), marked(less))) == [("new", (), (1,)), ("gone", (1,), ())]


def test_small_findings_that_miss_each_other_by_a_little_are_one() -> None:
    moved = ((60, 62), (60, 62), (20, 22))
    near, far = ((62, 64), (60, 62), (20, 22)), ((64, 66), (60, 62), (20, 22))
    assert kinds(found(marked(moved), marked(near))) == [("same", (1,), (1,))]
    assert [kind for kind, *_ in kinds(found(marked(moved), marked(far)))] == ["new", "gone"]
    thick = (2.0, 2.0, 6.0)  # slices of 6 mm may miss each other by one
    above = ((60, 66), (60, 66), (30, 36))
    below = ((60, 66), (60, 66), (24, 30))
    assert kinds(found(marked(above, spacing=thick), marked(below, spacing=thick))) == [("same", (1,), (1,))]


def test_a_new_finding_beside_a_large_one_stays_new() -> None:
    beside = ((42, 46), (30, 34), (30, 34))
    assert kinds(found(marked(BIG), marked(BIG, beside))) == [("new", (), (2,)), ("same", (1,), (1,))]


def test_what_the_other_scan_does_not_show_is_not_new_or_gone() -> None:
    upper: Box = ((0, 80), (0, 100), (32, 60))
    before, after = marked(BIG, SMALL, FAR), marked(field=upper)
    assert kinds(found(before, after)) == [("gone", (3,), ()), ("not covered", (1,), ()), ("not covered", (2,), ())]
    assert kinds(found(after, before)) == [("new", (), (3,)), ("not covered", (), (1,)), ("not covered", (), (2,))]
    first = found(before, after)[1]
    assert first.unseen_ml == (pytest.approx(4.8), 0.0)
    assert first.note == "60% of it in the first scan is outside the field of view or brain mask of the second"


def test_a_brain_mask_hides_like_a_field_of_view() -> None:
    half: Box = ((50, 80), (0, 100), (0, 60))
    assert kinds(found(marked(BIG, SMALL), marked(brain=half)))[1] == ("not covered", (1,), ())


def test_a_finding_that_the_other_field_cuts_has_not_shrunk() -> None:
    upper: Box = ((0, 80), (0, 100), (26, 60))
    cut = found(marked(BIG), marked(((20, 40), (20, 40), (26, 40)), field=upper))
    assert kinds(cut) == [("not covered", (1,), (1,))]
    assert "30% of it in the first scan is outside" in cut[0].note
    shrunk = found(marked(BIG), marked(((20, 40), (20, 40), (34, 40)), field=upper))
    assert kinds(shrunk) == [("shrunk", (1,), (1,))]  # by more than what is hidden


def test_small_ones_that_come_and_go_in_any_scan_are_marked() -> None:
    noisy = changes(marked(BIG), marked(BIG, SMALL), STILL, repeatable(0.1, once=40))
    assert noisy[0].kind == "new"
    assert noisy[0].usual == "40% in one only"
    assert noisy[1].usual == "±0.80 ml"


@pytest.mark.parametrize(
    ("before", "after", "limit", "unseen", "kind"),
    [
        (1.0, 1.1, 0.1000001, (0, 0), "same"),
        (1.0, 1.2, 0.1, (0, 0), "grown"),
        (1.0, 0.8, 0.1, (0, 0), "shrunk"),
        (0, 1.0, 5.0, (0, 0), "new"),
        (1.0, 0, 5.0, (0, 0), "gone"),
        (0, 1.0, 0.1, (0, 0.6), "not covered"),
        (0, 1.0, 0.1, (0, 0.4), "new"),
        (1.0, 1.3, 0.1, (0, 0.25), "not covered"),
        (1.0, 1.3, 0.1, (0, 0.1), "grown"),
        (1.0, 1.0, 0.1, (0.05, 0.05), "same"),
        (1.0, 1.0, 0.1, (0.5, 0), "not covered"),
    ],
)
def test_kinds(before: float, after: float, limit: float, unseen: tuple[float, float], kind: str) -> None:
    assert kind_of(before, after, limit, unseen) == kind
    mirrored = {"new": "gone", "gone": "new", "grown": "shrunk", "shrunk": "grown"}
    assert kind_of(after, before, limit, unseen[::-1]) == mirrored.get(kind, kind)


def ball(mm: np.ndarray, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return ((mm - centre) ** 2).sum(axis=-1) <= radius**2


def drawn(*balls: tuple[tuple[float, float, float], float], bridge: Box | None = None) -> Marked:
    """Balls at 1 mm, and a bridge, all in one finding."""
    mm = np.stack(np.meshgrid(*map(np.arange, (80, 60, 60)), indexing="ij"), -1).astype(float)
    labels = np.logical_or.reduce([ball(mm, *one) for one in balls])
    if bridge:
        labels |= inside(mm, bridge)
    return Marked(Volume(labels.astype(np.int32), np.eye(4)), Mask(np.ones(labels.shape, bool), np.eye(4)))


OLD = ((25.0, 30.0, 30.0), 10.0)  # 4.2 ml
LUMP = ((48.0, 30.0, 30.0), 5.0)  # 0.5 ml, 8 mm away
BRIDGE: Box = ((34, 44), (29, 32), (29, 32))


def test_a_lump_that_touches_a_finding_by_a_bridge_is_mentioned() -> None:
    (change,) = found(drawn(OLD), drawn(OLD, LUMP, bridge=BRIDGE))
    assert change.kind == "grown"
    assert change.apart_ml[0] == 0
    assert change.apart_ml[1] == pytest.approx(0.55, abs=0.05)
    assert change.note == (
        f"{change.apart_ml[1]:.2f} ml of it in the second scan, in one piece, is well outside its outline in the first"
        ": perhaps a new one that touches it"
    )


def test_a_lump_is_mentioned_where_the_volume_is_the_same() -> None:
    larger = ((25.0, 30.0, 30.0), 14.0)  # 11.5 ml
    (change,) = found(drawn(larger), drawn(larger, LUMP, bridge=BRIDGE))
    assert change.kind == "same"
    assert "perhaps a new one that touches it" in change.note


def test_a_lump_that_is_gone_is_mentioned_once_the_rest_remains() -> None:
    (change,) = found(drawn(OLD, LUMP, bridge=BRIDGE), drawn(OLD))
    assert change.kind == "shrunk"
    assert change.apart_ml[0] == pytest.approx(0.55, abs=0.05)
    assert change.apart_ml[1] == 0
    assert "perhaps one of its own that is gone" in change.note


@pytest.mark.parametrize("radius", [11.0, 14.0, 20.0])
def test_even_growth_is_only_growth(radius: float) -> None:
    (change,) = found(drawn(OLD), drawn((OLD[0], radius)))
    assert (change.kind, change.apart_ml, change.note) == ("grown", (0, 0), "")
    (change,) = found(drawn(OLD, LUMP, bridge=BRIDGE), drawn((OLD[0], radius), (LUMP[0], radius - 5), bridge=BRIDGE))
    assert (change.kind, change.apart_ml) == ("grown", (0, 0))
    (change,) = found(drawn((OLD[0], radius)), drawn(OLD))
    assert (change.kind, change.apart_ml) == ("shrunk", (0, 0))


def test_a_shift_by_the_error_of_the_alignment_is_no_lump() -> None:
    (change,) = found(drawn(OLD, LUMP, bridge=BRIDGE), drawn(OLD, LUMP, bridge=BRIDGE), np.eye(4) + np.eye(4, k=3) * 2)
    assert change.apart_ml == (0, 0)


def test_a_part_outside_the_other_field_of_view_is_no_lump() -> None:
    field: Box = ((0, 40), (0, 100), (0, 60))
    longer = ((20, 60), (20, 40), (20, 40))
    (change,) = found(marked(BIG, field=field), marked(longer))
    assert change.unseen_ml[1] == pytest.approx(8.0)
    assert change.apart_ml == (0, 0)


def test_thousands_of_findings() -> None:
    labels = np.zeros((60, 60, 60), np.int32)
    labels[::3, ::3, ::3] = np.arange(1, 8001).reshape(20, 20, 20)
    side = Marked(Volume(labels, np.eye(4)), Mask(np.ones(labels.shape, bool), np.eye(4)))
    every = changes(side, side, STILL, TENTH)
    assert len(every) == 8000
    assert {change.kind for change in every} == {"same"}
