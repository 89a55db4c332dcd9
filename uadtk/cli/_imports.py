"""Imports that a command makes shorter for its own process."""

from __future__ import annotations

import sys


def import_nibabel() -> None:
    """Import nibabel without pydicom, which it loads where it is installed, for an extension that uadtk never reads.

    pydicom takes a quarter of a second, and can be imported afterwards. Before any other thread begins.
    """
    if "nibabel" in sys.modules or "pydicom" in sys.modules:
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules["pydicom"]
