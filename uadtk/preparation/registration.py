"""N4, registration to the atlas and of two scans by SimpleITK; denoising."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import BackendError, DataError
from uadtk.core.volume import Affine, Mask, Scan, Volume
from uadtk.io.icbm import icbm_map
from uadtk.io.read import read_scan
from uadtk.kernels import curvature_flow

Float = NDArray[np.float32]
SHRINK, SHARE, SAMPLES = (4, 2, 1), 0.1, 300_000  # levels; sampled share of voxels; of two scans, at most so many
SEED = 1  # to SimpleITK, 0 is the clock
SRI24, SRI24_SHAPE = "UADTK_SRI24", (240, 240, 155)


def simpleitk() -> Any:
    """The module. Raises BackendError if it is not installed."""
    try:
        import SimpleITK
    except ImportError:
        raise BackendError(
            "registration and N4 need SimpleITK", fix='Install it: pip install "uadtk[preprocess]".'
        ) from None
    return SimpleITK


def n4(scan: Scan, brain: Mask) -> Scan:
    """N4 bias field correction (Tustison et al. 2010): estimated at about 4 mm, applied at full resolution."""
    sitk = simpleitk()
    image = _to_itk(sitk, scan)
    mask = sitk.Cast(_to_itk(sitk, brain) > 0.5, sitk.sitkUInt8)
    coarse = _coarse(sitk, image)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50] * 4)
    corrector.Execute(
        sitk.Resample(image, coarse, sitk.Transform(), sitk.sitkLinear, 0.0),
        sitk.Resample(mask, coarse, sitk.Transform(), sitk.sitkNearestNeighbor, 0),
    )
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return Scan(_to_array(sitk, image / field), scan.affine)


def _coarse(sitk: Any, image: Any) -> Any:
    """A grid of 4 mm over the same field, or the image's own spacing where that is coarser; at least 8 voxels an axis.

    Resampled and not thinned out by a whole factor, which would jump where a spacing crosses a rounding tie.
    """
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    wanted = np.maximum(spacing, np.minimum(4.0, spacing * size / 8))
    shape = np.maximum(1, np.ceil(spacing * size / wanted - 1e-6)).astype(int)
    grid = sitk.Image(shape.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(wanted.tolist())
    grid.SetDirection(image.GetDirection())
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    axes = np.array(image.GetDirection()).reshape(3, 3)
    grid.SetOrigin((middle - axes @ (wanted * (shape - 1) / 2)).tolist())
    return grid


def denoise(scan: Scan) -> Scan:
    """Curvature flow, 5 iterations of 0.125. The thesis denoises so and gives no number; the study's code takes 3."""
    flow = curvature_flow(scan.voxels.T, 5, 0.125, scan.spacing_mm[::-1])
    return Scan(flow.T, scan.affine)


@dataclass(frozen=True)
class Registration:
    """A linear transform between a scan's own grid and the atlas grid (1 mm, RAS+ ``atlas_affine``). Plain data.

    ``kind``: as in ``Preparation.register``. ``parameters`` and ``centre`` are SimpleITK's, of an Euler (rigid) or an
    affine transform.
    """

    kind: str
    parameters: tuple[float, ...]
    centre: tuple[float, ...]
    own_shape: tuple[int, int, int]
    own_affine: Affine

    @property
    def atlas_affine(self) -> Affine:
        return _atlas(self.kind).affine

    def to_atlas(self, voxels: NDArray[Any], nearest: bool = False) -> Float:
        """(x, y, z) of the scan -> (x, y, z) of the atlas; 0 outside the scan. Linear, or ``nearest`` for labels."""
        sitk = simpleitk()
        image, atlas = _to_itk(sitk, Volume(voxels, self.own_affine)), _to_itk(sitk, _atlas(self.kind))
        how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
        return _to_array(sitk, sitk.Resample(image, atlas, self._transform(sitk), how, 0.0))

    def to_scan(self, voxels: NDArray[Any]) -> Float:
        """The way back, exactly the scan's shape."""
        sitk = simpleitk()
        own = _to_itk(sitk, Volume(np.zeros(self.own_shape, np.float32), self.own_affine))
        image, inverse = _to_itk(sitk, Volume(voxels, self.atlas_affine)), self._transform(sitk).GetInverse()
        return _to_array(sitk, sitk.Resample(image, own, inverse, sitk.sitkLinear, 0.0))

    def itk_text(self) -> str:
        """An ITK transform file: from points of the atlas (LPS) to those of the scan, as brings images to the atlas."""
        name = "Euler3DTransform" if self.kind == "rigid" else "AffineTransform"
        numbers = (" ".join(map(repr, values)) for values in (self.parameters, self.centre))
        head = f"#Insight Transform File V1.0\n#Transform 0\nTransform: {name}_double_3_3\n"
        return head + "Parameters: {}\nFixedParameters: {}\n".format(*numbers)

    def _transform(self, sitk: Any) -> Any:
        transform = _empty(sitk, self.kind)
        transform.SetFixedParameters(self.centre)
        transform.SetParameters(self.parameters)
        return transform


def register(scan: Scan, brain: Mask, kind: str) -> Registration:
    """Register to the T1 of the atlas: Mattes mutual information, three levels, seeded.

    ``kind``: ``rigid`` or ``affine`` to ICBM 2009a, or ``sri24``, affine.
    """
    sitk = simpleitk()
    atlas = _to_itk(sitk, _atlas(kind))
    moving = _to_itk(sitk, Scan(scan.voxels * brain.voxels, scan.affine))
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    start = sitk.CenteredTransformInitializer(atlas, moving, _empty(sitk, kind), moments)
    method = _method(sitk)
    method.SetInitialTransform(start, inPlace=False)
    found = _execute(method, atlas, moving)
    return Registration(kind, found.GetParameters(), found.GetFixedParameters(), scan.shape, scan.affine)


def align(before: Scan, brain: Mask, after: Scan, its_brain: Mask) -> Affine:
    """The rigid transform (4, 4) from RAS+ mm of one scan of a head to those of another; found as by ``register``.

    It starts where the brains' centres meet, or where the headers place them, whichever fits better: of scans of one
    session, or of different parts of a head, the headers know more.
    """
    sitk = simpleitk()
    fixed = _to_itk(sitk, Scan(before.voxels * brain.voxels, before.affine))
    moving = _to_itk(sitk, Scan(after.voxels * its_brain.voxels, after.affine))
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    centred = sitk.Euler3DTransform(sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), moments))
    as_it_is = sitk.Euler3DTransform(centred)
    as_it_is.SetTranslation((0.0, 0.0, 0.0))
    method = _method(sitk)
    shares = [min(SHARE, SAMPLES * shrink**3 / before.voxels.size) for shrink in SHRINK]
    method.SetMetricSamplingPercentagePerLevel(shares, seed=SEED)
    method.SetInitialTransform(
        min((centred, as_it_is), key=lambda start: _misfit(sitk, fixed, moving, start)), inPlace=False
    )
    found = sitk.Euler3DTransform(sitk.CompositeTransform(_execute(method, fixed, moving)).GetNthTransform(0))
    lps = np.eye(4)
    lps[:3, :3] = np.array(found.GetMatrix()).reshape(3, 3)
    centre = np.array(found.GetCenter())
    lps[:3, 3] = centre + np.array(found.GetTranslation()) - lps[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.round(flip @ lps @ flip, 6)  # sums of several threads differ in the last digits


def _execute(method: Any, fixed: Any, moving: Any) -> Any:
    try:
        return method.Execute(fixed, moving)
    except RuntimeError as error:  # too few slices for the coarsest level, no contrast
        why = re.sub(r"\(0x\w+\)", "", str(error).splitlines()[-1]).rstrip(".")  # without addresses in memory
        raise DataError(f"cannot be registered ({why})", fix="Is this a whole brain?") from None


def _misfit(sitk: Any, fixed: Any, moving: Any, start: Any) -> float:
    method = _method(sitk)
    method.SetInitialTransform(start)
    try:
        return float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # the two do not overlap at all
        return float("inf")


def _method(sitk: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(48)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SHARE, seed=SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    return method


def require_atlas() -> None:
    """Before any work: ICBM 2009a and SimpleITK are here. Raises BackendError."""
    simpleitk()
    _icbm()


def _empty(sitk: Any, kind: str) -> Any:
    return sitk.Euler3DTransform() if kind == "rigid" else sitk.AffineTransform(3)


def _atlas(kind: str) -> Scan:
    return _sri24(os.environ.get(SRI24, "")) if kind == "sri24" else _icbm()


@cache
def _sri24(path: str) -> Scan:
    """The skull-stripped SRI24 T1 (Rohlfing et al. 2010; 240 x 240 x 155, 1 mm), which the user downloads."""
    fix = f"Download SRI24 from www.nitrc.org/projects/sri24, and set {SRI24} to its skull-stripped T1 (NIfTI)."
    if not path:
        raise BackendError("registration to SRI24 needs that atlas", SRI24, fix)
    atlas = read_scan(Path(path))
    if atlas.shape != SRI24_SHAPE or not np.allclose(atlas.spacing_mm, 1, atol=1e-3):
        found = f"{' x '.join(map(str, atlas.shape))} voxels of {' x '.join(f'{mm:g}' for mm in atlas.spacing_mm)} mm"
        raise DataError(f"is not SRI24, which has 240 x 240 x 155 voxels of 1 mm, but has {found}", path, fix)
    return Scan(atlas.voxels, atlas.affine)


@cache
def _icbm() -> Scan:
    """The skull-stripped T1 (197 x 233 x 189, 1 mm)."""
    found = icbm_map("t1")
    return Scan(found.voxels, found.affine)


def _to_itk(sitk: Any, volume: Volume) -> Any:
    """An ITK image, with origin, spacing and direction in LPS from the RAS+ affine."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T, dtype=np.float32))
    lps = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[:3]
    direction = lps[:, :3] / np.array(volume.spacing_mm)
    u, _, vt = np.linalg.svd(direction)  # ITK requires exactly orthonormal directions
    image.SetOrigin(lps[:, 3].tolist())
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection((u @ vt).ravel().tolist())
    return image


def _to_array(sitk: Any, image: Any) -> Float:
    return np.ascontiguousarray(sitk.GetArrayFromImage(image).T, dtype=np.float32)
