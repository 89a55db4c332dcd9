"""The contract of a cleaner: it filters a score volume on the model's grid.

Cleaners run before the scores are resampled to the scan's own grid, in the order stored in the checkpoint.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


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
