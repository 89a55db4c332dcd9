"""U-Net trained to find synthetic lesions implanted into lesion-free tissue.

No annotation is used as a target. Anatomy, contrast and acquisition of every slice are randomised, and most slices get
implants of random size, contrast and sharpness (``uadtk.networks.lessons`` and the modules it uses cite the papers).
Known lesions and a margin around them are excluded from the loss, which is cross-entropy + half of 1 - soft DICE. With
``shapes``, half of the implants take their outlines, and nothing else, from real lesions. The score is the probability
of an implant. Averaging with that of the mirror image would take twice as long; on validation it gained 0.03 AUPRC on
thick-slice MS and nothing elsewhere.

As in *Many Tasks Make Light Work* (Baugh et al. 2023), held-out slices get other kinds of implants than training
slices: weights are selected by anomalies never trained on, and never by a real lesion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from uadtk.networks.arithmetic import fast_bfloat16
from uadtk.networks.arrays import read_array
from uadtk.networks.lessons import JUDGED, LEARNED, lesson
from uadtk.networks.segmentation import cross_entropy, soft_dice_loss
from uadtk.networks.unet import UNet
from uadtk.plugin import Batch, UsageError, option

AT_ONCE = 32  # slices
RARE = -3.0  # initial logit of lesion


@dataclass(frozen=True)
class Options:
    width: int = option(16, "Channels at full resolution, doubled at each halving.", ge=1, le=256)
    depth: int = option(4, "Number of resolutions.", ge=1, le=6)
    shapes: str = option("", "Outlines of half of the implants: .npy file of masks (N, h, w) in [0, 1].")
    arithmetic: Literal["bfloat16", "float32"] = option(
        "bfloat16", "Arithmetic of scoring; bfloat16 only where the machine computes it fast."
    )
    field_mm: float = option(208.0, "Field of view of a slice in mm: that of the preparation.", ge=50, le=400)


class Model(nn.Module):
    Options = Options
    cleaners = ("fill", "prior:power=32,smooth_mm=2,large_mm=8,rim_mm=10", "crest:low=0.01,share=0.85")  # as shipped
    betas = (0.9, 0.999)

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.shapes: Tensor | None = None  # read before the first step; not needed to score
        self.pixel_mm = options.field_mm / side
        self.net = UNet(side, 1, 1, options.depth, options.width)
        nn.init.constant_(self.net.out.bias, RARE)  # type: ignore[arg-type]
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """On randomised slices with implants; held-out slices get other kinds of implants."""
        if self.options.shapes and self.shapes is None:
            self.shapes = _read_shapes(self.options.shapes, batch.image.device)
        taught = lesson(batch, self.pixel_mm, LEARNED if self.training else JUDGED, self.shapes)
        logits = self.net(taught.image)
        entropy, dice = (f(logits, taught.target, taught.counts) for f in (cross_entropy, soft_dice_loss))
        return {"loss": entropy + 0.5 * dice, "cross_entropy": entropy, "dice": dice}

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        return torch.cat([self._probability(part) for part in (x * brain).split(AT_ONCE)]) * brain

    @property
    def arithmetic(self) -> str:
        device = self.net.out.weight.device
        return "bfloat16" if self.options.arithmetic == "bfloat16" and fast_bfloat16(device) else "float32"

    def _probability(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.arithmetic == "bfloat16"):
            logits: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return logits.float().sigmoid()


def _read_shapes(path: str, device: torch.device) -> Tensor:
    shapes = read_array(path, "--shapes").float().to(device)
    if shapes.ndim != 3 or not len(shapes) or shapes.min() < 0 or shapes.max() > 1:
        raise UsageError(f"shape {tuple(shapes.shape)} is not masks (N, h, w) in [0, 1]", path)
    return shapes
