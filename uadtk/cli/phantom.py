"""Write phantoms: FLAIR-like brains, healthy or with lesions known to the voxel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from uadtk.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uadtk.core.preparation import Preparation
    from uadtk.phantom import Phantom

_COLUMNS = ("subject", "collection", "site", "split", "group", "image", "brain_mask", "lesion_mask")
_ENDINGS = (".nii", ".nii.gz", ".mgz")


def phantom(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many; each has its own seed.")] = 1,
    lesions: Annotated[
        Literal["none", "ms", "tumour"], typer.Option(help="Healthy, or lesions of which kind.")
    ] = "none",
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the first phantom; each further one adds 1.")
    ] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="FreeSurfer label map, or a folder of them, in place of the ICBM brain.")
    ] = None,
    slice_mm: Annotated[float, typer.Option(min=0.4, max=12, help="Slice thickness.")] = 1.0,
    in_plane_mm: Annotated[float, typer.Option(min=0.4, max=4, help="Pixel size.")] = 1.0,
    lesion_ml: Annotated[
        float | None, typer.Option(min=0.01, max=300, help="Volume of all lesions. Default: drawn.")
    ] = None,
    contrast: Annotated[
        float | None, typer.Option(min=0, max=5, help="Lesion over white-matter intensity. Default: drawn.")
    ] = None,
    mass_effect: Annotated[
        float, typer.Option(min=0, max=0.5, help="How far lesions push tissue aside, in radii.")
    ] = 0.0,
    deformation: Annotated[float, typer.Option(min=0, max=2, help="How much heads differ; 0: not at all.")] = 1.0,
    noise: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Rician noise over white-matter intensity. Default: drawn.")
    ] = None,
    bias: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Standard deviation of the bias field. Default: drawn.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="One intensity per tissue: no texture, drift, noise or bias field.")
    ] = False,
    slices: Annotated[
        bool, typer.Option("--slices", help="Also write slices.npy: their slices, for train steganomaly --simulated.")
    ] = False,
    prepare: Annotated[str, typer.Option(help="Preparation of the slices, as for train.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Write phantoms: FLAIR-like brains, healthy or with lesions known to the voxel.

    Scans and masks are named as BIDS names them; cohort.tsv lists them for train, threshold and segment. A .json file
    beside each scan records how it was made.

    \b
    Examples:
      uadtk phantom -o phantoms/ --count 12 --lesions ms
    """
    import numpy as np

    from uadtk.core.preparation import preparation_of
    from uadtk.io.write import refuse_existing, staged, write_json, write_nifti, write_text
    from uadtk.phantom import from_labels, icbm, make

    if prepare and not slices:
        raise UsageError("needs --slices", "--prepare", "Scans are written as they are.")
    maps = _label_maps(labels) if labels is not None else []
    names = [f"sub-phantom{number:03d}" for number in range(1, count + 1)]
    rows = [_row(name, maps[i % len(maps)].name if maps else "icbm2009a", lesions) for i, name in enumerate(names)]
    files = [row[key] for row in rows for key in ("image", "brain_mask", "lesion_mask") if row[key]]
    sidecars = [f"{name}_FLAIR.json" for name in names]
    extra = ["slices.npy"] if slices else []
    refuse_existing([output / name for name in [*files, *sidecars, *extra, "cohort.tsv"]], overwrite)
    recipe, prepared = preparation_of(prepare), []
    with staged(output, overwrite) as stage:
        for number, (row, sidecar) in enumerate(zip(rows, sidecars, strict=True)):
            made = make(
                seed + number,
                from_labels(maps[number % len(maps)]) if maps else icbm(),
                lesions=lesions,
                lesion_ml=lesion_ml,
                contrast=contrast,
                mass_effect=mass_effect,
                slice_mm=slice_mm,
                in_plane_mm=in_plane_mm,
                deformation=deformation,
                noise=noise,
                bias=bias,
                flat=flat,
            )
            if slices:
                prepared.append(_slices(made, recipe))
            write_nifti(stage / row["image"], made.scan)
            write_nifti(stage / row["brain_mask"], made.brain)
            if row["lesion_mask"]:
                write_nifti(stage / row["lesion_mask"], made.lesion)
            write_json(stage / sidecar, made.facts)
        if slices:
            np.save(stage / "slices.npy", np.concatenate(prepared))
        lines = ["\t".join(_COLUMNS), *("\t".join(row[column] for column in _COLUMNS) for row in rows)]
        write_text(stage / "cohort.tsv", "\n".join(lines) + "\n")
    print(output / "cohort.tsv")


def _slices(made: Phantom, recipe: Preparation) -> NDArray[np.float16]:
    """The slices that a training takes of such a scan."""
    import numpy as np

    from uadtk.core.run import Run
    from uadtk.preparation import prepare
    from uadtk.training.slices import with_brain

    prepared = prepare(made.scan, recipe, Run(), made.brain)
    return prepared.image[with_brain(prepared.brain)].astype(np.float16)


def _row(name: str, site: str, lesions: str) -> dict[str, Any]:
    masks = {"brain_mask": f"{name}_desc-brain_mask.nii.gz"}
    masks["lesion_mask"] = "" if lesions == "none" else f"{name}_label-lesion_mask.nii.gz"
    group = "healthy" if lesions == "none" else lesions
    return {"subject": name, "collection": "phantom", "site": site, "split": "", "group": group} | {
        "image": f"{name}_FLAIR.nii.gz",
        **masks,
    }


def _label_maps(path: Path) -> list[Path]:
    """A file, or the label maps of a folder in the order of their names."""
    maps = sorted(p for p in path.iterdir() if p.name.endswith(_ENDINGS)) if path.is_dir() else [path]
    if not maps:
        raise DataError("no label maps in the folder", str(path), f"Expected files that end in {', '.join(_ENDINGS)}.")
    return maps
