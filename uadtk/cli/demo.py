"""Segment a phantom patient with the shipped model, and compare with its planted lesion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import Device, Model, Threads


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to; replaced if it is there.")] = Path(
        "uadtk-demo"
    ),
    model: Model = DEFAULT_MODEL,
    lesions: Annotated[
        Literal["tumour", "ms"], typer.Option(help="What is planted: one large or many small.")
    ] = "tumour",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed, another patient.")] = 1,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Segment a phantom patient with the shipped model, and compare with its planted lesion.

    The phantom is synthetic (lesions planted in deformed ICBM anatomy): it shows that everything works, not how well
    the model does on patients. For that see the model card: uadtk inspect implant. The default patient ships with
    uadtk; any other is made on the spot, which needs pip install "uadtk[phantom]".
    """
    from uadtk.checkpoint import open_checkpoint
    from uadtk.io.cohort import Row
    from uadtk.io.results import output_paths
    from uadtk.io.write import write_bytes, write_nifti
    from uadtk.kernels import average_precision, best_dice
    from uadtk.metrics.lesions import tally_lesions
    from uadtk.metrics.overlap import dice
    from uadtk.phantom import make
    from uadtk.phantom.shipped import LESIONS, SEED, shipped
    from uadtk.pipeline.run import make_run
    from uadtk.pipeline.score import build_method
    from uadtk.pipeline.segment import Rules, segment_file
    from uadtk.report.mosaic import picture

    name = "sub-demo"
    run = make_run(device, threads)
    checkpoint = open_checkpoint(model)
    ready = (seed, lesions) == (SEED, LESIONS)
    run.say("taking the phantom patient that ships with uadtk" if ready else f"making a phantom patient (seed {seed})")
    phantom = shipped() if ready else make(seed, lesions=lesions)
    scan_path, truth_path = output / f"{name}_FLAIR.nii.gz", output / f"{name}_desc-planted_mask.nii.gz"
    write_nifti(scan_path, phantom.scan)
    write_nifti(truth_path, phantom.lesion)

    run.say(f"segmenting it with {model}")
    method, point = build_method(checkpoint, run), checkpoint.point(None)
    result = segment_file(Row(subject=name, image=scan_path), name, method, point, output, run, Rules(), overwrite=True)
    picture_path = output / f"{name}_picture.png"
    write_bytes(picture_path, picture(result, phantom.lesion))

    mask, truth, score = result.mask.voxels, phantom.lesion.voxels, result.scoring.score.voxels
    inside = result.scoring.brain.voxels
    planted, found, components, true = tally_lesions(mask, truth, result.mask.voxel_ml).sum(axis=1).tolist()
    oracle = best_dice(score[inside], truth[inside])
    written = {key: path for key, path in output_paths(output, name).items() if path.exists()}
    for key, path in {"scan": scan_path, "planted": truth_path, **written, "picture": picture_path}.items():
        print(f"{key.replace('_', ' '):<15} {path}")
    print()
    print(f"operating point {point.name}: score > {point.threshold:.4f}")
    print(f"mask            {len(result.findings)} findings, {result.total_ml:.2f} ml")
    print(f"planted         {planted} lesions, {truth.sum() * phantom.scan.voxel_ml:.2f} ml")
    print(f"found           {found} of {planted} lesions, {components - true} false findings")
    print(f"DICE            {dice(mask, truth):.3f} at the operating point")
    print(f"⌈DICE⌉          {oracle.dice:.3f} at the best threshold, an oracle")
    print(f"AUPRC           {average_precision(score[inside], truth[inside]):.3f} inside the brain")
    print(f"seconds         {', '.join(f'{stage} {s:.2f}' for stage, s in run.timings.items())}")
