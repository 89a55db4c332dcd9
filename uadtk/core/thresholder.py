"""What a thresholder is: calibration scans in, one threshold out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import CheckpointError, UsageError
from uadtk.core.spec import Spec, parse_all


@dataclass(frozen=True)
class CalibrationScan:
    """One scored scan on its own grid, arrays (x, y, z).

    ``brain`` bool: the voxels that count (healthy brain only, when lesions of the scan are known).
    ``lesion`` bool or None.
    """

    subject: str
    score: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_] | None
    voxel_ml: float

    @property
    def score_zyx(self) -> NDArray[np.float32]:
        """``score`` (z, y, x), the order kernels take; 0 where a voxel does not count."""
        return np.where(self.brain, self.score, np.float32(0)).T

    @property
    def lesion_zyx(self) -> NDArray[np.bool_]:
        """``lesion`` (z, y, x), the order kernels take; all False without a lesion mask."""
        return (np.zeros_like(self.brain) if self.lesion is None else self.lesion).T


class CalibrationSet(Protocol):
    """Streams the scans from disk; may be walked as often as wanted."""

    def __iter__(self) -> Iterator[CalibrationScan]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Choice:
    """What a thresholder decided, and what it saw while deciding.

    Of ``measured``, a value ``x`` with a limit ``x_limit`` beside it must not exceed it. ``min_voxels``: the smallest
    component that counted; None if the thresholder looks at voxels and not at components.
    """

    threshold: float
    target: str
    measured: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    min_voxels: int | None = None


class Thresholder(Protocol):
    """May also have ``check_subjects(n)``, which raises UsageError if so many subjects are too few: asked before work.

    The order of the scans must not matter; on healthy scans, a scan that scores higher must not lower the threshold.
    """

    Options: ClassVar[type[Any]]
    needs_lesions: ClassVar[bool]  # True: calibrates on labelled scans; False: on healthy ones

    def __init__(self, options: Any) -> None: ...

    def choose(self, scans: CalibrationSet) -> Choice: ...


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that knows where it comes from. Voxels with a score above ``threshold`` are abnormal.

    ``scorer`` and ``cleaners`` are the specs the scores were made with: the threshold means nothing for others.
    ``min_voxels``: smaller components did not count when it was chosen; None if components were not looked at.
    ``failed``: calibration scans that could not be used.
    """

    name: str
    threshold: float
    strategy: Spec
    target: str
    scorer: Spec
    cleaners: tuple[Spec, ...]
    scans: int
    digest: str
    date: str
    measured: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    min_voxels: int | None = None
    failed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, as checkpoints and receipts store them."""
        specs = {"strategy": str(self.strategy), "scorer": str(self.scorer)}
        return {**asdict(self), **specs, "cleaners": [str(spec) for spec in self.cleaners]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> OperatingPoint:
        try:
            interval = record.get("interval")
            return cls(
                **{
                    **record,
                    "strategy": Spec.parse(record["strategy"]),
                    "scorer": Spec.parse(record["scorer"]),
                    "cleaners": parse_all(record["cleaners"]),
                    "interval": None if interval is None else (interval[0], interval[1]),
                }
            )
        except (TypeError, KeyError, AttributeError, UsageError) as error:
            raise CheckpointError(f"an operating point cannot be read ({error})") from None


def named_point(points: Sequence[OperatingPoint], name: str) -> OperatingPoint | None:
    return next((point for point in points if point.name == name), None)
