"""What is refused, and what is noted, before two results are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from uadtk.core.errors import DataError, UsageError
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.pipeline.compare import ALIKE, compare, differences, judged, refuse_unlike
from uadtk.preparation.agreement import Agreement
from uadtk.report.change import Exam


def provenance(name: str = "a", **options: Any) -> dict[str, Any]:
    return {
        "input": {"path": f"{name}.nii.gz", "sha256": name},
        "checkpoint": {"digest": "ab"},
        "versions": {"uadtk": "0.1.0"},
        "brain_source": "given",
        "gate": {"light": "green", "reasons": []},
        "options": {**{key: {"name": key, "date": "2026-01-01"} for key in ALIKE}, **options},
    }


def exam(record: dict[str, Any], spacing: tuple[float, float, float] = (1, 1, 3)) -> Exam:
    affine, ones = np.diag([*spacing, 1.0]), np.ones((4, 4, 4), np.float32)
    return Exam("x", Scan(ones, affine), Mask(ones > 0, affine), Volume(ones.astype(int), affine), record)


@pytest.mark.parametrize(
    ("detail", "overlap", "covered", "refused", "doubted"),
    [
        (0.9, 0.95, 1.0, 0, 0),
        (0.6, 0.95, 1.0, 0, 1),
        (0.4, 0.95, 1.0, 1, 0),
        (0.9, 0.85, 0.5, 0, 2),
        (0.9, 0.7, 0.2, 2, 0),
        (0.0, 0.0, 0.0, 3, 0),
        (-0.9, 1.0, 1.0, 1, 0),
    ],
)
def test_what_speaks_against_one_head(
    detail: float, overlap: float, covered: float, refused: int, doubted: int
) -> None:
    found = judged(Agreement(detail, overlap, (1.0, covered)))
    assert tuple(map(len, found)) == (refused, doubted)
    assert found == judged(Agreement(detail, overlap, (covered, 1.0)))


def test_results_of_other_options_are_refused_and_dates_are_not_options() -> None:
    refuse_unlike(provenance(), provenance("b", point={"name": "point", "date": "2026-02-02"}))
    for key in ALIKE:
        with pytest.raises(UsageError, match=f"another {key}"):
            refuse_unlike(provenance(), provenance("b", **{key: {"name": "other"}}))
    with pytest.raises(UsageError, match="another checkpoint, model"):
        refuse_unlike(provenance(), {**provenance("b", model=None), "checkpoint": {"digest": "cd"}})
    with pytest.raises(DataError, match="are the same scan"):
        refuse_unlike(provenance(), provenance())


def test_differences_that_do_not_refuse_are_noted() -> None:
    usual = exam(provenance())
    assert differences(usual, exam(provenance("b"), (1.05, 1.05, 3))) == []
    (voxels,) = differences(usual, exam(provenance("b"), (1, 1, 5)))
    assert "1 x 1 x 3 and 1 x 1 x 5 mm" in voxels
    assert len(differences(usual, exam(provenance("b"), (0.5, 0.5, 3)))) == 1
    other = provenance("b") | {"versions": {"uadtk": "0.2.0"}, "brain_source": "deepbet"}
    other["gate"] = {"light": "amber", "reasons": [{"what": "noise"}, {"what": "ghosts\n"}]}
    assert differences(usual, exam(other)) == [
        "they were segmented by uadtk 0.1.0 and 0.2.0",
        "their brain masks are from other sources: given and deepbet",
        "x is amber: noise; ghosts\\n",
    ]


def test_scans_that_cannot_be_aligned_are_named() -> None:
    pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")
    with pytest.raises(DataError, match=r"^a\.nii\.gz, b\.nii\.gz: cannot be registered"):
        compare(exam(provenance()), exam(provenance("b")), Run())
