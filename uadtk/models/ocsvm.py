"""One-class SVM on latent vectors of an autoencoder: detects abnormal slices, without localisation.

After Seeböck, Waldstein, Klimscha, Bogunovic, Schlegl, Gerendas, Donner, Schmidt-Erfurth, Langs: *Unsupervised
Identification of Disease Marker Candidates in Retinal OCT Imaging Data* (2018, arXiv 1810.13404). The paper's denoising
autoencoders process patches of retinal scans at several scales; here the comparative study's autoencoder processes
whole slices (Baur et al. 2021, "AE (dense)", trained like ``ae``). After training, the z of normal slices are whitened
by principal components, and scikit-learn fits a ν-one-class SVM (Schölkopf et al. 2001) to them; this needs ``pip
install uadtk[svm]``, using the trained model does not. Slices with a known lesion are left out.

The score of a slice is 1 − Σα_i k(z, s_i) / Σα_i, in [0, 1], with the support vectors s and their weights α: the
decision function, negated, scaled and shifted. It applies to all brain pixels. Before the SVM is fitted it is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder, rebuild
from uadtk.networks.distances import l1
from uadtk.plugin import BackendError, Batch, DataError, option

NEGLIGIBLE = 1e-6  # of the largest variance: below it, whitening would amplify rounding errors


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.0, "Dropout rate of z in training.", ge=0, le=0.9)
    nu: float = option(0.05, "Upper bound on the fraction of normal slices outside the boundary.", ge=0.001, le=0.9)
    vectors: int = option(1024, "Maximum number of normal slices that the SVM is fitted to.", ge=1, le=16384)


class Model(nn.Module):
    Options = Options
    exempt: ClassVar = {"planted_lesion_outscores_the_brain": "All pixels of a slice have the same score."}
    mean: Tensor
    whitening: Tensor
    support: Tensor
    weight: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.latent)
        self.register_buffer("mean", torch.zeros(options.latent))
        self.register_buffer("whitening", torch.zeros(options.latent, options.latent))
        self.register_buffer("support", torch.zeros(options.vectors, options.latent))
        self.register_buffer("weight", torch.zeros(options.vectors))  # α / Σα; 0 where there is no support vector

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        if self.training:
            _require_sklearn()  # fail now, not after hours of training
        rebuilt = rebuild(self.net, batch.image, self.options.dropout if self.training else 0.0)
        return {"loss": l1(batch.target, rebuilt, batch.normal).mean()}

    def conclude(self, batches: Iterable[Batch]) -> None:
        """Fit the whitening to all normal slices, and the SVM to at most ``vectors`` of them."""
        _require_sklearn()
        from sklearn.svm import OneClassSVM

        z = torch.cat([self._normal(batch) for batch in batches])
        if not len(z):
            raise DataError("every training slice contains a known lesion", "ocsvm")
        mean, whitening = _whitening(z)
        chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[: self.options.vectors]
        points = (z[chosen] - mean) @ whitening
        svm = OneClassSVM(kernel="rbf", gamma=1.0, nu=self.options.nu)
        svm.random_state = 0  # no effect on the result, but None draws from NumPy's global generator
        svm.fit(points.numpy())
        support, alpha = (torch.from_numpy(array) for array in (svm.support_vectors_, svm.dual_coef_[0]))
        weight = alpha / alpha.sum()
        fitted = (self.mean, mean), (self.whitening, whitening), (self.support, support), (self.weight, weight)
        for buffer, values in fitted:
            buffer.zero_()[: len(values)] = values.float()

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        points = (self.net.encode(x)[0] - self.mean) @ self.whitening
        distance = torch.cdist(points, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        value = 1 - (-distance.square()).exp() @ self.weight
        return value.clamp(min=0)[:, None, None, None] * brain  # rounding may reach -1e-7

    def _normal(self, batch: Batch) -> Tensor:
        """z of the slices without a known lesion, in double precision on the CPU."""
        (z,) = self.net.encode(batch.image)
        return z[batch.normal.flatten(1).all(1)].cpu().double()


def _require_sklearn() -> None:
    if find_spec("sklearn") is None:
        raise BackendError("the one-class SVM needs scikit-learn", fix='Install it: pip install "uadtk[svm]".')


def _whitening(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (latent,) and matrix (latent, latent) of principal components: (z − mean) @ matrix is uncorrelated.

    Its variances are equal and sum to 1, so scikit-learn's ``gamma="scale"``, the inverse of their sum, is 1.
    """
    mean = z.mean(0)
    variance, direction = torch.linalg.eigh((z - mean).T @ (z - mean) / len(z))
    kept = variance > NEGLIGIBLE * variance.max()
    scale = torch.where(kept, variance.clamp(min=torch.finfo(z.dtype).tiny), torch.inf).rsqrt()
    return mean, direction * scale / kept.sum().clamp(min=1).sqrt()
