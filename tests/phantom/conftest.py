from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest


@pytest.fixture(scope="session")
def label_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round head with FreeSurfer's numbers, stored along L, P, S, with bone and an unknown number."""
    x, y, z = np.ogrid[-48:48, -48:48, -48:48]
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.zeros(radius.shape, np.int16)
    for outer, code in ((46, 515), (42, 24), (40, 3), (36, 2), (14, 10), (9, 4)):
        labels[radius < outer] = code
    labels[(radius < 36) & (radius > 30) & (z > 0)] = 499  # surrounded by white matter and cortex
    path = tmp_path_factory.mktemp("labels") / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path
