"""The contract of a cleaner: it filters a score volume on the model's grid.

Cleaners run before the scores are resampled to the scan's own grid, in the order stored in the checkpoint. A cleaner
that sets the score to 0 in a part of the brain, whatever it was, may say where it does not:

``kept(brain) -> bool, same shape``
    Voxels of ``brain`` that it does not exclude. Percentiles of healthy scores (``p98``) do not count the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


def kept_by(cleaners: Iterable[Any], brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels of ``brain`` that no cleaner excludes."""
    kept = brain
    for cleaner in cleaners:
        if hasattr(cleaner, "kept"):
            kept = kept & cleaner.kept(brain)
    return kept


class Cleaner(Protocol):
    Options: ClassVar[type[Any]]

    def __init__(self, options: Any) -> None: ...

    def clean(
        self,
        score: NDArray[np.float32],
        image: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> NDArray[np.float32]:
        """``score``, prepared ``image`` and ``brain``: (z, y, x), z along the axial slices; ``spacing_mm`` likewise."""
        ...
