"""Everything a plugin may import; our own models, scorers, thresholders and cleaners import nothing else.

Building blocks are in ``uadtk.networks`` (torch) and ``uadtk.kernels`` (arrays). Both are as public as this module.

Deprecation policy: a name in ``__all__`` is removed only after two minor releases in which using it raises a
``DeprecationWarning`` that names its replacement. Hooks and methods gain optional arguments only. A change that breaks
plugins raises ``API_VERSION``. ``uadtk.api``, the former name of this module, is an alias without an end date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uadtk.core.entry import API_VERSION, Entry
from uadtk.core.errors import (
    BackendError,
    CheckpointError,
    DataError,
    PluginError,
    StorageError,
    UadtkError,
    UsageError,
)
from uadtk.core.options import NoOptions, option
from uadtk.hookspecs import hookimpl

if TYPE_CHECKING:
    from uadtk.core.cleaner import Cleaner
    from uadtk.core.finding import Finding, Segmentation
    from uadtk.core.model import Batch, Model, Turn
    from uadtk.core.scorer import Scored, Scorer
    from uadtk.core.thresholder import CalibrationScan, CalibrationSet, Choice, OperatingPoint, Thresholder
    from uadtk.core.volume import Mask, Scan, ScoreMap, Volume

# Names that need NumPy are found on first use, so that a plugin's entry module stays light.
_LAZY = {
    "Batch": "model",
    "CalibrationScan": "thresholder",
    "CalibrationSet": "thresholder",
    "Choice": "thresholder",
    "Cleaner": "cleaner",
    "Finding": "finding",
    "Mask": "volume",
    "Model": "model",
    "OperatingPoint": "thresholder",
    "Scan": "volume",
    "ScoreMap": "volume",
    "Scored": "scorer",
    "Scorer": "scorer",
    "Segmentation": "finding",
    "Thresholder": "thresholder",
    "Turn": "model",
    "Volume": "volume",
}

__all__ = [
    "API_VERSION",
    "BackendError",
    "Batch",
    "CalibrationScan",
    "CalibrationSet",
    "CheckpointError",
    "Choice",
    "Cleaner",
    "DataError",
    "Entry",
    "Finding",
    "Mask",
    "Model",
    "NoOptions",
    "OperatingPoint",
    "PluginError",
    "Scan",
    "ScoreMap",
    "Scored",
    "Scorer",
    "Segmentation",
    "StorageError",
    "Thresholder",
    "Turn",
    "UadtkError",
    "UsageError",
    "Volume",
    "hookimpl",
    "option",
]


def __getattr__(name: str) -> object:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(f"uadtk.core.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
