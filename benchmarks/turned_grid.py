"""The same anatomy on a grid that is turned: how much the volume of the mask changes.

    python -m benchmarks.turned_grid [SEED ...]

Phantoms are sampled linearly on slices of 1 x 1 x 3 mm at an angle, brain masks with them. Turned grids keep their own
slices, so a network sees turned anatomy; ``histeq`` is the same without a network.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uadtk import checkpoint as checkpoints
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.phantom import make
from uadtk.pipeline.evaluate import bare_of
from uadtk.pipeline.point import uncalibrated
from uadtk.pipeline.score import build_method
from uadtk.pipeline.segment import segment

SHAPE = np.array((216, 250, 84))
ANGLES = ((0, 0, 0), (10, 0, 0), (20, 0, 0), (30, 0, 0), (0, 15, 0), (0, 0, 15), (12, -8, 10))


def turned(volume: Volume, degrees: tuple[float, float, float], order: int) -> Volume:
    """The volume on a turned grid around its middle; ``degrees`` about R, A and S, ``order`` of interpolation."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag([1.0, 1.0, 3.0])
    middle = (volume.affine @ (*(np.array(volume.shape) - 1) / 2, 1.0))[:3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((SHAPE - 1) / 2)
    to_old = np.linalg.inv(volume.affine) @ affine
    voxels = volume.voxels.astype(np.float32)
    return Volume(ndimage.affine_transform(voxels, to_old[:3, :3], to_old[:3, 3], tuple(SHAPE), order=order), affine)


def main() -> None:
    shipped = checkpoints.open_checkpoint("scalespace")
    bare = bare_of(shipped)
    points = {"histeq": uncalibrated(bare, "high", 0.75, ""), "scalespace": shipped.point("p98")}
    methods = {"histeq": build_method(bare, Run()), "scalespace": build_method(shipped, Run())}
    print("| seed | model | " + " | ".join(f"{a}, {b}, {c}" for a, b, c in ANGLES) + " |")
    print("|---|---|" + "---|" * len(ANGLES))
    for seed in map(int, sys.argv[1:] or ("5", "7")):
        phantom = make(seed, lesions="ms", lesion_ml=15.0)
        for name, method in methods.items():
            volumes = []
            for degrees in ANGLES:
                brain = turned(phantom.brain, degrees, 0).voxels > 0.5
                image = turned(phantom.scan, degrees, 1)
                scan = Scan(np.where(brain, image.voxels, 0).astype(np.float32), image.affine)
                found = segment(scan, method, points[name], Run(worst="red"), Mask(brain, image.affine))
                volumes.append(float(found.mask.voxels.sum()) * scan.voxel_ml)
            cells = [f"{volumes[0]:.1f} ml", *(f"{ml / volumes[0] - 1:+.0%}" for ml in volumes[1:])]
            print(f"| {seed} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
