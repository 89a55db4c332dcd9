"""What ``uadtk segment`` prints while it works: a table for people, events for programs, or failures only."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from uadtk.core.errors import GateError, UadtkError
from uadtk.core.run import Run, silent, untracked
from uadtk.core.text import shown
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.results import HEADER, ScanState


class Reporter:
    """Reports scans called ``names``, which may change between cohorts.

    ``counts``: how many were done, failed, or were done before.
    """

    def __init__(self, run: Run, names: Sequence[str], form: Literal["table", "json", "quiet"]) -> None:
        self.run, self.names, self.form = run, names, form
        self.counts: Counter[str] = Counter()
        self._start = time.monotonic()
        self._point: dict[str, Any] = {}
        if form == "table":
            print(HEADER, flush=True)
        if form == "json":
            run.begun = self._begun
        if form == "quiet":
            run.say, run.track = silent, untracked

    def ended(self, state: ScanState, error: UadtkError | None) -> None:
        self.counts["before" if state.before else "done" if error is None else "failed"] += 1
        if error is None:
            self._point = state.provenance["options"]["point"]
        if self.form == "table":
            print(state.row(), flush=True)
        elif self.form == "json":
            self._event(**_ended(state, error))
        elif error is not None:
            print(f"{state.name}: failed: {error.one_line()}", file=sys.stderr, flush=True)

    def ended_alone(self, error: UadtkError) -> None:
        """The only scan has failed, and its error will end the command: for programs, an event as in a cohort."""
        if self.form == "json":
            self.counts["failed"] += 1
            self._event(event="failed", name=self.names[0], **_failed(error))
            self.finished()

    def finished(self) -> None:
        before, seconds = self.counts["before"], time.monotonic() - self._start
        if self.form == "json":
            counts = {key: self.counts[key] for key in ("done", "failed", "before")}
            self._event(event="finished", scans=self.counts.total(), **counts, seconds=round(seconds, 3))
            return
        if self._point and (usual := OperatingPoint.from_json(self._point).lesion_free):
            self.run.say(f"lesion-free scans have {usual}")
        if before:
            self.run.say(f"{before} of {self.counts.total()} were done before; --overwrite does them again")

    def _begun(self, place: int) -> None:
        self._event(event="started", name=self.names[place], place=place + 1, scans=len(self.names))

    def _event(self, **facts: Any) -> None:
        print(json.dumps(facts), flush=True)


def _failed(error: UadtkError) -> dict[str, Any]:
    light = error.light if isinstance(error, GateError) else ""
    return {"error": error.one_line(), "kind": type(error).__name__, "exit_code": error.exit_code, "light": light}


def _ended(state: ScanState, error: UadtkError | None) -> dict[str, Any]:
    if error is not None:
        return {"event": "failed", "name": state.name, **_failed(error)}
    seconds = state.provenance.get("seconds", {})
    return {
        "event": "done",
        "name": state.name,
        "image": state.image,
        "seconds": round(sum(seconds.values()), 3),
        "findings": state.findings,
        "volume_ml": state.volume_ml,
        "light": state.light,
        "before": state.before,
        "report": shown(str(state.files.get("report", ""))),
    }
