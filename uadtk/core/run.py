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


def _plain(items: Iterable[Any], _: str) -> Iterable[Any]:
    return items


@dataclass
class Run:
    """Settings and outputs of a run, apart from its data.

    ``say`` prints a line for the user (stderr); ``track`` wraps an iterable to show progress; ``timings`` collects the
    seconds per stage of the current scan. ``trust``: the part of a NIfTI header, sform or qform, to believe where they
    contradict each other. ``worst``: the worst light of the gate that a scan may have.
    """

    device: str = "cpu"
    seed: int = 0
    say: Callable[[str], None] = silent
    track: Callable[[Iterable[Any], str], Iterable[Any]] = _plain
    timings: dict[str, float] = field(default_factory=dict)
    trust: Literal["", "sform", "qform"] = ""
    worst: Light = "amber"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent in the block to ``timings[name]``."""
        start = perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + perf_counter() - start
