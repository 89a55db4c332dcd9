"""SteGANomaly: a CycleGAN to simulated scans and back, with a low-pass filter against steganography.

Baur, Graf, Wiestler, Albarqouni, Navab: *SteGANomaly: Inhibiting CycleGAN Steganography for Unsupervised Anomaly
Detection in Brain MRI* (2020). G translates real slices (A) to a simulated healthy domain of lower entropy (B), F
translates back. A CycleGAN hides details that B cannot represent as weak high frequencies in G(x), from which F
restores even lesions. A low-pass filter between G and F, in training and at test time, removes them; ``lowpass=0`` is
the paper's ablation.

No code is public; known are the abstract and the description in the thesis. From the CycleGAN (Zhu et al. 2017) are the
networks, the least-squares losses of the discriminators, Σ|.| per pixel for the cycles A → B → A and B → A → B, and the
identity losses: G leaves B unchanged, F leaves A. It is trained with batches of 1, learning rate 2e-4 and 200 epochs.

Inferred: how B is simulated. With ``simulated``, B are slices of phantoms, made beforehand from label maps of healthy
brains: ``uadtk phantom -o FOLDER --labels MAPS --count 40 --slice-mm 5 --flat --slices`` writes FOLDER/slices.npy, one
intensity per tissue; any 3-D label maps with FreeSurfer's numbers will do (SynthSeg's are public; uadtk ships none).
Without it, B are tissue maps of the slices themselves; no loss compares a slice with its own map, so that the domains
remain unpaired. The low-pass filter is a Gaussian; B → A → B has none. Known lesions are left out of the cycle and
identity losses, and set to 0 in real and generated slices before a discriminator sees them; simulated slices have none.
There is no pool of earlier translations, since losses are stateless.

The error of the cycle alone would select weights that copy lesions. Held-out slices get implants
(``uadtk.networks.implants``), and the validation loss is the mean |x − x̂| of intact pixels plus that of implanted
pixels, where x is the slice without implants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from uadtk.networks.arrays import read_array
from uadtk.networks.distances import l1
from uadtk.networks.lessons import JUDGED, with_implants
from uadtk.networks.randomise import BRIGHTEST
from uadtk.networks.tissue import tissue_map
from uadtk.networks.translation import Discriminator, Generator, deceit, low_pass, misjudgement
from uadtk.plugin import Batch, Turn, UsageError, option

SMALLEST = 32  # pixels: the discriminators reduce smaller slices to nothing


@dataclass(frozen=True)
class Options:
    width: int = option(64, "Channels at full size, in all four networks.", ge=1, le=256)
    blocks: int = option(6, "Residual blocks of a generator; 9 in the CycleGAN at 256 pixels.", ge=0, le=32)
    simulated: str = option("", "Simulated slices: .npy file (N, side, side); default: tissue maps of the slices.")
    tissues: int = option(3, "Classes of the tissue maps.", ge=2, le=16)
    lowpass: float = option(1.0, "Low-pass filter between the generators: sigma in pixels; 0 is none.", ge=0, le=4)
    cycle_weight: float = option(10.0, "Weight of the cycle losses relative to the adversarial loss.", ge=0)
    identity_weight: float = option(0.5, "Weight of the identity losses relative to the cycle losses.", ge=0)


class Model(nn.Module):
    Options = Options
    betas = (0.5, 0.999)
    quick: ClassVar = {"width": 4, "blocks": 1}

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        if side < SMALLEST or side % 4:
            raise UsageError(f"slices of {side} pixels are too small or cannot be halved twice", fix="Take 128 or 256.")
        self.options, self.side = options, side
        self.pool: Tensor | None = None  # simulated slices, read before the first step; not needed to score
        self.to_simulated, self.to_real = (Generator(options.width, options.blocks) for _ in range(2))  # G, F
        self.judge_simulated, self.judge_real = (Discriminator(options.width) for _ in range(2))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {
            "generators": [*self.to_simulated.parameters(), *self.to_real.parameters()],
            "discriminators": [*self.judge_simulated.parameters(), *self.judge_real.parameters()],
        }

    def turns(self, epoch: int) -> list[Turn]:
        return [Turn("generators", self._generators_loss), Turn("discriminators", self._discriminators_loss)]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        made = with_implants(batch, batch.pixel_mm, JUDGED)
        error = (batch.target - self.reconstruct(made.image)).abs()
        intact = _mean(error, batch.brain & batch.normal & ~made.target)
        implanted = _mean(error, made.target)
        return {"loss": intact + implanted, "intact": intact, "implanted": implanted}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._back(self.to_simulated(x))

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))

    def _back(self, translated: Tensor) -> Tensor:
        return self.to_real(low_pass(translated, self.options.lowpass))

    def _generators_loss(self, batch: Batch) -> dict[str, Tensor]:
        real, normal, simulated = batch.target, batch.normal, self._simulated(batch)
        translated, made_up = self.to_simulated(batch.image), self.to_real(simulated)
        adversarial = deceit(self.judge_simulated(translated)) + deceit(self.judge_real(made_up * normal))
        cycle = l1(real, self._back(translated), normal) + l1(simulated, self.to_simulated(made_up))
        identity = l1(real, self.to_real(real), normal) + l1(simulated, self.to_simulated(simulated))
        cycle, identity = cycle.mean() / real[0].numel(), identity.mean() / real[0].numel()
        loss = adversarial + self.options.cycle_weight * (cycle + self.options.identity_weight * identity)
        return {"loss": loss, "adversarial": adversarial, "cycle": cycle, "identity": identity}

    def _discriminators_loss(self, batch: Batch) -> dict[str, Tensor]:
        real, normal, simulated = batch.target, batch.normal, self._simulated(batch)
        with torch.no_grad():
            translated, made_up = self.to_simulated(batch.image), self.to_real(simulated)
        on_simulated = misjudgement(self.judge_simulated(simulated), self.judge_simulated(translated))
        on_real = misjudgement(self.judge_real(real * normal), self.judge_real(made_up * normal))
        return {"loss": on_simulated + on_real, "judge_simulated": on_simulated, "judge_real": on_real}

    def _simulated(self, batch: Batch) -> Tensor:
        if not self.options.simulated:
            return tissue_map(batch.target, batch.brain, batch.normal, self.options.tissues)
        if self.pool is None:
            self.pool = _read_slices(self.options.simulated, self.side)
        drawn = self.pool[torch.randint(len(self.pool), (len(batch.image),))]
        mirrored = torch.where(torch.rand(len(drawn), 1, 1) < 0.5, drawn, drawn.flip(2))
        return mirrored[:, None].to(batch.image.device, torch.float32)


def _mean(error: Tensor, where: Tensor) -> Tensor:
    """Over the pixels of a mask; 0 if it is empty."""
    return (error * where).sum() / where.sum().clamp(min=1)


def _read_slices(path: str, side: int) -> Tensor:
    slices = read_array(path, "--simulated")
    if slices.ndim != 3 or not len(slices) or slices.shape[1:] != (side, side):
        fix = "Give uadtk phantom the same --prepare."
        raise UsageError(f"shape {tuple(slices.shape)} is not slices (N, {side}, {side})", path, fix)
    if not 0 <= float(slices.min()) <= float(slices.max()) <= BRIGHTEST:
        raise UsageError(f"intensities are not within 0 and {BRIGHTEST:g}", path, "Make it by: uadtk phantom --slices.")
    return slices
