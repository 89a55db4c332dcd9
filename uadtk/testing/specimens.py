"""Synthetic specimens for contract checks: brain slices, score volumes, calibration scans, and an ideal model.

All are deterministic; nothing is read from disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uadtk.core.model import Batch
from uadtk.core.thresholder import CalibrationScan

LESION = 1.6  # normal tissue stays below 1


def healthy_slices(n: int, side: int) -> Batch:
    """``n`` axial slices (n, 1, side, side): grey matter around white matter, dark ventricles, smooth texture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    images, brains = [], []
    for _ in range(n):
        tall, wide, turn = rng.uniform(0.75, 0.85), rng.uniform(0.6, 0.7), rng.uniform(-0.1, 0.1)
        v, u = (y + turn * x) / tall, (x - turn * y) / wide
        radius = np.hypot(v, u)
        image = np.where(radius < 0.8, 0.6, 0.8)
        image[np.hypot(v / 0.3, (np.abs(u) - 0.15) / 0.1) < 1] = 0.25
        waves = np.sin(6 * y + rng.uniform(0, 6)) * np.sin(5 * x + rng.uniform(0, 6))
        images.append((image + 0.05 * waves) * (radius < 1))
        brains.append(radius < 1)
    brain = torch.from_numpy(np.stack(brains))[:, None]
    slices = torch.from_numpy(np.stack(images).astype(np.float32))[:, None]
    return Batch(slices, brain, torch.ones_like(brain))


def planted(healthy: Batch) -> tuple[Tensor, Tensor]:
    """The slices with one bright disc each, and the masks of the discs (bool)."""
    n, _, side, _ = healthy.image.shape
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    places = [(0.45 * np.sin(2.4 * k), 0.4 * np.cos(2.4 * k)) for k in range(n)]
    discs = np.stack([np.hypot(y - v, x - u) < 0.12 for v, u in places])[:, None]
    lesion = torch.from_numpy(discs) & healthy.brain
    return torch.where(lesion, torch.tensor(LESION), healthy.image), lesion


@dataclass(frozen=True)
class Stack:
    """Input of a cleaner for one scan, all (z, y, x): score >= 0, prepared image, brain, and the lesion."""

    score: NDArray[np.float32]
    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def score_stack() -> Stack:
    """Low scores throughout the brain, and one bright lesion with score 1."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[-1:1:12j, -1:1:32j, -1:1:32j]
    brain = (z**2 + (y / 0.8) ** 2 + (x / 0.7) ** 2) < 1
    lesion = (z**2 + (y - 0.1) ** 2 + x**2) < 0.2
    score = np.where(lesion, 1.0, rng.gamma(2.0, 0.05, brain.shape)) * brain
    image = np.where(lesion, LESION, rng.uniform(0.4, 0.9, brain.shape)) * brain
    return Stack(score.astype(np.float32), image.astype(np.float32), brain, lesion)


def calibration_scans(factor: float = 1.0, lesions: bool = False) -> list[CalibrationScan]:
    """Three scored scans (x, y, z), optionally with labelled lesions that score high; ``factor`` scales the scores."""
    scans = []
    for k in range(3):
        rng = np.random.default_rng(k)
        x, y, z = np.mgrid[-1:1:24j, -1:1:24j, -1 : 1 : (10 + k) * 1j]
        brain = (x**2 + y**2 + z**2) < 0.9
        score = rng.gamma(2.0, 0.05, brain.shape) * brain
        lesion = ((x - 0.2 * k) ** 2 + y**2 + z**2) < 0.05
        if lesions:
            score += 0.6 * lesion
        scaled = (score * factor).astype(np.float32)
        scans.append(CalibrationScan(f"subject-{k}", scaled, brain, lesion if lesions else None, 0.008))
    return scans


@dataclass(frozen=True)
class _Nothing:
    pass


class IdealModel(nn.Module):
    """Assumes that normal tissue stays below 1, and has only the given ``methods`` of those that a scorer may call.

    Its results outside the brain are not zero, and ``sample`` draws from torch's global generator.
    """

    Options = _Nothing

    def __init__(self, methods: tuple[str, ...]) -> None:
        super().__init__()
        for name in methods:
            setattr(self, name, getattr(self, f"_{name}"))

    def _reconstruct(self, x: Tensor) -> Tensor:
        return x.clamp(max=1) - 0.05

    def _sample(self, x: Tensor, n: int) -> Tensor:
        return self._reconstruct(x) + 0.01 * torch.randn(n, *x.shape, device=x.device)

    def _objective(self, x: Tensor) -> Tensor:
        return (x - 0.95).clamp(min=0).square().flatten(1).sum(1)

    def _score(self, x: Tensor, brain: Tensor) -> Tensor:
        return (x - 0.95).clamp(min=0) * brain

    def _training_loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._objective(batch.image).mean()}
