from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from uadtk.core.errors import DataError
from uadtk.core.volume import Mask
from uadtk.report.axial_views import Planes
from uadtk.report.mosaic import FOUND, OTHER, grey_pixels, mask_pixels, picture

BOX = np.s_[8:14, 30:36, 14:17]


def opened(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def columns_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Columns above the captions in which a colour appears."""
    return np.flatnonzero((image[:440] == colour).all(axis=2).any(axis=0))


def test_picture_outlines_what_was_found_and_the_truth(make) -> None:
    segmentation = make(lesions=(BOX,))
    truth = np.zeros(segmentation.mask.shape, bool)
    truth[24:30, 30:36, 20:23] = True  # missed, right side, another plane: the picture shows the plane with the truth
    with_truth = opened(picture(segmentation, Mask(truth, segmentation.mask.affine)))
    assert len(columns_of(with_truth, FOUND)) == 0
    truth[:, :, 15] |= truth[:, :, 20]
    truth[20:24, 30:36, 15] = True
    image = opened(picture(segmentation, Mask(truth, segmentation.mask.affine)))
    found, true = columns_of(image, FOUND), columns_of(image, OTHER)
    panel = image.shape[1] * 3 // 4
    assert panel < true.min() < true.max() < found.min()  # low x is the patient's left: on the right
    without = opened(picture(segmentation))
    assert len(columns_of(without, OTHER)) == 0
    assert len(columns_of(without, FOUND)) > 0


def test_picture_is_stable_and_narrower_without_reconstruction(make) -> None:
    assert picture(make(lesions=(BOX,))) == picture(make(lesions=(BOX,)))
    four, three = (opened(picture(make(lesions=(BOX,), reconstruction=r))) for r in (True, False))
    assert three.shape[0] == four.shape[0]
    assert three.shape[1] == pytest.approx(four.shape[1] * 3 / 4, rel=0.02)


def test_picture_without_findings(make) -> None:
    assert opened(picture(make())).shape[2] == 3


def test_truth_on_another_grid_is_refused(make) -> None:
    segmentation = make()
    with pytest.raises(DataError, match=r"truth: is not on the scan's grid"):
        picture(segmentation, Mask(segmentation.mask.voxels[1:], segmentation.mask.affine))


def test_smallest_finding_keeps_its_outline_when_the_picture_is_small(make) -> None:
    planes = Planes.of(make(shape=(200, 200, 9), spacing=(0.5, 0.5, 5.0), lesions=(np.s_[77:78, 111:112, 4:5],)))
    pixels = mask_pixels(planes, 4, planes.size_px(60), label=1)
    assert (pixels == 254).any()


def test_this_finding_and_the_others_differ(make) -> None:
    planes = Planes.of(make(lesions=(BOX, np.s_[26:30, 20:24, 14:17])))
    size = planes.size_px(200)
    assert {254, 255} <= set(np.unique(mask_pixels(planes, 15, size, label=1)))
    assert 255 not in mask_pixels(planes, 15, size)
    others = mask_pixels(planes, 15, size, label=1) == 255  # dashed, for print without colours
    assert 0.35 < others.sum() / (mask_pixels(planes, 15, size, label=2) == 254).sum() < 0.65
    assert grey_pixels(planes, planes.scan, 15, size).max() < 254  # no overshoot into the outlines' colours


def test_window_and_colours_follow_brain_and_threshold(make) -> None:
    planes = Planes.of(make(lesions=(BOX,), threshold=2.0))
    assert planes.heat == 3.0
    assert planes.grey == pytest.approx((1.0, 3.0))
    assert Planes.of(make(lesions=(BOX,), threshold=0.2)).heat == pytest.approx(0.9)


def test_crop_is_the_brain_with_a_margin(make) -> None:
    planes = Planes.of(make(shape=(60, 80, 20), spacing=(1.0, 2.0, 4.0)))
    assert planes.low == (0, 2, 2)  # brain from (4, 5, 2); 6 mm are 6 and 3 voxels
    assert planes.high == (60, 78, 18)
    assert planes.size_mm == (60.0, 152.0)
    assert planes.size_px(300) == (118, 300)


@pytest.mark.parametrize(("count", "expected"), [(4, [4, 8, 12, 16]), (100, list(range(2, 18)))])
def test_overview_is_spread_through_the_brain(make, count: int, expected: list[int]) -> None:
    assert Planes.of(make(shape=(20, 20, 20))).spread(count) == expected
