"""Skip autoencoder: skip connections with dropout, in training and for samples.

Baur, Wiestler, Albarqouni, Navab: *Bayesian Skip-Autoencoders for Unsupervised Hyperintense Anomaly Detection in
High Resolution Brain MRI* (ISBI 2020). Skip connections preserve detail; Bernoulli dropout on them prevents the network
from copying its input. With dropout kept on (``sample``), the mean and the variance of many reconstructions make the
Bayesian skip-AE, which is scored by ``montecarlo``; without it (``reconstruct``), more of a lesion is copied.

The authors published no code. Known from the paper: skip connections, and dropout on them at test time too. Inferred
here: the unified encoder and decoder with the latent at 8 x 8, concatenating skip connections at every intermediate
size (64, 32 and 16 pixels of 128), the dropout rate, and the summed l1 loss. Whole channels are dropped: of single
numbers, the decoder recovers a dropped one at the finest size from its neighbours in 32 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.dense import halvings
from uadtk.networks.distances import l1
from uadtk.networks.skips import SkipDecoder, stage_outputs
from uadtk.networks.unified import Encoder
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    dropout: float = option(0.2, "Dropout rate of the skip connections.", ge=0, le=0.9)
    drop: Literal["numbers", "channels"] = option("channels", "Drop individual numbers or whole channels.")


class Model(nn.Module):
    Options = Options
    scorer = "montecarlo"

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        n = halvings(side, least=2)
        self.encoder, self.decoder = Encoder(n), SkipDecoder(n)
        self.lacks = () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        rebuilt = self._decode(stage_outputs(self.encoder, batch.image), dropping=self.training)
        return {"loss": l1(batch.target, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._decode(stage_outputs(self.encoder, x), dropping=False)

    def sample(self, x: Tensor, n: int) -> Tensor:
        outputs = stage_outputs(self.encoder, x)
        return torch.stack([self._decode(outputs, dropping=True) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice, without dropout."""
        return l1(x, self.reconstruct(x))

    def _decode(self, outputs: list[Tensor], dropping: bool) -> Tensor:
        dropout = F.dropout2d if self.options.drop == "channels" else F.dropout
        return self.decoder(outputs, lambda skip: dropout(skip, self.options.dropout, dropping))
