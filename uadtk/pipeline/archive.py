"""A cohort into a folder: what is not done yet is done, and nothing else.

A scan is done if its manifest (``uadtk.io.results``) names the same input, checkpoint, operating point, options and
versions of the plugins that took part, and its files are as they were written. One that was done from other inputs or
with other options is done again, and that is reported. What somebody else wrote, or changed by hand, is never replaced
unless that is asked for (``overwrite``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uadtk import registry
from uadtk.core.errors import GateError, UadtkError, UsageError
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.cohort import Row
from uadtk.io.readers.dicom_files import series_at
from uadtk.io.results import (
    FAILURE,
    ScanState,
    altered,
    former_files,
    output_paths,
    read_scan,
    scan_place,
    series_in,
    with_place,
)
from uadtk.io.write import refuse_existing, refuse_folder, staged, write_json
from uadtk.pipeline.each import Outcome, as_error, each
from uadtk.pipeline.score import Method
from uadtk.pipeline.segment import Rules, recipe, segment_file
from uadtk.pipeline.sources import describe
from uadtk.preparation.registration import require_atlas
from uadtk.version import VERSION


def segment_cohort(
    rows: Sequence[Row],
    names: Sequence[str],
    method: Method,
    point: OperatingPoint,
    folder: Path,
    run: Run,
    rules: Rules,
    overwrite: bool,
    alone: bool | None = None,
) -> Iterator[Outcome[ScanState]]:
    """What ``folder`` then holds of every row, in files that begin with its name; failures are reported.

    Its record, ``<name>_failure.json``, is written unless it is ``alone`` (by default: the only row).
    """
    refuse_folder(folder)
    if run.space:
        require_atlas()
    alone = len(rows) == 1 if alone is None else alone
    wanted = json.loads(json.dumps(recipe(method, point, rules, run)))  # as it is read from a manifest
    work = _Work(tuple(names), method, point, folder, rules, wanted, overwrite, not alone)
    for outcome in each(rows, work, run, "segmenting", alone, overlap=True):
        if outcome.error is not None:
            registry.notify("uadtk_scan_failed", run.say, path=outcome.row.image, error=outcome.error)
        yield outcome


@dataclass(frozen=True)
class _Work:
    """Segments a row, unless it is done already."""

    names: tuple[str, ...]
    method: Method
    point: OperatingPoint
    folder: Path
    rules: Rules
    wanted: Mapping[str, Any]
    overwrite: bool
    recorded: bool

    def __call__(self, place: int, row: Row, run: Run) -> ScanState:
        name = self.names[place]
        run.timings.clear()
        try:
            before = read_scan(self.folder, name)
            if before is not None and before.provenance and not self.overwrite:
                changes = self._changes(before, row)
                if before.status == "done" and not changes:
                    return replace(before, before=True)
                run.say(f"{name}: done again: {before.error or 'other ' + ', '.join(changes)}")
            mine, outputs = set(former_files(self.folder, name)), output_paths(self.folder, name).values()
            refuse_existing((path for path in outputs if path not in mine), self.overwrite)
            with registry.staying():
                segment_file(row, name, self.method, self.point, self.folder, run, self.rules, overwrite=True)
        except Exception as error:
            self._record(name, row, as_error(error, str(row.image)))
            raise
        return read_scan(self.folder, name)  # type: ignore[return-value]

    def _changes(self, before: ScanState, row: Row) -> list[str]:
        """How what is asked for differs from what was done. Raises UsageError if files are not ours to replace."""
        source, done = describe(row), before.provenance.get("input", {})
        places = {done.get("absolute", source["absolute"]), str(scan_place(self.folder, done))}
        moved = source["sha256"] != done.get("sha256") and source["absolute"] not in places
        if moved and not (source.get("series") and source["series"] == series_in(done)):
            what, fix = f"hold the result of another scan ({before.image})", "Choose another folder, or --overwrite."
            raise UsageError(what, f"{self.folder / before.name}_*", fix)
        if edited := altered(before):
            what, fix = "was changed after uadtk wrote it", "Pass --overwrite to replace it."
            raise UsageError(what, str(self.folder / edited[0]), fix)
        now, then = _facts({"input": source, **self.wanted}), _facts(before.provenance)
        return [name for name in now if now[name] != then[name]]

    def _record(self, name: str, row: Row, error: UadtkError) -> None:
        """What says nothing about the scan (a full disk, a file in the way) is not a failure of it."""
        if not self.recorded or error.stops_run or isinstance(error, UsageError):
            return
        source = {"path": str(row.image), "absolute": os.path.abspath(row.image), "subject": row.subject}
        record = {
            "versions": {"uadtk": VERSION},
            "input": {**with_place(source, self.folder), **_series_of(row)},
            "error": error.one_line(),
            "kind": type(error).__name__,
            "exit_code": error.exit_code,
            "light": error.light if isinstance(error, GateError) else "",
        }
        with staged(self.folder, overwrite=True) as stage:
            write_json(stage / f"{name}_{FAILURE}", record)


def _series_of(row: Row) -> dict[str, str]:
    try:
        series = series_at(row.image)
    except (OSError, UadtkError):
        return {}
    return {"series": series} if series else {}


def _facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What a result depends on, under the names that people know."""

    def part(*keys: str) -> Any:
        value: Any = provenance
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    options = ("model", "preparation", "scorer", "cleaners", "rules", "worst_light", "trust", "dicom", "space")
    return {
        "scan": part("input", "sha256"),
        "brain mask": part("input", "brain_mask_sha256"),
        "reader plugins": part("input", "readers"),
        "checkpoint": part("checkpoint", "digest"),
        "plugin versions": part("plugins"),
        "operating point": [part("options", "point", key) for key in ("name", "threshold", "min_voxels", "min_ml")],
        "options": [part("options", key) for key in options],
    }
