"""What a reconstructing model learns to take away: coarse noise (Kascenas et al. 2022), or implanted lesions.

Against noise a model learns that blobs of wrong intensity do not belong; against implants, that lesions do not.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from uadtk.core.model import Batch
from uadtk.networks.lessons import JUDGED, LEARNED, lesson
from uadtk.networks.noise import coarse_noise

FIELD_MM = 208.0  # of a slice as the preparation cuts it, unless told otherwise


def corrupt(batch: Batch, kind: Literal["noise", "implants"], std: float, learning: bool) -> tuple[Tensor, Batch]:
    """What the model is shown, (B, 1, S, S), and the batch that it is to make of it.

    ``noise`` of standard deviation ``std`` leaves the batch as it is. With ``implants`` the batch is randomised too
    (contrast, bias, resolution and so on: ``uadtk.networks.randomise``), and unless the model is ``learning`` they are
    of kinds that it never learns.
    """
    if kind == "noise":
        return batch.image + coarse_noise(batch.brain, std), batch
    made = lesson(batch, FIELD_MM / batch.image.shape[-1], LEARNED if learning else JUDGED)
    return made.image, Batch(made.clean, made.brain, made.counts | ~made.brain)
