"""Domain randomisation: anatomy, contrast and acquisition are drawn again for every slice.

A network trained on one collection adapts to its contrast, resolution and coil. Randomising them prevents that (Billot
et al.: *SynthSeg*, 2023; ranges of bias field and resolution from *WMH-SynthSeg*, 2024, widened after measurements on
unseen sites). There are three steps; lesions are implanted before the last:

``moved``       anatomy: flip, rotation, scale, shear, translation, smooth deformation
``recoloured``  contrast: a random intensity curve, not always monotone
``acquired``    acquisition: bias field, resolution, noise, skull-stripping errors, intensity scale

Images are (B, 1, S, S), about [0, 1] and 0 outside the brain; masks are bool of the same shape. All draws are from a
``torch.Generator`` on the batch's device: the same seed gives the same bytes, and torch's global generator is not used.
Memory is a few times that of the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from uadtk.networks.fields import chance, filtered, gaussian, log_uniform, percentile, smooth_noise, spread, uniform

KNOTS, ONE = 49, 30  # of an intensity curve; index of the knot at intensity 1
BRIGHTEST = 3.0  # intensities are clipped here; no tissue is brighter
SCALE = (0.7, 1.2)  # range of a slice's 98th percentile; the preparation sets that of the scan to 1
BIAS = 0.6  # largest logarithm of a bias field, about +-60 %
BLUR_MM = (0.4, 1.8)  # standard deviation; up to twice that along one axis, as in thick reformatted slices


def moved(image: Tensor, masks: list[Tensor], pixel_mm: float, generator: Generator) -> tuple[Tensor, list[Tensor]]:
    """Image and masks: flip, +-15 degrees, scale and aspect +-12 %, shear +-.05, +-12 mm, deformation of 2 mm."""
    n, _, side, _ = image.shape

    def drawn(low: float, high: float) -> Tensor:
        return uniform(n, low, high, generator).flatten()

    angle, flip = drawn(-0.26, 0.26), 1 - 2 * chance(n, 0.5, generator).flatten()
    wide, tall, shear = drawn(0.88, 1.12), drawn(0.88, 1.12), drawn(-0.05, 0.05)
    reach = 12 / (pixel_mm * side / 2)
    across, up = drawn(-reach, reach), drawn(-reach, reach)
    top = torch.stack([flip * angle.cos() * wide, (shear - angle.sin()) * wide, across], dim=1)
    bottom = torch.stack([flip * angle.sin() * tall, angle.cos() * tall, up], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), list(image.shape), align_corners=False)
    bend = smooth_noise(2 * n, side, 6, generator).view(n, 2, side, side).permute(0, 2, 3, 1)
    grid = grid + bend * (uniform(n, 0, 1, generator) / (pixel_mm * side / 2))
    together = torch.cat([image, *(mask.to(image.dtype) for mask in masks)], dim=1)
    sampled = F.grid_sample(together, grid, mode="bilinear", align_corners=False)
    return sampled[:, :1], [channel > 0.5 for channel in sampled[:, 1:].split(1, dim=1)]


def recoloured(image: Tensor, brain: Tensor, generator: Generator) -> Tensor:
    """Each slice after its own intensity curve, which keeps the brain's 98th percentile at about 1.

    Gamma exp(+-.45) in 70 % of slices, a random increasing curve in 40 %, an added wave in one of six, which may change
    the order of tissues.
    """
    n = len(image)
    image = image / percentile(image, brain, 98).clamp(min=1e-3)
    at = torch.linspace(0, 1.6, KNOTS, device=image.device)
    gamma = (uniform(n, -0.45, 0.45, generator) * chance(n, 0.7, generator)).exp().flatten(1)
    slopes = torch.randn(n, 1, 8, generator=generator, device=image.device) * 0.45 * chance(n, 0.4, generator)[..., 0]
    slopes = F.interpolate(slopes.exp(), size=KNOTS - 1, mode="linear", align_corners=False)[:, 0]
    curve = F.pad((at.pow(gamma).diff(dim=1) * slopes).cumsum(1), (1, 0))
    curve = curve / curve[:, ONE : ONE + 1]
    waves = uniform(n, 1, 3, generator).flatten(1)
    phase = uniform(n, 0, 2 * math.pi, generator).flatten(1)
    height = (uniform(n, 0, 0.15, generator) * chance(n, 1 / 6, generator)).flatten(1)
    wave = height * (2 * math.pi * waves * at + phase).sin() * (at / 0.4).clamp(max=1)
    return _through(image, (curve + wave).clamp(min=0)) * brain


def _through(image: Tensor, curve: Tensor) -> Tensor:
    """``image`` through each slice's curve (n, KNOTS) over [0, 1.6], linear between its knots and on beyond them."""
    place = (image.flatten(1) * ((KNOTS - 1) / 1.6)).clamp(min=0)
    knot = place.long().clamp(max=KNOTS - 2)
    low = curve.gather(1, knot)
    return (low + (place - knot) * (curve.gather(1, knot + 1) - low)).view_as(image).clamp(0, BRIGHTEST)


def acquired(image: Tensor, brain: Tensor, pixel_mm: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """The slice after simulated acquisition and skull stripping, with its brain mask.

    All channels of ``image`` (B, C, S, S) undergo the same draws: a slice with and without implants. The intensity
    scale is set by the 98th percentile of the first channel in the brain, drawn from ``SCALE``.
    """
    n = len(image)
    image = image * shading(brain, pixel_mm, generator)
    image = _resolved(image, brain, pixel_mm, generator)
    image = _noisy(image, generator)
    image, brain = _stripped(image, brain, pixel_mm, generator)
    wanted = log_uniform(n, *SCALE, generator)
    image = image * (wanted / percentile(image[:, :1], brain, 98).clamp(min=1e-3))
    return image.clamp(0, BRIGHTEST) * brain, brain


def shading(brain: Tensor, pixel_mm: float, generator: Generator) -> Tensor:
    """A bias field for each slice, (n, 1, S, S), 1 on average: smooth, or rising towards a coil at the brain's rim."""
    n, _, side, _ = brain.shape
    field = smooth_noise(n, side, 3, generator)
    field = field / field.abs().amax(dim=(2, 3), keepdim=True)
    strength = BIAS * uniform(n, 0, 1, generator).square() * chance(n, 0.8, generator)
    coil = _coil(brain, uniform(n, 15, 45, generator) / pixel_mm, generator)
    return (strength * field + uniform(n, -0.2, BIAS, generator) * chance(n, 0.5, generator) * coil).exp()


def _coil(brain: Tensor, reach: Tensor, generator: Generator) -> Tensor:
    """1 at a random place on the brain's rim, falling off as a Gaussian with standard deviation ``reach`` in pixels."""
    n, _, side, _ = brain.shape
    at = torch.arange(side, device=brain.device, dtype=torch.float32)
    inside = brain.float()
    mass = inside.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centre_y = (inside.sum(3, keepdim=True) * at[:, None]).sum(2, keepdim=True) / mass
    centre_x = (inside.sum(2, keepdim=True) * at).sum(3, keepdim=True) / mass
    angle, radius = uniform(n, 0, 2 * math.pi, generator), (mass / math.pi).sqrt() * uniform(n, 0.8, 1.2, generator)
    y = (at[:, None] - centre_y - radius * angle.sin()) / reach
    x = (at - centre_x - radius * angle.cos()) / reach
    return (-y.square() / 2).exp() * (-x.square() / 2).exp()


def _resolved(image: Tensor, brain: Tensor, pixel_mm: float, generator: Generator) -> Tensor:
    """Blur of both axes (p .35), of one as in thick reformatted slices (.2), sharpening (.15), or none (.3).

    The outside of the brain counts as the slice's mean, so that the rim does not darken.
    """
    n, _, side, _ = image.shape
    kind = uniform(n, 0, 1, generator)
    low, high = (mm / pixel_mm for mm in BLUR_MM)
    sigma, thick = log_uniform(n, low, high, generator), uniform(n, high, 2 * high, generator)
    upright = chance(n, 0.5, generator)
    along = ((kind >= 0.35) & (kind < 0.55)).float()
    both = (kind < 0.35).float() * sigma
    blur = gaussian(side, both + along * upright * thick, both + along * (1 - upright) * thick)
    sharpen = ((kind >= 0.55) & (kind < 0.7)).float() * uniform(n, 0.2, 1, generator)
    one = torch.ones_like(sigma)
    level = image.sum(dim=(2, 3), keepdim=True) / brain.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return filtered((image - level) * brain, blur + sharpen * (1 - gaussian(side, one, one))) + level


def _noisy(image: Tensor, generator: Generator) -> Tensor:
    """Rician noise of up to 7 % of the scale in 60 % of slices."""
    n, _, side, _ = image.shape
    std = uniform(n, 0, 0.07, generator) * chance(n, 0.6, generator)
    real, imaginary = torch.randn(2, n, 1, side, side, generator=generator, device=image.device)
    return torch.hypot(image + std * real, std * imaginary)


def _stripped(image: Tensor, brain: Tensor, pixel_mm: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """In 30 % of slices the mask is shrunk or expanded by up to 3 mm, varying along the rim; 30 % keep some skull.

    Expanded masks hold grey tissue of random brightness. Remnants of skull, scalp or orbit reach up to 26 mm outside
    the brain at one place of its rim, are often brighter than any tissue, and are no target.
    """
    n, _, side, _ = image.shape
    width = 8 / pixel_mm
    soft = spread(brain, round(width))  # 1/2 at the rim, and its slope there about 1 / width
    shift = uniform(n, -3, 3, generator) / 8 + smooth_noise(n, side, 6, generator) * (1.2 / 8)
    wrong = chance(n, 0.3, generator) > 0
    mask = torch.where(wrong, soft + shift.clamp(-0.4, 0.4) > 0.5, brain)
    around = (0.5 + 0.35 * smooth_noise(n, side, 16, generator)) * uniform(n, 0.2, 1.6, generator)
    place = _coil(brain, uniform(n, 6, 25, generator) / pixel_mm, generator)
    reach = uniform(n, 8, 26, generator) * chance(n, 0.3, generator)
    skull = (spread(brain, round(52 / pixel_mm)) + place * reach / 52 > 0.5) & ~brain & (reach > 0)
    layers = (0.75 + 0.35 * smooth_noise(n, side, 24, generator)) * uniform(n, 0.4, 2.0, generator)
    outside = torch.where(skull, layers, around).clamp(min=0)
    mask = mask | skull
    return torch.where(brain, image, outside) * mask, mask
