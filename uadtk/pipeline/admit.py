"""The gate before every use of a scan: segmentation, calibration, evaluation, training; and the gate on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import GateError, UsageError
from uadtk.core.finding import LIGHTS, Gate, Light
from uadtk.core.machine import BYTES_A_VOXEL, require_memory
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import Row, read_row
from uadtk.io.read import located
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import first_look, look, wanted_by


def prepare_admitted(
    scan: Scan,
    brain_mask: Mask | None,
    recipe: Preparation,
    statistics: Mapping[str, Any],
    run: Run,
    name: str = "",
) -> tuple[Prepared, Gate]:
    """Prepare a scan that the gate lets pass.

    ``name``: of its file. ``statistics``: of the scans that it should be like, those of the checkpoint's training.

    Raises
    ------
    GateError
        The gate shows a worse light than ``run.worst``.
    """
    first = first_admitted(scan, statistics, run, name)
    require_memory(math.prod(scan.shape) * BYTES_A_VOXEL, "processing it")
    prepared = prepare(scan, recipe, run, brain_mask)
    return prepared, admitted(scan, prepared.own_brain, first, statistics, run, name)


def first_admitted(scan: Scan, statistics: Mapping[str, Any], run: Run, name: str) -> Gate:
    """What can be seen before the brain is looked for. Raises GateError."""
    with run.stage("gate"):
        first = first_look(scan, name, wanted_by(statistics))
    admit(first, run, name)
    return first


def admitted(scan: Scan, brain: Mask, first: Gate, statistics: Mapping[str, Any], run: Run, name: str) -> Gate:
    """The gate of a scan with its brain. Raises GateError."""
    with run.stage("gate"):
        gate = look(scan, brain, first, statistics)
    admit(gate, run, name)
    return gate


def admit(gate: Gate, run: Run, name: str) -> None:
    """Raises GateError if the gate shows a worse light than ``run.worst``."""
    if LIGHTS.index(gate.light) <= LIGHTS.index(run.worst):
        return
    fix = "Is it the right file? --force uses it all the same."
    error = GateError(gate.one_line(), name, fix if gate.light == "red" else "Without --strict this is a warning.")
    error.light = gate.light
    raise error


def worst_light(strict: bool, force: bool) -> Light:
    """The worst light that passes: amber, green alone (``--strict``), or red too (``--force``)."""
    if strict and force:
        raise UsageError("strict and force ask for opposite things", fix="Give one of them.")
    return "green" if strict else "red" if force else "amber"


def warn(gate: Gate, name: str, run: Run) -> None:
    """One line about a scan that passed and is not green."""
    if gate.reasons:
        run.say(f"{name}: {gate.light}: {gate.one_line()}")


def inspect_file(row: Row, checkpoint: Checkpoint, run: Run) -> tuple[str, Gate]:
    """Where the brain mask is from ("" if the file alone is red), and what the gate sees. Raises as ``segment``."""
    statistics = checkpoint.statistics
    scan, brain_mask = read_row(row, run)
    with located(row.image):
        first = first_look(scan, str(row.image), wanted_by(statistics))
        if first.light == "red":
            return "", first
        brain, source = find_brain(scan, brain_mask)
        return source, look(scan, brain, first, statistics)
