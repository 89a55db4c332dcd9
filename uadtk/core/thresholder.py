"""The contract of a thresholder: it chooses a threshold from scored calibration scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from uadtk.core import schema
from uadtk.core.errors import CheckpointError, UsageError
from uadtk.core.spec import Spec, parse_all


@dataclass(frozen=True)
class CalibrationScan:
    """One scored scan on its own grid, arrays (x, y, z).

    ``brain`` bool: the voxels to evaluate (healthy brain only, where lesions of the scan are known).
    ``lesion`` bool or None. ``kept``: voxels where no cleaner excludes a score (``erode`` does at the rim of the
    brain); None: everywhere.
    """

    subject: str
    score: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_] | None
    voxel_ml: float
    kept: NDArray[np.bool_] | None = None

    @property
    def counted(self) -> NDArray[np.float32]:
        """The scores of the voxels to evaluate that no cleaner excludes, in one dimension."""
        return self.score[self.brain if self.kept is None else self.brain & self.kept]

    @property
    def score_zyx(self) -> NDArray[np.float32]:
        """``score`` (z, y, x), the order kernels take; 0 where a voxel does not count."""
        return np.where(self.brain, self.score, np.float32(0)).T

    def voxels_in(self, ml: float) -> int:
        """As the function of that name."""
        return voxels_in(ml, self.voxel_ml)

    @property
    def lesion_zyx(self) -> NDArray[np.bool_]:
        """``lesion`` (z, y, x), the order kernels take; all False without a lesion mask."""
        return (np.zeros_like(self.brain) if self.lesion is None else self.lesion).T


class CalibrationSet(Protocol):
    """Streams the scans from disk; can be iterated repeatedly."""

    def __iter__(self) -> Iterator[CalibrationScan]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Choice:
    """The threshold chosen, and the measurements behind it.

    In ``measured``, a value ``x`` must not exceed ``x_limit``, if there is one. ``min_voxels`` or ``min_ml``: the
    smallest component that was counted; both None if the thresholder evaluates voxels, not components.
    """

    threshold: float
    target: str
    measured: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    min_voxels: int | None = None
    min_ml: float | None = None


class Thresholder(Protocol):
    """May define ``check_subjects(n)``, which raises UsageError if n subjects are too few; called before scoring.

    The order of the scans must not matter; on healthy scans, a scan that scores higher must not lower the threshold.
    """

    Options: ClassVar[type[Any]]
    needs_lesions: ClassVar[bool]  # True: calibrates on labelled scans; False: on healthy ones

    def __init__(self, options: Any) -> None: ...

    def choose(self, scans: CalibrationSet) -> Choice: ...


HIGHEST = 3.4e38  # scores are of 32 bits
MIN_VOXELS = 8  # the smallest finding, where a point was chosen on voxels: as in the study


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its provenance. Voxels with a score above ``threshold`` are abnormal.

    ``scorer`` and ``cleaners`` are the specs that produced the scores; the threshold is not valid for others.
    ``min_voxels`` or ``min_ml``: smaller components were ignored when it was chosen; None if it was chosen on voxels.
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
    min_ml: float | None = None

    @property
    def smallest(self) -> str:
        """The smallest component it counts, ``8 voxels`` or ``0.05 ml``; empty if it was chosen on voxels."""
        if self.min_ml is not None:
            return f"{self.min_ml:g} ml"
        return f"{self.min_voxels} voxels" if self.min_voxels else ""

    @property
    def lesion_free(self) -> str:
        """The number of findings in its lesion-free calibration scans, as a phrase; empty if it was not measured."""
        found = [self.measured.get(f"findings_{name}") for name in ("median", "p80", "scans")]
        if None in found:
            return ""
        median, p80, scans = found
        noun = f"finding{'' if median == 1 else 's'} of {self.smallest or f'{MIN_VOXELS} voxels'} or more"
        return f"a median of {median:g} {noun}, at most {p80:g} in 80 % (n = {scans:g})"

    def to_json(self) -> dict[str, Any]:
        """Plain values, as checkpoints and receipts store them."""
        specs = {"strategy": str(self.strategy), "scorer": str(self.scorer)}
        record = {**asdict(self), **specs, "cleaners": [str(spec) for spec in self.cleaners]}
        return {key: value for key, value in record.items() if key != "min_ml" or value is not None}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> OperatingPoint:
        try:
            POINT(record, "point")
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
        except (TypeError, KeyError, ValueError, UsageError) as error:
            raise CheckpointError(f"an operating point cannot be read ({error})") from None


POINT = schema.record(
    {
        "name": schema.text(200),
        "threshold": schema.number(0, HIGHEST),  # as of a threshold of the user's own: scores are at least 0
        **dict.fromkeys(("strategy", "scorer"), schema.text(1000)),
        "target": schema.text(1000),
        "cleaners": schema.items(schema.text(1000), 100),
        "scans": schema.whole(0, 2**40),
        **dict.fromkeys(("digest", "date"), schema.text(200)),
    },
    {
        "measured": schema.mapping(schema.number()),
        "interval": schema.optional(schema.items(schema.number(), 2, 2)),
        "min_voxels": schema.optional(schema.whole(1, 2**31)),
        "min_ml": schema.optional(schema.number(0, 1e6)),
        "failed": schema.whole(0, 2**40),
    },
)


def voxels_in(ml: float, voxel_ml: float) -> int:
    """The smallest number of voxels with this volume, or a little less; at least 1.

    Half a percent less: voxels of 0.99999 mm give the same number as those of 1 mm.
    """
    return max(1, math.ceil(0.995 * ml / voxel_ml))


def named_point(points: Sequence[OperatingPoint], name: str) -> OperatingPoint | None:
    return next((point for point in points if point.name == name), None)
