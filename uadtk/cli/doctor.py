"""Report the state of this installation: device, optional libraries, plugins, shipped models."""

from __future__ import annotations

from uadtk.version import VERSION


def doctor() -> None:
    """Report the state of this installation: device, optional libraries, plugins, shipped models."""
    import platform
    from importlib.util import find_spec

    import torch

    from uadtk import registry
    from uadtk.core.machine import usable_cores
    from uadtk.kernels._cache import ADVICE, cache_folder

    print(f"uadtk        {VERSION}, Python {platform.python_version()}, {usable_cores()} cores")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch        {torch.__version__}, CUDA device: {device}")
    for module, dist, extra, what in (
        ("deepbet", "deepbet", "preprocess", "skull stripping"),
        ("SimpleITK", "SimpleITK", "preprocess", "registration, N4, NRRD, MetaImage"),
        ("nilearn", "nilearn", "phantom", "atlas, phantoms without label maps"),
        ("pydicom", "pydicom", "dicom", "DICOM"),
        ("highdicom", "highdicom", "dicom", "DICOM output"),
        ("h5py", "h5py", "formats", "MINC 2"),
        ("cupy", "cupy-cuda13x", "cuda", "kernels on a GPU"),
    ):
        there = find_spec(module) is not None
        state = _version(dist) if there else f'missing: pip install "uadtk[{extra}]"'
        print(f"{module:<12} {state} ({what})")
    print(f"kernels      stored in {folder}" if (folder := cache_folder()) else f"kernels      not stored; {ADVICE}")
    print(f"shipped      {', '.join(registry.weights())}")
    print(f"plugins      {', '.join(f'{p.dist} {p.version}' for p in registry.plugins()) or 'none'}")
    for warning in registry.warnings():
        print(f"warning      {warning}")


def _version(dist: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(dist)
    except metadata.PackageNotFoundError:  # as of CuPy for another CUDA
        return "installed"
