"""A model trained on a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.preparation import preparation_of
from uadtk.core.spec import Spec, parse_all
from uadtk.interface.opened import OpenModel, PathLike
from uadtk.pipeline.admit import worst_light
from uadtk.pipeline.run import make_run
from uadtk.pipeline.score import check_untrained
from uadtk.pipeline.sources import CohortLike, as_cohort
from uadtk.training.folds import By, Folds, train_folds
from uadtk.training.resume import refuse_checkpoint
from uadtk.training.train import Schedule, schedule_options
from uadtk.training.train import train as run_training


def train(
    model: str,
    cohort: CohortLike,
    output: PathLike,
    prepare: str = "",
    scorer: str | None = None,
    cleaners: Sequence[str] | None = None,
    minutes: float | None = None,
    slices: PathLike | None = None,
    folds: int | None = None,
    fold_by: By | None = None,
    device: str = "auto",
    threads: int = 0,
    jobs: int = 1,
    cluster: str = "",
    overwrite: bool = False,
    force: bool = False,
    log_to: Sequence[str] = (),
    **options: Any,
) -> OpenModel:
    """Train a model on the normal anatomy of a cohort and save it; an interrupted training resumes, bit-identically.

    Parameters
    ----------
    model
        A name of ``uadtk models``.
    output
        Checkpoint to write (``.safetensors``).
    prepare
        Preparation, as ``"side=256,denoise=yes"``; ``"thesis"``: that of the thesis, in SRI24 space.
    minutes
        Pause after this long; the same call resumes.
    slices, jobs, cluster
        Folder for prepared slices, shared between trainings; who prepares them, as in :func:`uadtk.open`.
    folds, fold_by
        Train this many times, each without a part of the subjects (or of ``site`` or ``collection``), and save the
        ensemble: it scores with the mean, and calibrates each of these subjects by the member that has not seen it.
    force
        Train on scans that the gate would refuse, too: of another contrast than most, or no scans of a brain.
    log_to
        Loggers that plugins bring, which are called after each epoch: ``["tensorboard"]``.
    **options
        Options of the model (``latent=64``) and of the schedule (``epochs=20``), as ``uadtk train MODEL --help`` lists.

    Raises
    ------
    UsageError
        No such model or option, or ``output`` exists or belongs to another training.
    DataError
        No scan can be used.
    """
    path = Path(output)
    refuse_checkpoint(path, overwrite)
    if fold_by and folds is None:
        raise UsageError("needs --folds", "--fold-by", "Add --folds 5.")
    shared = schedule_options(registry.load("models", model).Options)
    chosen = {field.name: options.pop(field.name) for field in shared if field.name in options}
    schedule = opts.build(Schedule, chosen, "training")
    recipe = preparation_of(prepare)
    specs = None if cleaners is None else parse_all(list(cleaners))
    fresh = checkpoints.new(model, options, recipe, Spec.parse(scorer) if scorer else None, specs)
    check_untrained(fresh)
    run = make_run(device, threads, schedule.seed, None, jobs, cluster)
    run = replace(run, worst=worst_light(False, force), log_to=tuple(log_to))
    cache = None if slices is None else Path(slices)
    table = as_cohort(cohort, run)
    if folds is not None:
        divided = Folds(folds, fold_by or "subject")
        return OpenModel(train_folds(fresh, table, schedule, divided, path, run, minutes, cache, overwrite), run)
    trained = run_training(fresh, table, schedule, path, run, minutes, cache)
    return OpenModel(trained, run)
