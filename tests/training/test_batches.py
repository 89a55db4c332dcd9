"""Which slices come together, counted."""

from __future__ import annotations

import numpy as np
import pytest

from uadtk.core.errors import UsageError
from uadtk.training.batches import LEAST_STEPS, steps_of_epoch
from uadtk.training.slices import ANNOTATED, PSEUDO, UNLABELLED, Slices


def slices(*groups: tuple[int, int, int]) -> Slices:
    """Groups of (how many, source, pixels of lesion)."""
    about = np.concatenate([np.tile([0, source, lesion], (n, 1)) for n, source, lesion in groups]).astype(np.int32)
    nothing = np.zeros((len(about), 1, 1))
    return Slices(nothing.astype(np.float32), nothing.astype(np.uint8), 1, about, 1.0)


FEW = slices((3, ANNOTATED, 9), (5, ANNOTATED, 0), (20, PSEUDO, 4), (40, UNLABELLED, 0))


def test_without_labels_an_epoch_is_one_pass_and_the_remainder_is_dropped() -> None:
    steps = steps_of_epoch(FEW, 16, False, 0, 1)
    assert [len(step) for step in steps] == [16] * 4
    assert len(np.unique(np.concatenate(steps))) == 64


def test_every_batch_has_equal_parts_of_each_source_and_half_of_an_annotated_part_has_lesions() -> None:
    for step in steps_of_epoch(FEW, 12, True, 0, 1):
        about = FEW.about[step]
        assert np.bincount(about[:, 1]).tolist() == [4, 4, 4]
        assert (about[about[:, 1] == ANNOTATED, 2] > 0).sum() == 2


def test_what_does_not_divide_differs_by_one() -> None:
    about = FEW.about[steps_of_epoch(FEW, 8, True, 0, 1)[0]]
    assert np.bincount(about[:, 1]).tolist() == [3, 3, 2]
    assert (about[about[:, 1] == ANNOTATED, 2] > 0).sum() == 2


def test_an_epoch_is_one_pass_over_the_largest_source_and_few_slices_come_round_evenly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uadtk.training.batches.LEAST_STEPS", 1)
    steps = steps_of_epoch(FEW, 12, True, 0, 1)
    assert len(steps) == 10
    seen = np.bincount(np.concatenate(steps), minlength=len(FEW))
    assert set(seen[28:]) == {1}  # 40 slices without labels, 4 in each batch
    assert set(seen[8:28]) == {2}
    assert set(seen[3:8]) == {4}
    assert set(seen[:3]) == {6, 7}  # 20 places for 3 slices


def test_an_epoch_has_fifty_steps_at_least() -> None:
    assert len(steps_of_epoch(FEW, 12, True, 0, 1)) == LEAST_STEPS == 50


def test_parts_of_a_batch_have_every_source_too() -> None:
    for step in steps_of_epoch(FEW, 12, True, 0, 1):
        for part in np.split(step, 2):
            assert np.bincount(FEW.about[part, 1]).tolist() == [2, 2, 2]


def test_seed_and_epoch_decide() -> None:
    one, again, other, later = (
        np.stack(steps_of_epoch(FEW, 12, True, seed, epoch)) for seed, epoch in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, later)


def test_sources_that_are_not_there_take_no_place() -> None:
    only = slices((5, PSEUDO, 7), (5, PSEUDO, 0))
    (step, *_) = steps_of_epoch(only, 4, True, 0, 1)
    assert (only.about[step, 2] > 0).sum() == 2


def test_small_batches_are_refused() -> None:
    with pytest.raises(UsageError, match="batches of 5 slices are too few for 3 sources"):
        steps_of_epoch(FEW, 5, True, 0, 1)
