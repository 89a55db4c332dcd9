"""Compile all kernels now, so that no run has to: for images of containers and for shared installations."""

from __future__ import annotations


def warm() -> None:
    """Compile all kernels now, so that no run has to: for images of containers and for shared installations.

    They are stored in NUMBA_CACHE_DIR, beside the package, or in your cache; uadtk doctor shows where. A read-only
    container runs as any user if this was run when its image was built. It segments the shipped phantom, by two models.
    """
    import tempfile
    import time
    from pathlib import Path

    import torch

    from uadtk import interface
    from uadtk.builtin import DEFAULT_MODEL
    from uadtk.core.errors import UsageError
    from uadtk.kernels import average_precision, best_dice
    from uadtk.kernels._cache import ADVICE, cache_folder
    from uadtk.networks.norms import GroupNorm
    from uadtk.phantom.shipped import shipped

    folder = cache_folder()
    if folder is None:
        raise UsageError("no folder for compiled kernels is writable", fix=f"{ADVICE[0].upper()}{ADVICE[1:]}.")
    start = time.monotonic()
    phantom = shipped()
    with tempfile.TemporaryDirectory() as outputs:
        for model in (DEFAULT_MODEL, "scalespace"):  # their cleaners use different kernels
            found = interface.open(model).segment(phantom.scan)
            found.save(Path(outputs) / model)  # so does the page
    inside = found.brain.voxels
    truth = phantom.lesion.voxels[inside]
    average_precision(found.score.voxels[inside], truth)
    best_dice(found.score.voxels[inside], truth)
    # The norms of training, and of a machine that scores in float32 where this one does in bfloat16.
    GroupNorm(1, 1)(torch.zeros(1, 1, 8, 8, requires_grad=True)).sum().backward()  # type: ignore[no-untyped-call]
    print(f"kernels are stored in {folder} ({time.monotonic() - start:.0f} s)")
