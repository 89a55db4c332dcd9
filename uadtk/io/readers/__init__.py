"""Readers of image formats. Each takes a path and returns a ``Volume``, or None if the file is of another format.

They are tried in a fixed order, by content where a format has a mark and by ending where it has none; then come the
readers of plugins (hook ``uadtk_read``). A file that is of a format and cannot be used is an error, never None.

A library that is missing is a ``BackendError`` with the command that installs it, and stops a cohort: skipping every
file of a format would change what is trained on or counted, without a word at the end.
"""

from __future__ import annotations

import re
from pathlib import Path

from uadtk.core.volume import Volume

IMAGE = re.compile(r"\.(nii(\.(gz|bz2|zst))?|mgz|mgh(\.gz)?|nrrd|nhdr|mha|mhd|mnc2?(\.gz)?)$", re.IGNORECASE)
"""Endings by which images of a folder are recognised. DICOM has none; .hdr and .img would count pairs twice."""
_OTHERS = re.compile(r"\.(mgz|mgh(\.gz)?|hdr(\.gz)?|img(\.gz)?|nrrd|nhdr|mha|mhd|mnc2?(\.gz)?)$", re.IGNORECASE)


def knows(path: Path) -> bool:
    """Whether :func:`read_any` reads it, or refuses it; a plugin is asked for any other. Looks at no voxels."""
    from uadtk.core.errors import UadtkError
    from uadtk.io.nifti import read_grid
    from uadtk.io.readers.dicom_files import any_dicom, is_dicom

    try:
        if path.is_dir():
            return any_dicom(path)
        return is_dicom(path) or bool(_OTHERS.search(path.name)) or read_grid(path) is not None
    except (UadtkError, OSError):  # it is one of ours, and damaged
        return True


def read_any(path: Path, trust: str = "") -> Volume | None:
    """The volume in a file, or in a folder of DICOM; None if no reader knows it.

    ``trust``: the part of a NIfTI header to believe, see ``uadtk.io.orientation``.
    """
    from uadtk.io.nifti import read_nifti
    from uadtk.io.readers import dicom, others

    if (volume := dicom.read(path)) is not None or path.is_dir():  # first: DICOM files are called .img as well
        return volume
    if (volume := read_nifti(path, trust)) is not None:
        return volume
    for reader in others.READERS:
        if (volume := reader(path)) is not None:
            return volume
    return None
