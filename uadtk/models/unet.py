"""U-Net trained on lesion labels; optionally also on scans without labels or from another scanner.

Ronneberger, Fischer, Brox 2015, in the layout of Baur, Albarqouni, Navab: *Semi-Supervised Deep Learning for Fully
Convolutional Networks* (MICCAI 2017): three halvings, two 3x3 convolutions at each resolution, dropout of 0.5 at the
lowest. Their 64 channels are ``width=64``. Here with group norm and SiLU for batch norm and ReLU, bilinear upsampling
for transposed convolutions, and Adam for SGD. The input is masked to the brain; ``neighbours`` adjacent slices on each
side are further channels. The score is the probability of lesion.

The loss is 1 - soft DICE over the batch (theirs) + cross-entropy (ours), over brain pixels with a known label. Lesion
pixels are rare: half of the labelled slices of a batch have some, and DICE is insensitive to the number of the others.

``embedding`` is the weight of their random feature embedding (``uadtk.networks.embedding``): pixels are drawn from
slices with and without labels, and features of the same class are pulled together. The class of an unlabelled pixel is
given by the cohort's column ``prior_mask``. The features are those of the last 3x3 convolution, before its norm. They
train on labels alone at first, and fine-tune with it from epoch 35 to 50: ``embed_from=35``; by default it acts
throughout.

``adapt`` is the final weight of adversarial adaptation (Kamnitsas et al. 2017, ``uadtk.networks.domain``) to scans
without labels, based on the decoder's features at all resolutions. It rises from epoch ``adapt_from`` to
``adapt_full``; their weight is 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from uadtk.networks.domain import Discriminator, domain_loss, ramp
from uadtk.networks.embedding import UNKNOWN, Distance, Sampling, classes, divergences, draw, embedding_loss
from uadtk.networks.neighbours import with_neighbours
from uadtk.networks.segmentation import cross_entropy, soft_dice_loss
from uadtk.networks.unet import UNet
from uadtk.plugin import Batch, Turn, UsageError, option

AT_ONCE = 32  # slices
RARE = -4.0  # initial logit of lesion


@dataclass(frozen=True)
class Options:
    width: int = option(16, "Channels at full resolution, doubled at each halving.", ge=1, le=256)
    depth: int = option(4, "Number of resolutions.", ge=1, le=6)
    dropout: float = option(0.5, "Dropout rate of the deepest features in training.", ge=0, le=0.9)
    neighbours: int = option(0, "Adjacent slices on each side, as further input channels.", ge=0, le=8)
    embedding: float = option(0.0, "Weight of the random feature embedding; 0 is off.", ge=0)
    embed_from: int = option(1, "First epoch in which the embedding acts (paper: 35).", ge=1)
    distance: Distance = option("angular", "Distance between embedded features.")
    points: int = option(100, "Maximum number of pixels drawn per class, with labels and without.", ge=2, le=2000)
    sampling: Sampling = option("50:50", "Ratio of normal to lesion pixels among them.")
    adapt: float = option(0.0, "Weight of adaptation to scans without labels (paper: 0.05); 0 is off.", ge=0, le=1)
    adapt_from: int = option(10, "Epoch from which that weight rises.", ge=0)
    adapt_full: int = option(35, "Epoch in which it is reached in full.", ge=1)


class Model(nn.Module):
    Options = Options
    supervised = True
    cleaners = ()  # a median would remove small lesions from a probability map
    betas = (0.9, 0.999)

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.neighbours = options.neighbours
        self.unlabelled = bool(options.embedding or options.adapt)
        before = 1 + 2 * options.neighbours
        self.net = UNet(side, before, 1, options.depth, options.width, dropout=options.dropout)
        nn.init.constant_(self.net.out.bias, RARE)  # type: ignore[arg-type]
        if options.adapt:
            self.discriminator = Discriminator([options.width * 2**i for i in reversed(range(options.depth))])

    def turns(self, epoch: int) -> list[Turn]:
        strength = self.options.adapt * ramp(epoch, self.options.adapt_from, self.options.adapt_full)
        embedding = self.options.embedding if epoch >= self.options.embed_from else 0.0
        return [Turn("model", partial(self._loss, strength=strength, embedding=embedding))]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The segmentation loss, on held-out slices."""
        return self._segmentation(batch, self.net(batch.image * batch.brain))

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        seen = with_neighbours(x, self.neighbours) * brain
        return torch.cat([self.net(part) for part in seen.split(AT_ONCE)]).sigmoid() * brain

    def _loss(self, batch: Batch, strength: float, embedding: float) -> dict[str, Tensor]:
        *levels, logits = self.net.levels(batch.image * batch.brain)
        losses = self._segmentation(batch, logits)
        loss = losses["loss"]
        if self.options.embedding:
            losses |= self._embedding(batch, levels[-1])
            loss = loss + embedding * losses["embedding"]
        if self.options.adapt:
            losses["domain"] = self._domain(batch, levels, strength)
            loss = loss + losses["domain"]
        return {**losses, "loss": loss}

    def _segmentation(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        counts = batch.known & batch.brain
        dice, entropy = (f(logits, batch.lesion, counts) for f in (soft_dice_loss, cross_entropy))
        return {"loss": dice + entropy, "dice": dice, "cross_entropy": entropy}

    def _embedding(self, batch: Batch, features: Tensor) -> dict[str, Tensor]:
        kind, every = classes(batch), features.permute(0, 2, 3, 1).flatten(0, 2).float()
        drawn = draw(kind, batch.known, self.options.points, self.options.sampling)
        kinds = kind.flatten()
        kl, js = divergences(every[drawn].detach(), every[kinds != UNKNOWN].detach())
        return {
            "embedding": embedding_loss(every[drawn], kinds[drawn], self.options.distance),
            "embedding_kl": kl,
            "embedding_js": js,
        }

    def _domain(self, batch: Batch, levels: list[Tensor], strength: float) -> Tensor:
        source = batch.known.flatten(1).any(1)
        if source.all() or not source.any():
            fix = "Adaptation needs scans with labels and scans without."
            raise UsageError("either all slices of a batch have labels, or none", "--adapt", fix)
        return domain_loss(self.discriminator, levels, source, strength)
