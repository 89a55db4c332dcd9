"""Makes the golden checkpoint of the present format. Run once, when the format is new: python -m tests.golden.make

A later uadtk must load it as it is; never make it again for a format that has been released.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from uadtk import checkpoint as checkpoints
from uadtk.core.preparation import Preparation
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint

HERE = Path(__file__).parent
TINY = {"levels": 1, "widths": "4", "latent": 1, "lowpass": 1}
FILL = np.array(
    [0.11, -0.07, 0.19, -0.13, 0.05, 0.17, -0.02], np.float32
)  # repeated, so that the file packs to a few kB
_ROW = torch.linspace(0, 1, 128)
SLICE = (0.5 + 0.5 * torch.sin(9 * _ROW[:, None]) * torch.cos(13 * _ROW[None, :]))[None, None]


def main() -> None:
    point = OperatingPoint(
        name="p98",
        threshold=0.125,
        strategy=Spec("p98"),
        target="98 % of healthy brain voxels",
        scorer=Spec("restoration"),
        cleaners=(),
        scans=3,
        digest="0" * 64,
        date="2026-01-01",
        interval=(0.2, 0.5),
    )
    fresh = checkpoints.new("scalespace", TINY, Preparation(denoise=True), scorer=Spec("gradient"))
    model = fresh.new_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(np.resize(FILL, parameter.numel())).reshape(parameter.shape))
    path = HERE / f"format{checkpoints.FORMAT}.safetensors"
    made = replace(fresh, weights=checkpoints.pack(model), training={"epochs": 1}, points=(point,))
    made.save(path)
    path.with_suffix(".safetensors.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    path.unlink()
    with torch.inference_mode():
        np.save(HERE / f"format{checkpoints.FORMAT}.npy", made.build().reconstruct(SLICE)[0, 0, ::8, ::8].numpy())


if __name__ == "__main__":
    main()
