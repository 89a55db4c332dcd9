"""Options that several commands share, and the ``Run`` they make."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from uadtk.core.errors import BackendError, UsageError

if TYPE_CHECKING:
    from uadtk.checkpoint import Checkpoint
    from uadtk.core.run import Run

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads for torch; 0 is one per core.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Model = Annotated[str, typer.Option(help="A shipped model by name, or a checkpoint (.safetensors).")]
Scorer = Annotated[str | None, typer.Option(help="name:option=value,... in place of the checkpoint's scorer.")]
Cleaner = Annotated[
    list[str] | None, typer.Option(help="In place of the checkpoint's cleaners; repeat it; 'none' for none.")
]
Grid = Annotated[
    Literal["native", "model"], typer.Option(help="The scan's own, or the study's: the slices the network sees.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Checkpoint to write.")]


def make_run(device: str = "auto", threads: int = 0, seed: int = 0) -> Run:
    """Device and threads chosen once; progress bars on a terminal, lines elsewhere.

    Of several processes that ``torchrun`` started each takes its own GPU or its share of the cores.
    """
    import torch

    from uadtk import registry
    from uadtk.core.machine import usable_cores
    from uadtk.core.run import Run

    for warning in registry.warnings():
        say(f"warning: {warning}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("no CUDA device is available", "--device cuda", "Use --device cpu.")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    here, beside = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if chosen == "cuda" and beside > 1:
        torch.cuda.set_device(here)
        chosen = f"cuda:{here}"
    torch.set_num_threads(threads or max(1, usable_cores() // beside))
    return Run(device=chosen, seed=seed, say=say, track=_track)


def leads() -> bool:
    """False in all but the first of the processes that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """A line for people."""
    if leads():
        print(line, file=sys.stderr, flush=True)


def open_method(model: str, scorer: str | None, cleaner: list[str] | None) -> Checkpoint:
    """The checkpoint, with scorer and cleaners replaced where the command says so."""
    from dataclasses import replace

    from uadtk.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(model)
    if scorer:
        checkpoint = replace(checkpoint, scorer=scorer)
    cleaners = chosen_cleaners(cleaner)
    return checkpoint if cleaners is None else replace(checkpoint, cleaners=cleaners)


def chosen_cleaners(cleaner: list[str] | None) -> tuple[str, ...] | None:
    """What ``--cleaner`` names, in order; None if it was not given."""
    return None if not cleaner else () if cleaner == ["none"] else tuple(cleaner)


def pairs(given: list[str] | None, option: str, meaning: str, example: str) -> dict[str, str]:
    """``A=B`` of an option that is repeated; ``meaning`` names the two. Raises UsageError."""
    for pair in given or []:
        if not all(pair.partition("=")):
            raise UsageError(f"'{pair}' is not {meaning}", option, f"Write {option} {example}.")
    return dict(pair.split("=", 1) for pair in given or [])


def refuse_checkpoint(path: Path, overwrite: bool) -> None:
    """Before any training: what it would write must not exist, unless it is a training that goes on."""
    from uadtk.checkpoint import SUFFIX
    from uadtk.training.resume import state_path

    if path.suffix != SUFFIX:
        raise UsageError(f"a checkpoint ends in {SUFFIX}", str(path))
    refuse_file(path, overwrite or state_path(path).exists())


def refuse_file(path: Path, overwrite: bool) -> None:
    """Before any work: the output must not exist, and must be writable."""
    from uadtk.io.write import refuse_existing

    refuse_existing([path], overwrite)
    if path.is_dir():
        raise UsageError("is a folder", str(path), "Name a file.")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UsageError("no such folder", str(parent), "Create it first.")
    if not os.access(parent, os.W_OK):
        raise UsageError("the folder is not writable", str(parent))


def _track(items: Iterable[Any], what: str) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=what, console=Console(stderr=True), transient=True)
