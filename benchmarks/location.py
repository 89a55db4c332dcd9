"""Does it help to know where in the brain a model errs? Statistics of healthy scores per place of the atlas, measured.

    python benchmarks/location.py ../shared/data/cohort.tsv [--model implant] [--every 2]

The average brain of the gate is aligned to every scan. Per place of it (4 mm voxels, smoothed): the mean score in the
lesion-free tissue of `lgg` training patients, for one of them that of the others. Scores are then lowered where that
mean is high, as score * exp(-k m) or score^(1 + k m), m being 1 at the 99th percentile of places; or replaced by their
z-score. Detection and DICE at the threshold as in `outline.py`, whose scans these are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cleaner_search import built
from numpy.typing import NDArray
from outline import BY_SIZE, Case, case, chosen, head, line
from scipy import ndimage

from uadtk.checkpoint import open_checkpoint
from uadtk.core.run import Run
from uadtk.core.volume import Scan, Volume
from uadtk.io.cohort import read_cohort
from uadtk.kernels._box import bounding_box
from uadtk.pipeline.score import build_method, cleaned
from uadtk.preparation import contrast
from uadtk.preparation.geometry import Reorientation

Array = NDArray[np.float64]
WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {  # of the score, m and z
    "score * exp(-m / 2)": lambda s, m, _: s * np.exp(-m / 2),
    "score * exp(-3 m / 2)": lambda s, m, _: s * np.exp(-1.5 * m),
    "score^(1 + m / 2)": lambda s, m, _: s ** (1 + m / 2),
    "score^(1 + 3 m / 2)": lambda s, m, _: s ** (1 + 1.5 * m),
    "z / (2 + z)": lambda _s, _m, z: z.clip(0) / (2 + z.clip(0)),
}


@dataclass(frozen=True)
class Placed:
    """A case with its score on the scan's own grid, and sums per place of the average brain: tissue, score, score²."""

    case: Case
    score: NDArray[np.float32]
    fit: Any
    parameters: Array
    sums: tuple[Array, Array, Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", default="implant")
    parser.add_argument("--every", type=int, default=2, help="Use every n-th training patient.")
    arguments = parser.parse_args()
    run, cohort = Run(), read_cohort(arguments.cohort)
    method = build_method(open_checkpoint(arguments.model), run)
    rows = chosen(cohort, arguments.every)
    found = {name: [placed(case(row, method, run)) for row in some] for name, some in rows.items()}
    print(head("scores", rows))
    cases = {name: [one.case for one in some] for name, some in found.items()}
    known = next(iter(found.values()))
    print(line("as they are", cases, {name: [crested(one, one.score) for one in some] for name, some in found.items()}))
    for sigma_mm in (4.0, 8.0):
        both = {name: [(one, statistics(one, known, sigma_mm)) for one in some] for name, some in found.items()}
        for way, changed in WAYS.items():
            scores = {
                name: [crested(one, changed(one.score, *m_and_z)) for one, m_and_z in some]
                for name, some in both.items()
            }
            print(line(f"{way}, {sigma_mm:.0f} mm", cases, scores), flush=True)


def placed(one: Case) -> Placed:
    """Scores before `crest`, and the average brain aligned to the scan."""
    prepared = one.prepared
    score = prepared.to_own_grid(cleaned(one.raw.copy(), prepared, built(BY_SIZE)))
    brain, affine = prepared.own_brain, prepared.own_brain.affine
    fit = contrast._Fit(contrast.coarse(Scan(prepared.to_own_grid(prepared.image), affine), brain))
    parameters = fit.aligned()
    places = fit.places(parameters, contrast._atlas().inside)
    sums = []
    for values in (one.free, score * one.free, score**2 * one.free):
        low = contrast.coarse(Scan(np.asarray(values, np.float32), affine), brain)
        sums.append(ndimage.map_coordinates(low.image * low.inside, places, order=1))
    return Placed(one, score, fit, parameters, (sums[0], sums[1], sums[2]))


def statistics(one: Placed, known: list[Placed], sigma_mm: float) -> tuple[Array, Array]:
    """At each voxel: the mean healthy score there, in units of its 99th percentile, at most 1.5; and the voxel's z."""
    atlas = contrast._atlas()

    def smoothed(k: int) -> Array:
        grid = np.zeros(atlas.shape)
        grid[atlas.where] = np.sum([other.sums[k] for other in known if other is not one], axis=0)
        slow: Array = ndimage.gaussian_filter(grid, sigma_mm / atlas.spacing_mm)
        return slow

    tissue, total, squares = map(smoothed, range(3))
    mean = total / np.maximum(tissue, 1e-3)
    spread = np.sqrt(np.maximum(squares / np.maximum(tissue, 1e-3) - mean**2, 0))
    nearest = tuple(ndimage.distance_transform_edt(~atlas.where, return_distances=False, return_indices=True))
    there, wide = (on_scan(one, values[nearest]) for values in (mean, spread))
    return np.minimum(there / np.quantile(mean[atlas.where], 0.99), 1.5), (one.score - there) / (wide + 0.05)


def on_scan(one: Placed, atlas_map: Array) -> Array:
    """A map of the average brain on the scan's own grid, by way of the coarse grid that was aligned."""
    atlas, brain = contrast._atlas(), one.case.prepared.own_brain
    matrix, offset = one.fit.transform(one.parameters)
    shape = one.fit.brain.inside.shape
    voxels = np.indices(shape).reshape(3, -1)
    centre = np.argwhere(atlas.where).mean(axis=0)[:, None]
    index = np.linalg.inv(matrix) @ (voxels - offset[:, None]) / atlas.spacing_mm + centre
    low = ndimage.map_coordinates(atlas_map, index, order=1, mode="nearest").reshape(shape)
    turn = Reorientation.of(brain.affine)
    upright = turn.to_ras(Volume(brain.voxels, brain.affine))
    box = bounding_box(upright.voxels)
    sizes = [part.stop - part.start for part in box]
    lines = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(sizes, shape, strict=True)]
    full = np.zeros(upright.voxels.shape, np.float32)
    full[box] = ndimage.map_coordinates(low, np.meshgrid(*lines, indexing="ij"), order=1, mode="nearest")
    return turn.to_own(full).astype(np.float64)


def crested(one: Placed, changed: NDArray[Any]) -> NDArray[np.float32]:
    """`crest` of the scores, here on the scan's own grid."""
    score = np.asarray(changed, np.float32).T
    brain = one.case.prepared.own_brain
    (crest,) = built("crest:low=0.1,share=0.85")
    raised: NDArray[np.float32] = crest.clean(score, score, brain.voxels.T, brain.spacing_mm[::-1])
    return raised.T * brain.voxels


if __name__ == "__main__":
    main()
