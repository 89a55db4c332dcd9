"""Where compiled kernels are stored, found out without importing Numba."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from uadtk.core.machine import user_cache

ADVICE = "every process compiles its kernels again: set NUMBA_CACHE_DIR to a writable folder"


def cache_folder() -> Path | None:
    """The first of the folders that Numba tries that can be written to; None: nothing is stored (:data:`ADVICE`).

    ``NUMBA_CACHE_DIR`` alone if it is set; else beside the kernels' source, else the user's cache.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parent / "_numba" / "__pycache__"
    for folder in [Path(named)] if named else [beside, user_cache("numba")]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None
