"""The images of a benchmark's mosaic: plane, colours, layout of the panels."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from uadtk.core.errors import DataError
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.report.mosaic import OTHER
from uadtk.report.mosaic_strips import Case, case, head, strip

BOX = np.s_[8:14, 30:36, 14:17]
SIDE = 154


def opened(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("PNG", "P")  # one byte per pixel
    return np.asarray(image.convert("RGB")).astype(int)


def truth(scan: Scan, *boxes: tuple[slice, slice, slice]) -> Mask:
    voxels = np.zeros(scan.shape, bool)
    for box in boxes:
        voxels[box] = True
    return Mask(voxels, scan.affine)


def made(make, **options) -> Case:
    scoring = make(lesions=(BOX,), **options).scoring
    return case(scoring, truth(scoring.scan, BOX))


def flat(score: float, heat: float, reconstruction: bool = True) -> Case:
    grey = np.full((100, 150), 200, np.uint8)
    return Case(grey, grey, grey if reconstruction else None, np.full((20, 30), score, np.float32), heat)


def test_the_plane_is_the_one_with_most_of_the_truth(make) -> None:
    scoring = make(lesions=(BOX,)).scoring  # scored high in planes 14 to 16
    at = case(scoring, truth(scoring.scan, np.s_[20:22, 20:22, 2:9], np.s_[20:24, 20:24, 15:16]))
    assert at.score.max() == np.float32(0.9)
    elsewhere = case(scoring, truth(scoring.scan, np.s_[20:22, 20:22, 8:9]))
    assert elsewhere.score.max() == np.float32(0.1)


def test_without_a_lesion_the_plane_is_in_the_middle_of_the_brain_whatever_the_score(make) -> None:
    scoring = make().scoring
    planes = np.arange(30, dtype=np.float32)[None, None] * np.ones((40, 50, 1), np.float32)
    assert (
        np.unique(case(replace(scoring, score=ScoreMap(planes, scoring.scan.affine)), truth(scoring.scan)).score) == 15
    )


def test_a_case_keeps_no_volume(make) -> None:
    kept = made(make)
    arrays: list[np.ndarray | None] = [kept.scan, kept.marked, kept.reconstruction, kept.score]
    assert all(array is not None and (array.base is None or array.base.ndim == 2) for array in arrays)
    assert sum(array.nbytes for array in arrays if array is not None) < 100_000


def test_the_head_shows_scans_above_scans_with_the_truth_outlined(make) -> None:
    image = opened(head([made(make), made(make)]))
    assert image.shape == (2 * SIDE, 2 * SIDE, 3)
    rows, columns = np.nonzero((image == OTHER).all(axis=2))
    assert rows.min() > SIDE
    assert {int(c) for c in columns // SIDE} == {0, 1}
    assert columns[columns < SIDE].min() > SIDE / 2  # low x is the patient's left: on the right


def test_orientation_on_disk_does_not_matter(make) -> None:
    stored = make(lesions=(BOX,), codes="RAS").scoring, make(lesions=(BOX,), codes="LPI").scoring
    marks = [Mask(one.score.voxels > 0.5, one.scan.affine) for one in stored]
    first, second = (head([case(one, mark)]) for one, mark in zip(stored, marks, strict=True))
    assert first == second


def test_scores_of_a_strip_share_one_scale() -> None:
    image = opened(strip([flat(1.0, 1.0), flat(1.0, 2.0), flat(2.0, 2.0)]))
    assert image.shape == (2 * SIDE, 3 * SIDE, 3)
    middle = [image[SIDE + SIDE // 2, SIDE // 2 + i * SIDE].tolist() for i in range(3)]
    assert middle[0] == middle[1] != middle[2]
    assert middle[2] == pytest.approx((252, 255, 164), abs=4)  # the brightest colour of inferno
    assert sum(middle[0]) < sum(middle[2])


def test_reconstructions_are_grey_and_an_empty_panel_stands_for_none() -> None:
    image = opened(strip([flat(1.0, 1.0), flat(1.0, 1.0, reconstruction=False)]))
    with_one, without = image[SIDE // 2, SIDE // 2], image[SIDE // 2, SIDE // 2 + SIDE]
    assert with_one.tolist() == pytest.approx([200 * 255 / 253] * 3, abs=2)
    assert without.tolist() == pytest.approx([16] * 3, abs=2)
    assert image[0, 0].tolist() == [0, 0, 0]  # 150 x 100 pixels are centred in a square panel


def test_the_reconstruction_is_in_the_scans_window(make) -> None:
    segmentation = make(lesions=(BOX,))
    scoring = segmentation.scoring
    same = replace(scoring, maps={"reconstruction": Volume(scoring.scan.voxels, scoring.scan.affine)})
    one = case(same, truth(scoring.scan, BOX))
    assert one.reconstruction is not None
    assert np.array_equal(one.reconstruction, one.scan)
    assert made(make, reconstruction=False).reconstruction is None


def test_strips_are_small(make) -> None:
    cases = [made(make, noise=0.1) for _ in range(4)]
    assert len(strip(cases)) < 80_000
    assert strip(cases) == strip(cases)


def test_truth_on_another_grid_is_no_truth_of_the_scan(make) -> None:
    scoring = make().scoring
    with pytest.raises(DataError, match=r"truth: is not on the scan's grid"):
        case(scoring, Mask(np.zeros((2, 2, 2), bool), scoring.scan.affine))


def test_a_score_of_zero_everywhere_is_black(make) -> None:
    scoring = make().scoring
    none = replace(scoring, score=ScoreMap(np.zeros(scoring.scan.shape, np.float32), scoring.scan.affine))
    one = case(none, truth(scoring.scan))
    assert math.isfinite(one.heat)
    assert opened(strip([one]))[SIDE:].max() < 5
