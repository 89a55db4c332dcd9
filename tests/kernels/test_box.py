from __future__ import annotations

import numpy as np

from uadtk.kernels._box import occupied


def test_the_box_holds_all_that_is_not_0() -> None:
    score, mask = np.zeros((5, 6, 7), np.float32), np.zeros((5, 6, 7), bool)
    score[1, 2, 3] = -1
    assert occupied(score) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[2:4, 0, 5] = True
    assert occupied(score, mask) == (slice(1, 4), slice(0, 3), slice(3, 6))


def test_of_nothing_it_is_the_whole() -> None:
    for shape in ((2, 3, 4), (0, 3, 4)):
        assert occupied(np.zeros(shape, bool)) == tuple(slice(0, n) for n in shape)
