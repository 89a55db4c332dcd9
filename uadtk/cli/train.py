"""Train a model on the normal anatomy of a cohort."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from uadtk.cli._lazy import Children, LazyGroup, group, parameter, with_parameters
from uadtk.cli._options import (
    Cleaner,
    Cluster,
    Device,
    Force,
    Jobs,
    Minutes,
    Overwrite,
    Scorer,
    Threads,
    chosen_cleaners,
)
from uadtk.core.errors import UsageError


class Models(LazyGroup):
    """One subcommand per model, ours and the plugins'; a model's file is imported when it is named."""

    what = "model"

    def own(self) -> Children:
        from uadtk import registry

        return {name: (r.entry.summary, partial(_command, name)) for name, r in registry.own("models").items()}

    def third_party(self) -> Children:
        """By name, and by ``dist/name`` where several offer it."""
        from uadtk import registry

        offered = registry.entries("models")
        often = Counter(r.entry.name for r in offered)
        named = {
            r.entry.name if often[r.entry.name] == 1 else f"{r.dist}/{r.entry.name}": r
            for r in offered
            if r.dist != registry.OWN
        }
        return {name: (r.entry.summary, partial(_command, name)) for name, r in named.items()}


def _callback() -> None:
    """Train a model on the normal anatomy of a cohort: uadtk train MODEL COHORT -o model.safetensors"""


train = group(Models, "train", _callback)


def _settings(
    cohort: Annotated[Path, typer.Argument(help="cohort.tsv, a BIDS tree, a folder or a scan.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write (.safetensors).")],
    prepare: Annotated[
        str,
        typer.Option(
            "--prepare",
            "--preparation",
            help="Preparation, as side=256,denoise=yes,n4=yes,register=affine; thesis: as there, in SRI24 space.",
        ),
    ] = "",
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    minutes: Minutes = None,
    slices: Annotated[
        Path | None, typer.Option(help="Folder for prepared slices, to share them between trainings on the same scans.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, max=100, help="Train this many times, each without one part; save the ensemble."),
    ] = None,
    fold_by: Annotated[
        Literal["subject", "site", "collection"] | None,
        typer.Option(help="Column of the cohort whose values stay together in a fold; default: subject."),
    ] = None,
    log_to: Annotated[
        list[str] | None,
        typer.Option(help="Send each epoch there, too: tensorboard, mlflow, ... of a plugin. Repeatable."),
    ] = None,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
    force: Force = False,
    overwrite: Overwrite = False,
) -> None: ...


def _command(name: str) -> Callable[..., Any]:
    """The training command of one model, with the model's own options as native options."""
    from uadtk import registry
    from uadtk.core.options import fields
    from uadtk.training.train import schedule_options

    cls = registry.load("models", name)
    own = [parameter(field) for field in fields(cls.Options)]
    schedule = [parameter(field) for field in schedule_options(cls.Options)]
    shared = list(inspect.signature(_settings, eval_str=True).parameters.values())
    taken = {p.name for p in [*schedule, *shared]}
    clash = sorted(taken & {p.name for p in own})
    if clash:
        raise UsageError(f"model '{name}' has options that training has too: {', '.join(clash)}")
    required = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shared]
    example = f"\b\nExample:\n  uadtk train {name} cohort.tsv -o {name}.safetensors"
    help = f"Train {registry.find('models', name).entry.summary}\n\n{example}"
    return with_parameters(partial(_train, name), name, help, [*required, *own, *schedule])


def _train(
    name: str, cohort: Path, output: Path, cleaner: list[str] | None, log_to: list[str] | None, **values: Any
) -> None:
    from uadtk import interface
    from uadtk.pipeline.run import leads

    trained = interface.train(name, cohort, output, cleaners=chosen_cleaners(cleaner), log_to=log_to or (), **values)
    if leads():
        state = "" if trained.checkpoint.training["finished"] else " (paused: repeat the command to resume)"
        print(f"{output}{state}")
