"""SteGANomaly: a CycleGAN to simulated scans and back, with a low-pass filter against steganography.

Baur, Graf, Wiestler, Albarqouni, Navab: *SteGANomaly: Inhibiting CycleGAN Steganography for Unsupervised Anomaly
Detection in Brain MRI* (2020). G translates real slices (A) to a simulated healthy domain of lower entropy (B), F
translates back. A CycleGAN hides details that B cannot represent as weak high frequencies in G(x), from which F
restores even lesions. A low-pass filter between G and F, in training and at test time, removes them; ``lowpass=0`` is
the paper's ablation.

No code is public; known are the abstract and the description in the thesis. From the CycleGAN (Zhu et al. 2017) are the
networks, the least-squares losses of the discriminators, Σ|.| per pixel for the cycles A → B → A and B → A → B, and the
identity losses: G leaves B unchanged, F leaves A. It is trained with batches of 1, learning rate 2e-4 and 200 epochs.

Inferred: B consists of tissue maps of the slices themselves, as a model has no other data. No loss compares a slice
with its own map, so the domains remain unpaired. The low-pass filter is a Gaussian; B → A → B has none. Known lesions
are left out of the cycle and identity losses, and set to 0 in real and generated slices before a discriminator sees
them; tissue maps have none. There is no pool of earlier translations, since losses are stateless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from uadtk.networks.distances import l1
from uadtk.networks.tissue import tissue_map
from uadtk.networks.translation import Discriminator, Generator, deceit, low_pass, misjudgement
from uadtk.plugin import Batch, Turn, UsageError, option

SMALLEST = 32  # pixels: the discriminators reduce smaller slices to nothing


@dataclass(frozen=True)
class Options:
    width: int = option(64, "Channels at full size, in all four networks.", ge=1, le=256)
    blocks: int = option(6, "Residual blocks of a generator; 9 in the CycleGAN at 256 pixels.", ge=0, le=32)
    tissues: int = option(3, "Classes of the simulated scans.", ge=2, le=16)
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
        self.options = options
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
        return {"loss": l1(batch.image, self.reconstruct(batch.image), batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._back(self.to_simulated(x))

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))

    def _back(self, translated: Tensor) -> Tensor:
        return self.to_real(low_pass(translated, self.options.lowpass))

    def _generators_loss(self, batch: Batch) -> dict[str, Tensor]:
        real, normal, simulated = batch.image, batch.normal, self._simulated(batch)
        translated, made_up = self.to_simulated(real), self.to_real(simulated)
        adversarial = deceit(self.judge_simulated(translated)) + deceit(self.judge_real(made_up * normal))
        cycle = l1(real, self._back(translated), normal) + l1(simulated, self.to_simulated(made_up))
        identity = l1(real, self.to_real(real), normal) + l1(simulated, self.to_simulated(simulated))
        cycle, identity = cycle.mean() / real[0].numel(), identity.mean() / real[0].numel()
        loss = adversarial + self.options.cycle_weight * (cycle + self.options.identity_weight * identity)
        return {"loss": loss, "adversarial": adversarial, "cycle": cycle, "identity": identity}

    def _discriminators_loss(self, batch: Batch) -> dict[str, Tensor]:
        real, normal, simulated = batch.image, batch.normal, self._simulated(batch)
        with torch.no_grad():
            translated, made_up = self.to_simulated(real), self.to_real(simulated)
        on_simulated = misjudgement(self.judge_simulated(simulated), self.judge_simulated(translated))
        on_real = misjudgement(self.judge_real(real * normal), self.judge_real(made_up * normal))
        return {"loss": on_simulated + on_real, "judge_simulated": on_simulated, "judge_real": on_real}

    def _simulated(self, batch: Batch) -> Tensor:
        return tissue_map(batch.image, batch.brain, batch.normal, self.options.tissues)
