"""The ICBM 2009a average brain, whose maps nilearn's wheel contains."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from uadtk.core.errors import BackendError
from uadtk.core.volume import Volume


def icbm_map(kind: Literal["t1", "gm", "wm"]) -> Volume:
    """The T1 without skull, or the grey or white matter, from 0 to 255 in voxels of 1 mm; nilearn is not imported.

    Raises
    ------
    BackendError
        nilearn is not installed, or lacks the maps.
    """
    nilearn = find_spec("nilearn")
    if nilearn is None or nilearn.origin is None:
        raise BackendError("the ICBM atlas needs nilearn", fix='Run: pip install "uadtk[phantom]".')
    path = Path(nilearn.origin).parent / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise BackendError("this nilearn has no ICBM maps", str(path), 'Run: pip install -U "uadtk[phantom]".')
    import nibabel

    image: Any = nibabel.load(path)
    return Volume(np.asarray(image.dataobj, np.float32), image.affine)
