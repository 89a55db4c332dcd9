"""Phantoms: FLAIR-like scans whose lesions are known to the voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.core.errors import UsageError, did_you_mean
from uadtk.core.volume import Mask, Scan
from uadtk.phantom import lesions as shapes
from uadtk.phantom.anatomy import Anatomy, icbm
from uadtk.phantom.contrast import draw_ratios, flat_signal, signal, texture
from uadtk.phantom.deform import coordinates
from uadtk.phantom.fields import Field, smooth_field
from uadtk.phantom.lesions import Kind

RANGES = {
    "lesion_ml": (0.01, 300),
    "contrast": (0, 5),
    "mass_effect": (0, 0.5),
    "slice_mm": (0.4, 12),
    "in_plane_mm": (0.4, 4),
    "deformation": (0, 2),
    "noise": (0, 0.5),
    "bias": (0, 0.5),
}


@dataclass(frozen=True)
class Phantom:
    """A scan with its ground truth, on one grid.

    ``scan``: float32, 0 outside ``brain``. ``lesion``: voxels that are at least half lesion (none if healthy).
    ``facts``: the parameters it was made with, JSON-serialisable.
    """

    scan: Scan
    brain: Mask
    lesion: Mask
    facts: dict[str, Any]


def make(
    seed: int,
    anatomy: Anatomy | None = None,
    *,
    lesions: Kind = "none",
    lesion_ml: float | None = None,
    contrast: float | None = None,
    mass_effect: float = 0.0,
    slice_mm: float = 1.0,
    in_plane_mm: float = 1.0,
    deformation: float = 1.0,
    noise: float | None = None,
    bias: float | None = None,
    flat: bool = False,
) -> Phantom:
    """Make one phantom. The same arguments give the same voxels on any machine and with any number of threads.

    Arguments that are None are drawn from ranges observed in real scans. Geometry, contrast, lesions and noise have
    separate generators: the same seed with other lesions (and no mass effect) gives the same brain and noise.

    Parameters
    ----------
    anatomy : Anatomy, optional
        ICBM's average brain if not given.
    lesion_ml : float, optional
        Total lesion volume of the mask, on the phantom's own grid.
    contrast : float, optional
        Lesion intensity relative to white matter.
    mass_effect : float
        0 to 0.5: displacement of the tissue around lesions, as a share of their radius.
    slice_mm, in_plane_mm : float
        Slice thickness (contiguous slices) and pixel size.
    deformation : float
        0 (the anatomy unchanged) to 2; 1 gives the variability of adult heads.
    noise : float, optional
        Standard deviation of the Rician noise, as a share of white matter's intensity.
    bias : float, optional
        Standard deviation of the bias field about 1.
    flat : bool
        One intensity per tissue, without texture, drift, noise or bias field.

    Raises
    ------
    UsageError
        A value out of range, or lesions that do not fit.
    """
    _check(lesions, lesion_ml, contrast, mass_effect)
    _check_ranges(
        lesion_ml=lesion_ml,
        contrast=contrast,
        mass_effect=mass_effect,
        slice_mm=slice_mm,
        in_plane_mm=in_plane_mm,
        deformation=deformation,
        noise=noise,
        bias=bias,
    )
    anatomy = anatomy or icbm()
    shape_rng, contrast_rng, lesion_rng, noise_rng = np.random.default_rng(seed).spawn(4)

    slices = max(1, round(slice_mm / 1.25))  # thin slices averaged to one thick slice
    thin = (in_plane_mm, in_plane_mm, slice_mm / slices)
    voxel_ml = in_plane_mm**2 * slice_mm / 1000
    where, affine = coordinates(shape_rng, anatomy, thin, slices, deformation)
    ratios = draw_ratios(contrast_rng)
    ideal = flat_signal(anatomy, ratios) if flat else signal(contrast_rng, anatomy, ratios)
    facts: dict[str, Any] = {"seed": seed, "anatomy": anatomy.name, "lesions": lesions, "tissue_ratios": ratios}
    facts |= {"slice_mm": slice_mm, "in_plane_mm": in_plane_mm, "deformation": deformation}
    facts |= {"flat": True} if flat else {}

    ovoids = []
    if lesions != "none":
        usual_ml = float(np.exp(lesion_rng.uniform(*np.log(shapes.DEFAULT_ML[lesions]))))
        usual_contrast = lesion_rng.uniform(*shapes.DEFAULT_CONTRAST[lesions])
        wanted_ml = round(usual_ml, 2) if lesion_ml is None else lesion_ml
        bright = round(usual_contrast, 2) if contrast is None else contrast
        ovoids = shapes.plan(lesion_rng, lesions, wanted_ml, anatomy, where, thin)
        if mass_effect:
            shapes.push_aside(where, ovoids, thin, mass_effect)

    thick = np.diag([in_plane_mm, in_plane_mm, slice_mm, 1.0])
    thick[:3, 3] = affine[:3, 3] + [0, 0, (slice_mm - thin[2]) / 2]
    head = ndimage.map_coordinates(ideal, where, order=1, output=np.float32, cval=ratios["csf"])
    brain = _stripped(shape_rng, anatomy, where, thin, slices)
    lesion = np.zeros(brain.shape, bool)
    if ovoids:
        border = shapes.borders(lesion_rng, lesions, ovoids, anatomy, where, thin, slices)
        grown = shapes.fit_volume(border, brain, wanted_ml, voxel_ml)
        lesion[border.thick_box] = border.mask(grown) & brain[border.thick_box]
        _paint(lesion_rng, head[border.box], border.inside(grown), bright, lesions)
        facts |= {"contrast": bright, "mass_effect": mass_effect, "places": len(ovoids)}
    del where
    if flat:
        noise = bias = 0.0
    else:
        head *= texture(contrast_rng, head.shape, thin)
    voxels = shapes.averaged(head, slices)
    voxels, look = _acquired(noise_rng, voxels, (in_plane_mm, in_plane_mm, slice_mm), noise, bias)
    facts |= look | {"lesion_ml": round(float(lesion.sum()) * voxel_ml, 4)}
    voxels[~brain] = 0
    return Phantom(Scan(voxels, thick), Mask(brain, thick), Mask(lesion, thick), facts)


def _check_ranges(**values: float | None) -> None:
    for name, value in values.items():
        low, high = RANGES[name]
        if value is not None and not low <= value <= high:
            raise UsageError(f"must be between {low:g} and {high:g}", f"{name}={value}")


def _check(kind: Kind, lesion_ml: float | None, contrast: float | None, mass_effect: float) -> None:
    if kind not in get_args(Kind):
        raise UsageError("unknown kind of lesions", f"lesions={kind}", did_you_mean(kind, get_args(Kind)))
    if kind == "none" and (lesion_ml is not None or contrast is not None or mass_effect):
        raise UsageError("a healthy phantom has no lesions to configure", "lesions=none", "Choose ms or tumour.")


def _stripped(
    rng: np.random.Generator, anatomy: Anatomy, where: Field, thin: tuple[float, float, float], slices: int
) -> NDArray[np.bool_]:
    """The brain mask of a skull-stripping tool: the surface with local errors of a millimetre."""
    depth = ndimage.map_coordinates(anatomy.depth_mm, where, order=1, output=np.float32, cval=-4)
    depth += np.float32(0.5) * smooth_field(rng, depth.shape, tuple(12 / s for s in thin)) + rng.uniform(-0.8, 0.5)
    pieces, _ = ndimage.label(shapes.averaged(depth, slices) > 0)
    return np.asarray(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)


def _paint(rng: np.random.Generator, head: Field, inside: Field, contrast: float, kind: Kind) -> None:
    """Blend lesions into the tissue, in place: fading at the border, tumours with a core, on average ``contrast``."""
    fade_mm = np.float32(2 if kind == "ms" else 8)
    bright = np.float32(0.5) + np.clip(inside / fade_mm, 0, 1) + 0.12 * smooth_field(rng, inside.shape, (6.0,) * 3)
    if kind == "tumour":
        depth = inside / max(float(inside.max()), 1.0)
        core = np.clip((depth + 0.12 * smooth_field(rng, inside.shape, (8.0,) * 3) - 0.45) * 6, 0, 1)
        bright *= 1 + np.float32(rng.uniform(-0.7, 0.3)) * core
    bright = 1 + np.float32(contrast - 1) * bright / bright[inside >= 0].mean()
    head += np.clip(inside + np.float32(0.5), 0, 1) * (bright - head)


def _acquired(
    rng: np.random.Generator,
    voxels: Field,
    spacing: tuple[float, float, float],
    noise: float | None,
    bias: float | None,
) -> tuple[Field, dict[str, float]]:
    """Simulate the scanner: in-plane blur, coil sensitivity, Rician noise, an arbitrary scale."""
    blur_mm = rng.uniform(0.35, 0.75)
    usual_noise, usual_bias = float(np.exp(rng.uniform(*np.log((0.015, 0.06))))), rng.uniform(0.01, 0.09)
    noise = usual_noise if noise is None else noise  # drawn even if given, so that later draws do not change
    bias = usual_bias if bias is None else bias
    scale = rng.uniform(300, 900)
    out = ndimage.gaussian_filter(voxels, (blur_mm / spacing[0], blur_mm / spacing[1], 0), truncate=3)
    out *= np.exp(np.float32(bias) * smooth_field(rng, out.shape, tuple(90 / s for s in spacing)))
    real = out + np.float32(noise) * rng.standard_normal(out.shape, dtype=np.float32)
    out = np.hypot(real, np.float32(noise) * rng.standard_normal(out.shape, dtype=np.float32))
    out *= np.float32(scale)
    return out, {"noise": round(noise, 4), "bias": round(bias, 4), "blur_mm": round(blur_mm, 3)}
