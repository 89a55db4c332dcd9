"""From a scan to its score map: the path that both ``segment`` and ``threshold`` take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.finding import Scoring
from uadtk.core.model import capabilities, traits
from uadtk.core.run import Run
from uadtk.core.scorer import Scored, scorer_traits
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.kernels._box import bounding_box
from uadtk.networks.memory import keep_memory, return_memory
from uadtk.networks.seeded import seeded
from uadtk.pipeline.ensemble import members_of
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.background import background

Float = NDArray[np.float32]
SLICES_AT_ONCE = 32


@dataclass(frozen=True)
class Method:
    """A checkpoint with model, scorer and cleaners built, for use on many scans.

    ``models``: of each member of an ensemble; a single one otherwise. Pickled, it is the checkpoint alone: the process
    that receives it builds the others.
    """

    checkpoint: Checkpoint
    models: tuple[Any, ...]
    scorer: Any
    cleaners: tuple[Any, ...]
    device: str = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:
        return build_method, (self.checkpoint, Run(device=self.device))

    def score(self, x: Tensor, brain: Tensor, scorer: Any = None) -> Scored:
        """The scorer's result (or that of another scorer) on slices, its mean over the members of an ensemble."""
        found = [(scorer or self.scorer).score(model, x, brain) for model in self.models]
        if len(found) == 1:
            return found[0]  # type: ignore[no-any-return]
        maps = {name: torch.stack([one.maps[name] for one in found]).mean(0) for name in found[0].maps}
        return Scored(torch.stack([one.score for one in found]).mean(0), maps)


def build_method(checkpoint: Checkpoint, run: Run) -> Method:
    """Raises UsageError if the model lacks what the scorer needs."""
    keep_memory()
    scorer = registry.build("scorers", checkpoint.scorer)
    cleaners = tuple(registry.build("cleaners", spec) for spec in checkpoint.cleaners)
    models = tuple(member.build(run.device) for member in members_of(checkpoint))
    check_scorer(scorer, models[0], checkpoint)
    return Method(checkpoint, models, scorer, cleaners, run.device)


def check_untrained(checkpoint: Checkpoint) -> None:
    """Raises UsageError if the model lacks what the scorer needs, before it is trained."""
    with seeded(0):
        model = checkpoint.new_model()
    check_scorer(registry.build("scorers", checkpoint.scorer), model, checkpoint)


def packages_of(checkpoint: Checkpoint) -> dict[str, str]:
    """The packages that model, scorer and cleaners come from, by name, with the version that is installed."""
    whose = "" if checkpoint.dist == registry.OWN else f"{checkpoint.dist}/"
    used = [registry.find("models", whose + checkpoint.model), registry.find("scorers", checkpoint.scorer.name)]
    used += [registry.find("cleaners", spec.name) for spec in checkpoint.cleaners]
    return {one.dist: one.version for one in used}


def plugins_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Those of them that are not uadtk."""
    return {dist: version for dist, version in packages_of(checkpoint).items() if dist != registry.OWN}


def check_scorer(scorer: Any, model: Any, checkpoint: Checkpoint) -> None:
    """Raises UsageError if the model (class or instance) lacks a method that the scorer calls."""
    missing = set(scorer_traits(scorer).needs) - capabilities(model)
    if missing:
        raise UsageError(
            f"scorer '{checkpoint.scorer}' needs {', '.join(sorted(missing))}, "
            f"which model '{checkpoint.model}' does not provide",
            fix=f"It provides: {', '.join(sorted(capabilities(model)))}.",
        )


def score_map(scan: Scan, method: Method, run: Run, brain_mask: Mask | None = None) -> Scoring:
    """Prepare, score, clean, and bring everything back to the scan's own grid."""
    return score_prepared(scan, prepare(scan, method.checkpoint.preparation, run, brain_mask), method, run)


def score_prepared(scan: Scan, prepared: Prepared, method: Method, run: Run) -> Scoring:
    """The same for a scan that is prepared."""
    score, maps = score_slices(prepared, method, run)
    return_memory(scan.voxels.size)
    return on_own_grid(scan, prepared, score, maps, method, run)


def on_own_grid(
    scan: Scan, prepared: Prepared, score: Float, maps: Mapping[str, Float], method: Method, run: Run
) -> Scoring:
    """Score and maps of the slices, (n, side, side), brought back to the scan's own grid."""
    decisions = {**prepared.decisions, "arithmetic": traits(method.models[0]).arithmetic}
    with run.stage("return"):
        if "reconstruction" in maps:  # back to the scan's intensity
            maps = {**maps, "reconstruction": maps["reconstruction"] * np.float32(prepared.intensity)}
        own = {name: Volume(_in_brain(values, prepared), scan.affine) for name, values in maps.items()}
        if "reconstruction" in own and prepared.dark:
            own["reconstruction"] = _above_background(own["reconstruction"], prepared, scan)
        own_score = ScoreMap(_in_brain(score, prepared), scan.affine)
    return Scoring(scan, prepared.own_brain, prepared.brain_source, own_score, own, decisions)


def _in_brain(slices: Float, prepared: Prepared) -> Float:
    """On the scan's own grid, 0 outside the brain."""
    voxels = prepared.to_own_grid(slices)
    brain = prepared.own_brain.voxels
    # Around the brain's box there is nothing, unless the scan was registered.
    box = bounding_box(brain) if prepared.registration is None else ...
    np.copyto(voxels[box], 0, where=~brain[box] & (voxels[box] != 0))  # writing all would take memory for all
    return voxels


def reconstruction_error(prepared: Prepared, maps: Mapping[str, Float]) -> Float | None:
    """|x - x̂| of the slices, (n, side, side), with brain p98 = 1; None if the scorer makes no reconstruction."""
    if "reconstruction" not in maps:
        return None
    error: Float = np.abs(prepared.image - maps["reconstruction"]) * prepared.brain
    return error


def _above_background(image: Volume, prepared: Prepared, scan: Scan) -> Volume:
    """The pseudo-healthy image of a scan whose dark end is not 0, with the scan's background around the brain."""
    outside = np.float32(background(scan))
    voxels = np.where(prepared.own_brain.voxels, image.voxels + np.float32(prepared.dark), outside)
    return Volume(voxels, image.affine)


def score_slices(prepared: Prepared, method: Method, run: Run) -> tuple[Float, dict[str, Float]]:
    """Cleaned score, and maps, on the slices that the network sees, (n, side, side)."""
    score, maps = raw_slices(prepared, method, run)
    with run.stage("clean"):
        return cleaned(score, prepared, method.cleaners), maps


def raw_slices(prepared: Prepared, method: Method, run: Run) -> tuple[Float, dict[str, Float]]:
    """Score and maps before any cleaner, (n, side, side)."""

    def step() -> tuple[Float, dict[str, Float]]:
        with run.stage("network"):
            return _through_network(prepared, method, run)

    return run.turn(step)  # type: ignore[no-any-return]


def cleaned(score: Float, prepared: Prepared, cleaners: Sequence[Any]) -> Float:
    """The score (n, side, side) after all cleaners, applied in order."""
    for cleaner in cleaners:
        score = cleaner.clean(score, prepared.image, prepared.brain, prepared.spacing_mm)
    return score


def _through_network(prepared: Prepared, method: Method, run: Run) -> tuple[Float, dict[str, Float]]:
    image, brain = torch.from_numpy(prepared.image)[:, None], torch.from_numpy(prepared.brain)[:, None]
    at_once = len(image) if scorer_traits(method.scorer).whole_scan else SLICES_AT_ONCE
    reach = traits(method.models[0]).neighbours  # slices that a part shares with those before and after it
    scores, maps = [], []
    for start in range(0, len(image), at_once):
        low, high = max(0, start - reach), start + at_once + reach
        own = slice(start - low, start - low + at_once)
        x = image[low:high].to(run.device, memory_format=torch.channels_last)
        with torch.inference_mode(not scorer_traits(method.scorer).needs_gradient):
            scored = method.score(x, brain[low:high].to(run.device))
        scores.append(scored.score[own, 0].cpu())
        maps.append({name: values[own, 0].cpu() for name, values in scored.maps.items()})
    score = torch.cat(scores).numpy()
    if not np.isfinite(score).all():
        raise DataError("the model's score is not finite", fix="Check the scan's intensities and the checkpoint.")
    return score, {name: torch.cat([part[name] for part in maps]).numpy() for name in maps[0]}
