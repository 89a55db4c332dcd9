"""Report the state of this installation: device, optional libraries, plugins, shipped models."""

from __future__ import annotations

from uadtk.version import VERSION

_EXTRAS = {
    "deepbet": "preprocess",
    "SimpleITK": "preprocess",
    "nilearn": "phantom",
    "pydicom": "dicom",
    "highdicom": "dicom",
    "h5py": "formats",
    "cupy": "cuda",
}


def doctor() -> None:
    """Report the state of this installation: device, optional libraries, plugins, shipped models."""
    import platform
    from importlib import metadata
    from importlib.util import find_spec

    import torch

    from uadtk import registry
    from uadtk.core.machine import usable_cores
    from uadtk.kernels._cache import ADVICE, cache_folder

    print(f"uadtk        {VERSION}, Python {platform.python_version()}, {usable_cores()} cores")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch        {torch.__version__}, CUDA device: {device}")
    for module, dist, what in (
        ("deepbet", "deepbet", "skull stripping"),
        ("SimpleITK", "SimpleITK", "registration, N4, NRRD, MetaImage"),
        ("nilearn", "nilearn", "atlas, phantoms without label maps"),
        ("pydicom", "pydicom", "DICOM"),
        ("highdicom", "highdicom", "DICOM output"),
        ("h5py", "h5py", "MINC 2"),
        ("cupy", "cupy-cuda13x", "kernels on a GPU"),
    ):
        there = find_spec(module) is not None
        extra = _EXTRAS[module]
        state = f"{_version(metadata, dist)}" if there else f'missing: pip install "uadtk[{extra}]"'
        print(f"{module:<12} {state} ({what})")
    print(f"kernels      stored in {folder}" if (folder := cache_folder()) else f"kernels      not stored; {ADVICE}")
    print(f"shipped      {', '.join(registry.weights())}")
    print(f"plugins      {', '.join(f'{p.dist} {p.version}' for p in registry.plugins()) or 'none'}")
    for warning in registry.warnings():
        print(f"warning      {warning}")


def _version(metadata: object, dist: str) -> str:
    try:
        return metadata.version(dist)  # type: ignore[attr-defined, no-any-return]
    except Exception:
        return "installed"
