"""Phantoms: FLAIR-like brains, healthy or with lesions known to the voxel, from real anatomy."""

from uadtk.phantom.anatomy import Anatomy, from_labels, icbm
from uadtk.phantom.synthesis import Phantom, make

__all__ = ["Anatomy", "Phantom", "from_labels", "icbm", "make"]
