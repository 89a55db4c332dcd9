"""Several checkpoints that were trained alike, each without a part of the subjects, as one: their mean score.

An ensemble is a checkpoint like any other. Tensor ``name`` of its second member is stored as ``1/name``. Its training
facts list, under ``folds``, how each member's training went, and the subjects that it has not seen (``held``, without
``sub-``). Model, preparation, scorer, cleaners and operating points are stored once: members cannot differ in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from uadtk.checkpoint import FOLDS, STATISTICS, Checkpoint, pack_tensors
from uadtk.core.errors import CheckpointError
from uadtk.io.cohort import Cohort, Row
from uadtk.preparation.gate import united

_PER_FOLD = ("epochs", "best_epoch", "best_validation_loss", "slices", "scans", "gate")


def ensemble_of(members: Sequence[Checkpoint], held: Sequence[Sequence[str]], by: str) -> Checkpoint:
    """One checkpoint of all; ``held``: subjects that each has not seen; ``by``: the column they were chosen by."""
    from safetensors.torch import load

    tensors = {f"{n}/{name}": t for n, one in enumerate(members) for name, t in load(one.weights).items()}
    first = members[0].training
    facts = {key: value for key, value in first.items() if key not in (*_PER_FOLD, STATISTICS, "cohort_digest")}
    facts[FOLDS] = [
        {"held": list(subjects), **{key: one.training[key] for key in _PER_FOLD}}
        for one, subjects in zip(members, held, strict=True)
    ]
    facts |= {"fold_by": by, STATISTICS: united([one.statistics for one in members])}
    return replace(members[0], weights=pack_tensors(tensors), training=facts)


def members_of(checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
    """Its members, without operating points; of a checkpoint that is no ensemble, the checkpoint itself.

    Raises
    ------
    CheckpointError
        The weights are not those of the members that it names.
    """
    folds = checkpoint.training.get(FOLDS, [])
    if not folds:
        return (checkpoint,)
    from safetensors.torch import load

    parts: list[dict[str, Any]] = [{} for _ in folds]
    for name, tensor in load(checkpoint.weights).items():
        number, _, own = name.partition("/")
        if not number.isdecimal() or int(number) >= len(parts):
            raise CheckpointError(f"tensor '{name}' belongs to none of its {len(parts)} members", checkpoint.source)
        parts[int(number)][own] = tensor
    facts = {key: value for key, value in checkpoint.training.items() if key != FOLDS}
    return tuple(replace(checkpoint, weights=pack_tensors(part), training=facts, points=()) for part in parts)


def unseen_parts(checkpoint: Checkpoint, cohort: Cohort) -> list[tuple[Checkpoint, Cohort]]:
    """Each scan with the member that was trained without its subject; those of other subjects with the whole."""
    member_without = {
        subject: n for n, fold in enumerate(checkpoint.training.get(FOLDS, [])) for subject in fold["held"]
    }
    parts: dict[int, list[Row]] = {}
    for row in cohort:
        parts.setdefault(member_without.get(row.subject.removeprefix("sub-"), -1), []).append(row)
    choices = (*members_of(checkpoint), checkpoint) if set(parts) != {-1} else (checkpoint,)
    return [(choices[n], Cohort(tuple(rows), cohort.source)) for n, rows in sorted(parts.items())]
