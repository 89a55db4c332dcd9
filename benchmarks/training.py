"""A training step: what norms cost, what the loader and implants cost, and a plain Lightning + MONAI script beside it.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--repeat 3] [--steps 24] [--plain]

Processor seconds on one thread, the least of a few that take turns; 16 slices of 128 pixels, 16 channels.

* ``norms``: forward and backward pass of the U-Net beside the same without norms, and with torch's own.
* ``shares``: of a step of ``implant`` (bfloat16, as its weights were trained), what reading the batch and making
  lessons take; of one of ``unet``, reading and augmentation.
* ``--plain`` (pip install lightning monai): the same network, loss, data and optimiser in a LightningModule, with
  MONAI's dataset, transforms and loader and torch's memory format and norms, for as many steps as ours.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from uadtk.core.model import Batch
from uadtk.core.preparation import Preparation
from uadtk.models import implant, unet
from uadtk.networks.augment import augmented
from uadtk.networks.lessons import LEARNED, lesson
from uadtk.networks.memory import keep_memory
from uadtk.networks.seeded import seeded
from uadtk.networks.segmentation import cross_entropy, soft_dice_loss
from uadtk.networks.unet import UNet, group_norm
from uadtk.training.optimisers import make_optimisers, take_turns, turns_of
from uadtk.training.slices import BRAIN, KNOWN, LESION, NORMAL, Slices

SIDE, BATCH, WIDTH, RATE, SLICES = 128, 16, 16, 1e-3, 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    for line in [*norms(arguments.repeat), "", *shares(arguments.repeat)]:
        print(line, flush=True)
    if arguments.plain:
        for line in beside_plain(arguments.steps):
            print(line, flush=True)


def torchs_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def norms(repeat: int) -> list[str]:
    """The step with each kind of norm as a multiple of that without."""
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "none": lambda _: nn.Identity(),
        "uadtk": group_norm,
        "torch": torchs_norm,
    }
    nets = {name: UNet(SIDE, 1, 1, 4, WIDTH, norm) for name, norm in kinds.items()}
    for net in nets.values():
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(BATCH, 1, SIDE, SIDE)
    found = ["| arithmetic | without norms, s | uadtk's | torch's, channels-last |", "|---|---|---|---|"]
    for arithmetic in (torch.float32, torch.bfloat16):
        taken = least({name: partial(step, net, x, arithmetic) for name, net in nets.items()}, repeat)
        ratios = " | ".join(f"{taken[name] / taken['none']:.2f}" for name in ("uadtk", "torch"))
        found.append(f"| {str(arithmetic).removeprefix('torch.')} | {taken['none']:.3f} | {ratios} |")
    return found


def step(net: nn.Module, x: torch.Tensor, arithmetic: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == torch.bfloat16):
        y = net(x)
    y.float().square().mean().backward()


def shares(repeat: int) -> list[str]:
    slices, rows = made(), np.arange(BATCH)
    model = implant.Model(implant.Options(width=WIDTH), SIDE).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labels = unet.Model(unet.Options(width=WIDTH), SIDE).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = slices.batch(rows, "cpu")

    def implants() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.training_loss(slices.batch(rows, "cpu"))["loss"]
        loss.backward()

    parts: dict[str, Callable[[], Any]] = {
        "read": lambda: slices.batch(rows, "cpu"),
        "lesson": lambda: lesson(batch, model.pixel_mm, LEARNED, None),
        "augment": lambda: augmented(batch),
        "implant": implants,
        "unet": lambda: labels.training_loss(augmented(slices.batch(rows, "cpu")))["loss"].backward(),
    }
    s = least(parts, repeat)
    return [
        f"implant: a step {s['implant']:.3f} s, of which reading {s['read'] / s['implant']:.1%} and lessons "
        f"{s['lesson'] / s['implant']:.0%}",
        f"unet, float32: a step {s['unet']:.3f} s, of which reading {s['read'] / s['unet']:.1%} and augmentation "
        f"{s['augment'] / s['unet']:.0%}",
    ]


def least(works: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """The least seconds of each; they take turns after a first round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            taken[name].append(time.process_time() - start)
    return {name: min(own[1:]) for name, own in taken.items()}


def made() -> Slices:
    """Discs of brain, two thirds of them with a bright spot."""
    rng, at = np.random.default_rng(0), np.linspace(-1, 1, SIDE, dtype=np.float32)
    y, x = at[:, None], at[None]
    brain = x**2 / 0.6 + y**2 / 0.8 < 1
    images, masks = [], []
    for number in range(SLICES):
        image = 0.6 + 0.05 * rng.standard_normal((SIDE, SIDE), dtype=np.float32) + 0.1 * np.cos(4 * x + number)
        centre, radius = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.05, 0.2)
        lesion = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2) & brain & bool(number % 3)
        images.append(np.where(brain, image + 0.35 * lesion, 0).astype(np.float32))
        masks.append(brain * BRAIN | ~lesion * NORMAL | lesion * LESION | np.full_like(brain, KNOWN, np.uint8))
    about = np.zeros((SLICES, 3), np.int32)
    return Slices(np.stack(images), np.stack(masks).astype(np.uint8), 1, about, Preparation().pixel_mm)


def beside_plain(steps: int) -> list[str]:
    """Ours, in both arithmetics, and theirs, from the same weights on the same slices; drawn in other orders."""
    slices = made()
    with seeded(0):
        model: Any = unet.Model(unet.Options(width=WIDTH, dropout=0.0), SIDE)
    weights = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    runs = {}
    for precision in ("float32", "bfloat16"):
        model.net.load_state_dict(weights)
        runs[f"uadtk, {precision}"] = _ours(model, slices, steps, precision)
    runs["Lightning + MONAI, float32"] = _theirs(weights, slices, steps)
    found = ["", "| mean loss of | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for start in range(0, steps, steps // 4):
        part = slice(start, start + steps // 4)
        means = " | ".join(f"{np.mean(losses[part]):.3f}" for losses, _ in runs.values())
        found.append(f"| steps {start + 1} to {start + steps // 4} | {means} |")
    rates = " | ".join(f"{BATCH * steps / seconds:.1f}" for _, seconds in runs.values())
    return [*found, f"| slices per second | {rates} |"]


def _ours(model: Any, slices: Slices, steps: int, precision: str) -> tuple[list[float], float]:
    model.train().to(memory_format=torch.channels_last)
    optimisers, rng, losses = make_optimisers(model, RATE), np.random.default_rng(0), []

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model.training_loss(batch)  # type: ignore[no-any-return]

    turns = [replace(turn, loss=loss) for turn in turns_of(model, 1)]
    start = time.process_time()
    for _ in range(steps):
        batch = augmented(slices.batch(rng.choice(len(slices), BATCH, replace=False), "cpu"))
        losses.append(float(take_turns(turns, optimisers, [batch], 1.0, None)["loss"]))
    return losses, time.process_time() - start


def _theirs(weights: dict[str, torch.Tensor], slices: Slices, steps: int) -> tuple[list[float], float]:
    import lightning
    from monai import data, transforms

    keys = ("image", "brain", "lesion")
    items = [
        {"image": image[None], "brain": (bits[None] & BRAIN > 0) * 1.0, "lesion": (bits[None] & LESION > 0) * 1.0}
        for image, bits in zip(slices.image, slices.masks, strict=True)
    ]
    mode = ("bilinear", "nearest", "nearest")
    drawn = transforms.Compose(
        [
            transforms.RandFlipd(keys, prob=0.5, spatial_axis=1),
            transforms.RandAffined(
                keys,
                prob=1.0,
                rotate_range=0.14,
                translate_range=0.04 * SIDE,
                scale_range=(0.08, 0.08),
                mode=mode,
                padding_mode="zeros",
            ),
            transforms.RandAdjustContrastd("image", prob=1.0, gamma=(0.85, 1.15)),
        ]
    )
    loader = data.DataLoader(data.Dataset(items, drawn), batch_size=BATCH, shuffle=True)
    losses: list[float] = []

    class Plain(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = UNet(SIDE, 1, 1, 4, WIDTH, torchs_norm)
            self.net.load_state_dict(weights)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            brain, lesion = (batch[key].as_tensor() > 0.5 for key in ("brain", "lesion"))
            logits = self.net(batch["image"].as_tensor() * brain)
            loss = soft_dice_loss(logits, lesion, brain) + cross_entropy(logits, lesion, brain)
            losses.append(float(loss.detach()))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), RATE)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.process_time()
    trainer.fit(Plain(), loader)
    return losses, time.process_time() - start


if __name__ == "__main__":
    main()
