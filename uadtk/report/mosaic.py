"""Images of axial planes: scan, reconstruction, score and the outline of the mask."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.finding import Segmentation
from uadtk.core.volume import Mask
from uadtk.report.axial_views import Planes, canonical

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Red and blue are distinguishable with any colour vision, and from both white lesions and grey brain. In print without
# colours they are not: beside a finding, the others are dashed.
FOUND: Colour = (255, 64, 40)
OTHER: Colour = (60, 175, 255)  # other findings on a page; the true lesion in a mosaic
PAPER: Colour = (13, 16, 20)  # of a sheet of pictures, and its writing
BRIGHT: Colour = (235, 238, 242)
DIM: Colour = (150, 158, 168)
# Evenly spaced colours of matplotlib's "inferno", which is perceptually uniform.
_INFERNO = (0x000004, 0x1B0C41, 0x4A0C6B, 0x781C6D, 0xA52C60, 0xCF4446, 0xED6925, 0xFB9B06, 0xF7D13D, 0xFCFFA4)

# Pixel values 0..253 index a ramp of shades; the last two palette entries are the outlines' colours.
SHADES = 254
DASH = 4
_FOUND, _OTHER = 254, 255


def inferno() -> list[Colour]:
    """The colour map's anchors, evenly spaced from 0 to the highest score."""
    return [(c >> 16, c >> 8 & 255, c & 255) for c in _INFERNO]


def _palette(anchors: list[Colour]) -> Pixels:
    """(256, 3)"""
    at = np.linspace(0, len(anchors) - 1, SHADES)
    ramp = np.stack([np.interp(at, range(len(anchors)), channel) for channel in zip(*anchors, strict=True)], axis=1)
    return np.concatenate([ramp.round(), [FOUND, OTHER]]).astype(np.uint8)


GREY = _palette([(0, 0, 0), (255, 255, 255)])
HEAT = _palette(inferno())


def grey_pixels(planes: Planes, volume: NDArray[Any], k: int, size: tuple[int, int]) -> Pixels:
    """A plane in the scan's intensity window as palette indices, ``size`` (width, height) in pixels."""
    return shades(planes.plane(volume, k), *planes.grey, size)


def heat_pixels(planes: Planes, k: int, size: tuple[int, int]) -> Pixels:
    """The score as palette indices."""
    return shades(planes.plane(planes.score, k), 0.0, planes.heat, size)


def mask_pixels(
    planes: Planes, k: int, size: tuple[int, int], label: int = 0, truth: NDArray[Any] | None = None, width: int = 2
) -> Pixels:
    """The scan with the mask outlined; with ``label``, that finding in a brighter colour, the others dashed."""
    pixels = grey_pixels(planes, planes.scan, k, size)
    components = planes.plane(planes.components, k)
    if truth is not None:
        _outline(pixels, planes.plane(truth, k), _OTHER, width)
    if label:
        _outline(pixels, (components > 0) & (components != label), _OTHER, width, dash=DASH)
        _outline(pixels, components == label, _FOUND, width)
    else:
        _outline(pixels, components > 0, _FOUND, width)
    return pixels


def png(pixels: Pixels, palette: Pixels | None = None) -> bytes:
    """A PNG with one byte per pixel and ``palette`` (256, 3), or greyscale without one (20 % smaller)."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    return _encoded(picture, compress_type=3)  # zlib.Z_RLE: as small as full compression, in a fraction of the time


def picture(segmentation: Segmentation, truth: Mask | None = None) -> bytes:
    """Scan, reconstruction (if any), score and mask of the most informative axial plane, as one PNG with captions.

    The plane is the one with the largest area of ``truth``; without it, that of the largest finding or highest score.

    Raises
    ------
    DataError
        ``truth`` is not on the scan's grid.
    """
    from PIL import Image, ImageDraw

    if truth is not None and not truth.same_grid(segmentation.scoring.scan):
        raise DataError("is not on the scan's grid", "truth")
    planes = Planes.of(segmentation)
    known = None if truth is None else canonical(truth)[0]
    k = _best_plane(planes, segmentation, known)
    size = width, height = planes.size_px(400)
    panels: list[tuple[str, Pixels]] = [("scan", GREY[grey_pixels(planes, planes.scan, k, size)])]
    if planes.reconstruction is not None:
        panels.append(("reconstruction", GREY[grey_pixels(planes, planes.reconstruction, k, size)]))
    panels.append(("score", HEAT[heat_pixels(planes, k, size)]))
    panels.append(("mask", GREY[mask_pixels(planes, k, size, truth=known)]))

    gap, head, foot = 14, 40, 40
    sheet = Image.new("RGB", (gap + len(panels) * (width + gap), head + height + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = _font(19), _font(15)
    under = head + height + foot // 2
    for i, (name, pixels) in enumerate(panels):
        left = gap + i * (width + gap)
        sheet.paste(Image.fromarray(pixels), (left, head))
        draw.text((left + width // 2, head // 2), name, BRIGHT, font, anchor="mm")
        if i == 0:
            draw.text((left + 8, head + 6), "R", BRIGHT, small, anchor="la")
            draw.text((left + width - 8, head + 6), "L", BRIGHT, small, anchor="ra")
            draw.text((left + width // 2, under), f"axial, z = {planes.height_mm(k):.0f} mm", DIM, small, anchor="mm")
        if name == "score":
            _colour_bar(sheet, draw, left, under, width, planes.heat, segmentation.point.threshold, small)
        if name == "mask":
            words = [("found", FOUND)] if known is None else [("found", FOUND), ("true lesion", OTHER)]
            for j, (word, colour) in enumerate(words):
                at = left + width * (2 * j + 1) // (2 * len(words))
                draw.text((at, under), word, colour, small, anchor="mm")
    return _encoded(sheet)


def thumbnail(segmentation: Segmentation, longest: int = 96, planes: Planes | None = None) -> bytes:
    """The axial plane of the most suspicious finding, or of the highest score, with the mask outlined; a small PNG."""
    planes = planes or Planes.of(segmentation)
    first = max(segmentation.findings, key=lambda finding: finding.peak, default=None)
    k = planes.highest()[2] if first is None else planes.peak(first)[2]
    return png(mask_pixels(planes, k, planes.size_px(longest), width=1), GREY)


def _best_plane(planes: Planes, segmentation: Segmentation, truth: NDArray[Any] | None) -> int:
    if truth is not None and truth.any():
        return int(truth.sum(axis=(0, 1)).argmax())
    if segmentation.findings:
        return planes.finding(segmentation.findings[0])[2]
    return planes.highest()[2]


def _colour_bar(
    sheet: Image.Image, draw: Any, left: int, middle: int, width: int, heat: float, threshold: float, font: Any
) -> None:
    """The colour scale from 0 to the highest score, with a white tick at the threshold."""
    from PIL import Image

    top = f"{heat:.2g}"
    start, length = left + 22, width - 34 - round(font.getlength(top))
    ramp = np.tile(np.linspace(0, SHADES - 1, length).round().astype(np.uint8), (10, 1))
    sheet.paste(Image.fromarray(HEAT[ramp]), (start, middle - 5))
    tick = start + round(length * min(max(threshold / heat, 0.0), 1.0))
    draw.line((tick, middle - 9, tick, middle + 8), (255, 255, 255), 2)
    draw.text((left + 6, middle), "0", DIM, font, anchor="lm")
    draw.text((left + width - 4, middle), top, DIM, font, anchor="rm")


def shades(plane: NDArray[Any], low: float, high: float, size: tuple[int, int]) -> Pixels:
    """A plane from ``low`` to ``high`` as palette indices, ``size`` (width, height) in pixels."""
    from PIL import Image

    scaled = (plane.astype(np.float32) - np.float32(low)) * np.float32((SHADES - 1) / (high - low))
    small = np.clip(scaled, 0, SHADES - 1).astype(np.uint8)
    resized: Pixels = np.array(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    np.minimum(resized, SHADES - 1, out=resized)  # bicubic may overshoot into the outlines' colours
    return resized


def _outline(pixels: Pixels, region: NDArray[Any], colour: int, width: int, dash: int = 0) -> None:
    """Draw an outline around ``region`` without covering it, even for voxels smaller than a pixel.

    ``dash``: length of dashes and gaps in pixels, 0 for a line without gaps.
    """
    from PIL import Image

    if not region.any():
        return
    height, length = pixels.shape
    small = Image.fromarray(region.astype(np.uint8) * np.uint8(255))
    inside = np.asarray(small.resize((length, height), Image.Resampling.BOX)) > 0
    grown = inside
    for _ in range(width):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    line = grown & ~inside
    if dash:
        line &= np.add.outer(np.arange(height), np.arange(length)) // dash % 2 == 0
    pixels[line] = colour


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _encoded(image: Image.Image, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()
