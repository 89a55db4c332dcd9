"""Train a student on a trained model's masks of unlabelled scans."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from uadtk.cli._lazy import parameter, with_parameters
from uadtk.cli._options import Cleaner, Cluster, Device, Jobs, Minutes, Overwrite, Threads, chosen_cleaners
from uadtk.core.errors import UsageError

# Fields of the schedule that are for models of normal anatomy alone.
_UNSUPERVISED = ("corruption", "masked", "trim", "discriminate", "trust")


def _settings(
    teacher: Annotated[str, typer.Argument(help="A shipped model by name, or a checkpoint (.safetensors).")],
    unlabelled: Annotated[Path, typer.Argument(help="Scans to be labelled: cohort.tsv, a BIDS tree, a folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write (.safetensors).")],
    labelled: Annotated[Path | None, typer.Option(help="Cohort with lesion masks, to learn from as well.")] = None,
    point: Annotated[str | None, typer.Option(help="Operating point of the teacher.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder for the teacher's labels.  [beside the output]")] = None,
    student: Annotated[str, typer.Option(help="A model that learns from labels: name:option=value,...")] = "unet",
    cleaner: Cleaner = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="The student of a round teaches the next.")] = 1,
    minutes: Minutes = None,
    slices: Annotated[Path | None, typer.Option(help="Folder for prepared slices.")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
    overwrite: Overwrite = False,
) -> None: ...


def __getattr__(name: str) -> Callable[..., Any]:
    """The command, built on first access: its options are those of training, which needs torch."""
    if name != "selfteach":
        raise AttributeError(name)
    from uadtk.core.options import fields
    from uadtk.training.pseudo_labels import Trust
    from uadtk.training.train import Schedule

    shared = inspect.signature(_settings, eval_str=True).parameters.values()
    chosen = [*fields(Trust), *(field for field in fields(Schedule) if field.name not in _UNSUPERVISED)]
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shared), *map(parameter, chosen)]
    return with_parameters(_selfteach, name, _HELP, parameters)


_HELP = """Train a student on a trained model's masks of unlabelled scans.

The teacher's masks are stored with a cohort.tsv, to inspect, correct, and train on with uadtk train unet.
Preparation is the teacher's, cleaners are the student's.

\b
Example:
  uadtk selfteach implant unlabelled.tsv -o student.safetensors --band 0.1
"""


def _selfteach(
    teacher: str,
    unlabelled: Path,
    output: Path,
    labelled: Path | None,
    point: str | None,
    labels: Path | None,
    student: str,
    cleaner: list[str] | None,
    rounds: int,
    minutes: float | None,
    slices: Path | None,
    device: str,
    threads: int,
    jobs: int,
    cluster: str,
    overwrite: bool,
    **values: Any,
) -> None:
    from uadtk import checkpoint as checkpoints
    from uadtk.core import options as opts
    from uadtk.core.spec import Spec, parse_all
    from uadtk.pipeline.run import make_run
    from uadtk.pipeline.sources import as_cohort
    from uadtk.training import selfteach as teaching
    from uadtk.training.pseudo_labels import Trust
    from uadtk.training.resume import refuse_checkpoint
    from uadtk.training.train import Schedule

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        fix = "Train on the labels of one that was paused: torchrun ... uadtk train unet LABELS/round-1/cohort.tsv."
        raise UsageError("runs in one process", "torchrun", fix)
    refuse_checkpoint(output, overwrite)
    trust = opts.build(Trust, {field.name: values.pop(field.name) for field in opts.fields(Trust)}, "selfteach")
    schedule = opts.build(Schedule, values, "training")
    opened = checkpoints.open_checkpoint(teacher)
    chosen, own, chain = opened.point(point), Spec.parse(student), chosen_cleaners(cleaner)
    fresh = checkpoints.new(own.name, own.values, opened.preparation, None, None if chain is None else parse_all(chain))
    run = make_run(device, threads, schedule.seed, None, jobs, cluster)
    lessons = teaching.lessons(
        as_cohort(unlabelled, run), as_cohort(labelled, run) if labelled is not None else None, schedule.seed
    )
    folder = labels or output.with_suffix(".labels")
    taught = teaching.selfteach(
        opened, chosen, fresh, lessons, trust, rounds, schedule, folder, output, run, minutes, slices, overwrite
    )
    state = "" if taught.training["finished"] else " (paused: repeat the command to resume)"
    print(f"{output}{state}")
