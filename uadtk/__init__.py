"""uadtk: unsupervised anomaly detection in brain MRI.

``uadtk.open``, ``train``, ``evaluate`` and ``compare`` do from Python what the commands do; see ``uadtk.interface``.
Importing this module loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uadtk.version import VERSION as __version__

__all__ = ["__version__", "compare", "evaluate", "open", "train"]

if TYPE_CHECKING:
    from uadtk.interface import compare, evaluate, open, train


def __getattr__(name: str) -> object:
    if name in __all__:
        from uadtk import interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
