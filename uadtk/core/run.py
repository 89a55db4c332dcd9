"""The only object passed for side effects: device, seed, progress, messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from uadtk.core.finding import Light

T = TypeVar("T")


def silent(_: str) -> None:
    pass


def untracked(items: Iterable[Any], _: str) -> Iterable[Any]:
    return items


def _unheard(_: int) -> None:
    pass


def at_once(step: Callable[[], Any]) -> Any:
    return step()


@dataclass
class Run:
    """Settings and outputs of a run, apart from its data.

    ``say`` prints a line for the user (stderr); ``track`` wraps an iterable to show progress; ``timings`` collects the
    seconds per stage of the current scan. ``trust``: the part of a NIfTI header, sform or qform, to use where they
    contradict each other. ``worst``: the worst light of the gate that a scan may have. ``dicom``: DICOM objects to
    write beside the NIfTI files. ``space``: the atlas in whose space results are written, too. ``log_to``: loggers of a
    training.

    The scans of a cohort are done by this process, by ``jobs`` processes of this machine, or by the workers of a Dask
    ``cluster`` (the address of its scheduler, or ``local``); ``begun`` is called with the index of each when it starts.
    ``turn`` runs a step that scans of one process must not run at the same time: the network, or code for one thread.
    """

    device: str = "cpu"
    seed: int = 0
    say: Callable[[str], None] = silent
    track: Callable[[Iterable[Any], str], Iterable[Any]] = untracked
    timings: dict[str, float] = field(default_factory=dict)
    trust: Literal["", "sform", "qform"] = ""
    jobs: int = 1
    cluster: str = ""
    begun: Callable[[int], None] = _unheard
    turn: Callable[[Callable[[], Any]], Any] = at_once
    worst: Light = "amber"
    dicom: tuple[Literal["seg", "sr", "sc"], ...] = ()
    space: Literal["", "MNI"] = ""
    log_to: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The fields that another process needs to make the same run."""
        names = ("device", "seed", "trust", "worst", "dicom", "space")
        return {name: getattr(self, name) for name in names}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent in the block to ``timings[name]``."""
        start = perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + perf_counter() - start
