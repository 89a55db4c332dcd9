"""Choose an operating point on healthy scans and store it in the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import (
    Cleaner,
    Cluster,
    Device,
    Force,
    Jobs,
    Model,
    Output,
    Overwrite,
    Scorer,
    Threads,
    Trust,
    chosen_cleaners,
)
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.text import shown

if TYPE_CHECKING:
    from uadtk.core.spec import Spec


def threshold(
    model: Model = DEFAULT_MODEL,
    healthy: Annotated[
        Path | None, typer.Option(help="cohort.tsv, a BIDS tree, a folder or a scan to calibrate on; required.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Thresholder, as p98:percentile=99; p98 if not given, healthy-fp with --budget.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="False positives allowed: '1 lesion/scan', '0.5 ml/scan' or '1 % voxels' (for healthy-fp)."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the operating point; the strategy's if not given.")] = "",
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    output: Output = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
    trust: Trust = None,
    force: Force = False,
    overwrite: Overwrite = False,
) -> None:
    """Choose an operating point on healthy scans and store it in the checkpoint.

    Scans with known lesions count where they are lesion-free. The checkpoint itself is rewritten (weights unchanged)
    unless -o names another file. For a new site, give scans of that site the model was not trained on. The gate looks
    at every scan, as in segment: amber is a warning, red is left out.

    \b
    Examples:
      uadtk threshold --healthy ours.tsv --budget "1 lesion/scan" --name default -o ours.safetensors
      uadtk threshold --model mine.safetensors --healthy cohort.tsv --split validation
    """
    from uadtk import interface
    from uadtk.io.write import refuse_file
    from uadtk.pipeline.run import say
    from uadtk.pipeline.threshold import strategy_of

    spec = strategy_of(strategy, budget)
    missing = _missing(healthy, split, output, model, spec)
    if healthy is None or missing:
        words = ["uadtk threshold", *([] if model == DEFAULT_MODEL else ["--model", shown(model)])]
        words += [f'--strategy "{spec}"', "--healthy", "cohort.tsv" if healthy is None else shown(str(healthy))]
        words += [*(["--split", shown(split)] if split else []), *(["--name", shown(name)] if name else [])]
        words += ["-o", shown(str(output or "calibrated.safetensors"))]
        raise UsageError(f"missing: {'; '.join(missing)}", fix=f"For example: {' '.join(words)}")
    opened = interface.open(
        model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust, jobs=jobs, cluster=cluster
    )
    path = output or Path(opened.checkpoint.source)
    refuse_file(path, overwrite or output is None)
    point = opened.threshold(healthy, str(spec), None, name, split, force)
    opened.save(path, overwrite=True)
    facts = [f"{key} {value:.4g}" for key, value in point.measured.items() if not key.startswith("findings_")]
    if point.interval is not None:
        facts.append("interval {:.6g} to {:.6g}".format(*point.interval))
    usual = f"; lesion-free scans have {point.lesion_free}" if point.lesion_free else ""
    what = f"{point.target}; {point.scans} scans; {', '.join(facts)}{usual}"
    print(f"{shown(str(path))}: {point.name} = {point.threshold:.6g} ({what})")
    if "brain_counted" in point.measured:
        part = f"{point.measured['brain_counted']:.0%} of the brain"
        say(f"only lesion-free tissue was counted ({part}): any guarantee per scan holds for that part of it")
    if (usual := opened.checkpoint.usual_point) not in ("", point.name):
        say(f"segment takes '{usual}' unless it gets --point {shown(point.name)}; --name default changes that")


def _missing(healthy: Path | None, split: str, output: Path | None, model: str, strategy: Spec) -> list[str]:
    """Every requirement that is not met, as far as the command line shows."""
    from uadtk import registry
    from uadtk.checkpoint import SUFFIX
    from uadtk.core.run import Run
    from uadtk.pipeline.sources import chosen_rows
    from uadtk.pipeline.threshold import ready

    missing = []
    if healthy is None:
        needed = _subjects_needed(registry.build("thresholders", strategy))
        scans = f"scans of {needed} subjects or more" if needed > 1 else "scans"
        labelled = registry.load("thresholders", strategy.name).needs_lesions
        kind = "with lesion masks" if labelled else "without lesions, or with known ones"
        missing.append(f"--healthy, {scans} {kind} (a cohort.tsv, a BIDS tree or a folder)")
    if output is None and not model.endswith(SUFFIX):
        missing.append(f"-o, the checkpoint to write ('{shown(model)}' is not a file)")
        if healthy is not None:
            try:
                ready(strategy, chosen_rows(healthy, split, Run()))
            except UadtkError as error:
                missing.append(error.one_line().rstrip("."))
    return missing


def _subjects_needed(thresholder: Any) -> int:
    """The smallest number of subjects that the thresholder accepts."""

    def accepts(n: int) -> bool:
        try:
            thresholder.check_subjects(n)
        except UsageError:
            return False
        return True

    return next((n for n in range(1, 10_000) if accepts(n)), 1) if hasattr(thresholder, "check_subjects") else 1
