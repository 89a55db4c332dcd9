"""Implants: a U-Net that learns to find lesions that were implanted into tissue without any.

No annotation is a target: every slice gets the appearance of another head and scanner and, for most, implants of drawn
size, contrast and sharpness (``uadtk.networks.lessons`` and what it uses, where the papers are named). Known lesions
and a rim around them are left out of the loss. ``shapes`` lends half of the implants the outlines of real lesions, and
nothing else of them. The score is the probability, averaged over the slice and its mirror image. Loss: cross-entropy +
half of 1 - soft DICE.

As in *Many Tasks Make Light Work* (Baugh et al. 2023), held-out slices have other kinds of implants than those trained
on, so that which weights are kept is decided by anomalies never trained on, and never by a lesion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from uadtk.api import Batch, UsageError, option
from uadtk.networks.lessons import JUDGED, LEARNED, lesson
from uadtk.networks.segmentation import cross_entropy, soft_dice_loss
from uadtk.networks.unet import UNet

AT_ONCE = 32  # slices
RARE = -3.0  # logit of a lesion before anything is learned


@dataclass(frozen=True)
class Options:
    width: int = option(16, "Channels at full size; twice as many at each halving.", ge=1, le=256)
    depth: int = option(4, "Resolutions.", ge=1, le=6)
    shapes: str = option("", "Outlines for half of the implants: .npy file of masks (N, h, w) in [0, 1].")
    field_mm: float = option(208.0, "Field of view of the slices (the preparation's), for sizes in mm.", ge=50, le=400)


class Model(nn.Module):
    Options = Options
    cleaners = ("prior:power=1",)  # rank and probability know different things; a median would take small lesions out
    betas = (0.9, 0.999)

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.shapes: Tensor | None = None  # read by the first lesson: a trained model does without
        self.pixel_mm = options.field_mm / side
        self.net = UNet(side, 1, 1, options.depth, options.width)
        nn.init.constant_(self.net.out.bias, RARE)  # type: ignore[arg-type]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of randomised slices with implants; on held-out slices with other kinds of implants."""
        if self.options.shapes and self.shapes is None:
            self.shapes = _read_shapes(self.options.shapes, batch.image.device)
        taught = lesson(batch, self.pixel_mm, LEARNED if self.training else JUDGED, self.shapes)
        logits = self.net(taught.image)
        entropy, dice = (f(logits, taught.target, taught.counts) for f in (cross_entropy, soft_dice_loss))
        return {"loss": entropy + 0.5 * dice, "cross_entropy": entropy, "dice": dice}

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        return torch.cat([self._probability(part) for part in (x * brain).split(AT_ONCE)]) * brain

    def _probability(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x) + self.net(x.flip(3)).flip(3)
        return (logits / 2).sigmoid()


def _read_shapes(path: str, device: torch.device) -> Tensor:
    try:
        shapes = torch.from_numpy(np.load(path).astype(np.float32)).to(device)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read ({error})", path, "--shapes takes a .npy file.") from None
    if shapes.ndim != 3 or not len(shapes) or shapes.min() < 0 or shapes.max() > 1:
        raise UsageError(f"shape {tuple(shapes.shape)} is not masks (N, h, w) in [0, 1]", path)
    return shapes
