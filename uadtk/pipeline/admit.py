"""What passes the gate, and the gate on its own."""

from __future__ import annotations

from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import GateError, UsageError
from uadtk.core.finding import LIGHTS, Gate, Light
from uadtk.core.run import Run
from uadtk.io.cohort import Row, read_row
from uadtk.io.read import located
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import STATISTICS, first_look, look, wanted_by


def admit(gate: Gate, worst: Light, name: str) -> None:
    """Raises GateError if the gate shows a worse light than ``worst``."""
    if LIGHTS.index(gate.light) <= LIGHTS.index(worst):
        return
    fix = "Is it the right file? --force segments it all the same."
    error = GateError(gate.one_line(), name, fix if gate.light == "red" else "Without --strict this is a warning.")
    error.light = gate.light
    raise error


def warn(gate: Gate, name: str, run: Run) -> None:
    """One line about a scan that passed and is not green."""
    if gate.reasons:
        run.say(f"{name}: {gate.light}: {gate.one_line()}")


def inspect_file(row: Row, checkpoint: Checkpoint, run: Run) -> tuple[str, Gate]:
    """Where the brain mask is from ("" if the file alone is red), and what the gate sees. Raises as ``segment``."""
    statistics = checkpoint.training.get(STATISTICS, {})
    scan, brain_mask = read_row(row, run)
    with located(row.image):
        first = first_look(scan, str(row.image), wanted_by(statistics))
        if first.light == "red":
            return "", first
        brain, source = find_brain(scan, brain_mask)
        return source, look(scan, brain, first, statistics)


def worst_light(strict: bool, force: bool) -> Light:
    """The worst light of the gate that passes."""
    if strict and force:
        raise UsageError("strict and force ask for opposite things", fix="Give one of them.")
    return "green" if strict else "red" if force else "amber"
