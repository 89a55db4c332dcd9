"""Pack trained models of the study into the plugin `uadtk-thesis`: half precision, an operating point, and a card each.

    python benchmarks/pack_weights.py ../shared/data build/models                  # after train_all.py
    pip install ./plugins/uadtk-thesis
    uadtk segment scan.nii.gz --model vae

Takes the finished rows of `train_all.py` in its order, each that still fits into 25 MB, or those of ``--rows``. What is
packed is what is measured: the operating point `p98` and the numbers of the card are of the weights in half precision,
on the validation split. Rows of plugins' models are left out, and `scale-space`, which uadtk ships as `scalespace`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from _shared import finished, gliomas, validation_scans
from train_all import BATCH, COLUMNS, PLANS, Bench

from uadtk import registry
from uadtk.checkpoint import Checkpoint, load, pack_tensors
from uadtk.core.model import capabilities
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort
from uadtk.io.write import write_json, write_text
from uadtk.pipeline.threshold import calibrate

LIMIT = 25_000_000  # bytes, weights and cards together
CARD_ROOM = 10_000  # of these, for the card of one model
LICENCE = "CC-BY-NC-SA-4.0"
SHIPPED = ("scale-space",)
PACKAGE = Path(__file__).parents[1] / "plugins" / "uadtk-thesis" / "src" / "uadtk_thesis" / "weights"
SIMULATED = "\nIts simulated domain are flat phantoms of 20 SynthSeg label maps (Apache-2.0): `uadtk phantom --flat`.\n"

CARD = """# Model card: `{name}`

**What.** {summary} Model `{model}` of uadtk {version} with {options}; {parameters} M parameters in half precision,
{megabytes:.1f} MB.

**For what.** Brain FLAIR, skull-stripped or not. Research use. Not a medical device.

**Trained on** `lgg` train: {slices} slices of {scans} lower-grade glioma patients (TCGA-LGG), *never healthy controls*.
Known lesions and 6 mm around them are left out of the loss. Images CC BY 3.0, masks CC BY-NC-SA 4.0: because the masks
decided what was learned, take the weights as CC BY-NC-SA 4.0: research, non-commercial.
{simulated}
**Budget.** {steps} batches of {batch} slices in {epochs} epochs, {minutes} minutes on one core; the same number of
batches for every model of the study, and not until convergence. The weights are those of epoch {best}, selected on
`lgg` validation. `python benchmarks/train_all.py ../shared/data build/models --steps {steps} --models {name}`

**Score**: `{scorer}`, then {cleaners}.

**Operating point** `{point}`: threshold {threshold:.4g}, above which are 2 % of the brain voxels of {calibrated}
validation scans, in lesion-free slices or more than 6 mm from a known lesion.

## Validation

On `lgg` validation, by which training selected the weights: no test. AUPRC over the brain's voxels; ⌈DICE⌉ is an
oracle. Errors of the mean training slice and of its principal components (PCA) are to compare with.

| | |
|---|---|
{numbers}

## Limits

* Few validation scans, of one disease and one collection; the study's table says how it does elsewhere
  (`benchmarks/README.md`).
* At `p98` a healthy scan has findings by construction: 2 % of its brain, about 28 ml. Recalibrate on your own
  lesion-free scans: `uadtk threshold --model {name} --healthy cohort.tsv -o mine.safetensors`.
* {score}
"""
DIFFERENCE = """The score is the difference to a reconstruction: bright cortex and the brain's rim score high, and
  what is dark (old infarcts, tumour cores) is not found."""
WHOLE_SLICES = (
    "The score is of whole slices: all voxels of one have the same, so that it says where to look and outlines nothing."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, help="folder of train_all.py")
    parser.add_argument("--rows", nargs="+", choices=PLANS, help="these, and an error if they do not fit")
    parser.add_argument("-o", "--output", type=Path, default=PACKAGE)
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.models.resolve()
    chosen = choose(work, arguments.rows)
    calibration = validation_scans(data)
    packed = {name: ready(checkpoint, calibration) for name, checkpoint in chosen.items()}
    cards = {name: card(name, checkpoint, data, work) for name, checkpoint in packed.items()}
    write(arguments.output, packed, cards)


def choose(work: Path, wanted: list[str] | None) -> dict[str, Checkpoint]:
    """The checkpoints to pack, halved. Raises SystemExit if there is none, or those that are wanted do not fit."""
    chosen: dict[str, Checkpoint] = {}
    size = 0
    for name in wanted or [name for name in PLANS if name not in SHIPPED]:
        path = work / f"{name}.safetensors"
        if not finished(path):
            if wanted:
                raise SystemExit(f"{path} is not there, or not trained in full")
            continue
        checkpoint = halved(load(path))
        room = len(checkpoint.weights) + CARD_ROOM
        if checkpoint.dist != registry.OWN or size + room > LIMIT:
            why = "is a plugin's" if checkpoint.dist != registry.OWN else f"does not fit into {LIMIT / 1e6:g} MB"
            if wanted:
                raise SystemExit(f"{name} {why}")
            print(f"{name} {why}: left out", file=sys.stderr)
            continue
        chosen[name], size = checkpoint, size + room
    if not chosen:
        raise SystemExit(f"no trained model in {work}: run train_all.py first")
    return chosen


def halved(checkpoint: Checkpoint) -> Checkpoint:
    """In half precision; without operating points, as scores change a little, and without the name of a local file.

    Raises SystemExit if a number is too large.
    """
    from safetensors.torch import load as tensors_of

    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors_of(checkpoint.weights).items()
    }
    if overflown := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise SystemExit(f"{checkpoint.source}: {', '.join(overflown)} is out of the range of half precision")
    options = {key: "" if key == "simulated" else value for key, value in checkpoint.options.items()}
    return replace(checkpoint, weights=pack_tensors(tensors), options=options, points=())


def ready(checkpoint: Checkpoint, calibration: Cohort) -> Checkpoint:
    run = Run(say=lambda line: print(line, file=sys.stderr))
    return checkpoint.with_point(calibrate(checkpoint, calibration, Spec("p98"), "", run))


def card(name: str, checkpoint: Checkpoint, data: Path, work: Path) -> str:
    facts, (point,) = checkpoint.training, checkpoint.points
    cells = dict(zip(COLUMNS, Bench(gliomas(data), work, checkpoint.preparation).row(name, checkpoint), strict=True))
    about: dict[str, Any] = {
        "summary": registry.find("models", checkpoint.model).entry.summary,
        "options": ", ".join(f"`{key}={value}`" for key, value in checkpoint.options.items() if value != ""),
        "simulated": SIMULATED if "{simulated}" in PLANS[name].options else "",
        "parameters": cells["parameters, M"],
        "megabytes": len(checkpoint.weights) / 1e6,
        "slices": facts["slices"]["train"],
        "scans": facts["scans"]["train"],
        "steps": facts["epochs"] * max(1, facts["slices"]["train"] // BATCH),
        "epochs": facts["epochs"],
        "minutes": cells["minutes"],
        "best": facts["best_epoch"],
        "cleaners": ", ".join(f"`{spec}`" for spec in checkpoint.cleaners) or "no cleaner",
        "point": point.name,
        "threshold": point.threshold,
        "calibrated": point.scans,
        "score": DIFFERENCE if "reconstruct" in capabilities(checkpoint.new_model()) else WHOLE_SLICES,
        "numbers": "\n".join(f"| {column} | {cells[column]} |" for column in COLUMNS[4:]),
    }
    fixed = {"name": name, "model": checkpoint.model, "version": checkpoint.version, "scorer": checkpoint.scorer}
    return CARD.format(**fixed, **about, batch=BATCH)


def write(folder: Path, packed: dict[str, Checkpoint], cards: dict[str, str]) -> None:
    """Replace the folder's weights and cards; its index is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.safetensors"), *folder.glob("*.md")):
        old.unlink()
    index: dict[str, dict[str, str]] = {}
    for name, checkpoint in packed.items():
        files = {"file": f"{name}.safetensors", "card": f"{name}.md"}
        checkpoint.save(folder / files["file"])
        write_text(folder / files["card"], cards[name])
        index[name] = {**files, "digest": checkpoint.digest, "licence": LICENCE}
    write_json(folder / "index.json", {"models": index})
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > LIMIT:
        raise SystemExit(f"{folder} has {size / 1e6:.1f} MB, more than {LIMIT / 1e6:g}: pack fewer (--rows)")
    print(json.dumps(sorted(index)), f"{size / 1e6:.1f} MB in {folder}")


if __name__ == "__main__":
    main()
