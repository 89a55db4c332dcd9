"""The picture of the most suspicious findings, for DICOM secondary captures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uadtk.report.key_slices import GAP, SHOWN, key_slices
from uadtk.report.mosaic import FOUND, OTHER

LEFT, RIGHT = np.s_[8:14, 30:36, 14:17], np.s_[26:32, 30:36, 20:23]


def columns_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Columns below the title in which a colour appears."""
    return np.flatnonzero((picture[80:] == colour).all(axis=2).any(axis=0))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_the_highest_peak_comes_first_and_the_patients_left_is_on_the_right(make, codes) -> None:
    result = make(lesions=(LEFT, RIGHT), codes=codes)
    second = replace(result.findings[1], peak=0.95)
    result = replace(result, findings=(result.findings[0], second))
    picture = key_slices(result, "title", "Research use only.")
    assert picture.dtype == np.uint8
    panel = (columns_of(picture, FOUND) - GAP) // ((picture.shape[1] - GAP) // 2)
    assert set(panel) == {0, 1}
    first = columns_of(picture, FOUND)[panel == 0]  # x of 26 to 32 of 40: the patient's right half in RAS
    assert first.max() < GAP + (picture.shape[1] - GAP) // 4


def test_other_findings_of_a_plane_are_outlined_differently(make) -> None:
    lesions = (LEFT, np.s_[26:32, 30:36, 14:17])
    picture = key_slices(make(lesions=lesions), "title", "use")
    assert len(columns_of(picture, FOUND)) > 0
    assert len(columns_of(picture, OTHER)) > 0


def test_without_findings_planes_spread_through_the_brain_are_shown(make) -> None:
    picture = key_slices(make(), "title", "use")
    assert len(columns_of(picture, FOUND)) == len(columns_of(picture, OTHER)) == 0
    assert picture.shape[0] > picture.shape[1] / 3


def test_many_findings_one_slice_and_long_titles_fit(make) -> None:
    lesions = tuple(
        np.s_[6 + 3 * (n % 8) : 8 + 3 * (n % 8), 10 + 6 * (n // 8) : 12 + 6 * (n // 8), 8:10] for n in range(24)
    )
    many = key_slices(make(lesions=lesions), "title " * 50, "use")
    assert many.shape == key_slices(make(lesions=lesions[:SHOWN]), "title", "use").shape
    assert key_slices(make(shape=(40, 50, 5)), "title", "use").ndim == 3
