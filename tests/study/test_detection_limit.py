"""Detection limits on small scans: what is found, what is written, resumed runs, and bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from torch import Tensor

from tests.scans import SMALL_AFFINE, ball, patients
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.scorer import Scored
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.pipeline.point import uncalibrated
from uadtk.pipeline.score import Method
from uadtk.study import detection_limit
from uadtk.study.detection_limit import Question, usable_rows
from uadtk.study.limits import OUTPUTS, Limits, detection_limits

SMALL = Question((8.0, 20.0), (0.5, 1.0), 1)


class Bright:
    """What is brighter than the flat brain: in a scan of two even tissues, the implants alone."""

    needs = ()

    def __init__(self, above: float) -> None:
        self.above = above

    def score(self, _: Any, x: Tensor, __: Tensor) -> Scored:
        return Scored((x - self.above).clamp(min=0))


class Blind:
    needs = ()

    def score(self, _: Any, x: Tensor, __: Tensor) -> Scored:
        return Scored(x * 0)


class Everything:
    needs = ()

    def score(self, _: Any, x: Tensor, brain: Tensor) -> Scored:
        return Scored(x * 0 + brain)


def method(scorer: Any) -> Method:
    return Method(checkpoints.new("histeq", {}, Preparation(), cleaners=()), (None,), scorer, ())


def point(of: Method, threshold: float = 0.02) -> OperatingPoint:
    return replace(uncalibrated(of.checkpoint, "given", threshold, "chosen"), min_voxels=1)


def flat_brain(seed: int) -> np.ndarray:
    """Tissue of one intensity with noise, and dark ventricles."""
    shape = (44, 52, 24)
    image = 500 + 10 * np.random.default_rng(seed).standard_normal(shape)
    image[ball(shape, 0.2)] = 150
    return np.where(ball(shape, 0.95), image, 0).astype(np.float32)


def cohort(folder: Path, count: int = 2) -> Cohort:
    rows = []
    for i in range(count):
        nib.save(nib.Nifti1Image(flat_brain(i), SMALL_AFFINE), folder / f"h{i}.nii.gz")
        rows.append(Row(f"h{i}", folder / f"h{i}.nii.gz", group="healthy"))
    return Cohort(tuple(rows), str(folder))


def measured(scorer: Any, scans: Cohort, folder: Path, question: Question = SMALL, **run: Any) -> Limits:
    built = method(scorer)
    return detection_limits(built, point(built), scans, question, folder, Run(**run))


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Limits, Path, list[str]]:
    folder, said = tmp_path_factory.mktemp("oracle"), list[str]()
    return measured(Bright(1.05), cohort(folder), folder / "out", say=said.append), folder / "out", said


def test_a_model_that_sees_the_implants_finds_all(found: tuple[Limits, Path, list[str]]) -> None:
    limits, out, said = found
    planted = table(out / "limits.tsv")
    assert len(planted) == sum(len(scan.planted) for scan in limits.measured) == 2 * 2 * 2 * 3
    assert [one["found"] for one in planted] == ["1"] * 24
    for one in planted:
        size = float(one["size_mm"])
        assert float(one["volume_ml"]) == pytest.approx(np.pi / 6000 * size**3, rel=0.05)
        assert float(one["overlap"]) > 0.5
        assert float(one["peak"]) > 0.02
    cells = table(out / "sensitivity.tsv")
    assert len(cells) == 4 * 2 * 2
    assert {cell["sensitivity"] for cell in cells} == {"1.0000"}
    assert [cell["planted"] for cell in cells] == ["6"] * 4 + ["2"] * 12
    assert 0.2 < float(cells[0]["low"]) < 0.9
    record = json.loads((out / "limits.json").read_text())
    assert record["smallest_found_mm"] == {"0.5": 8.0, "1": 8.0}
    assert record["false_findings_per_scan"] == 0
    assert [line.split(":")[0] for line in said if "/2 " in line] == ["1/2 h0", "2/2 h1"]
    assert "are found at every size tested: of 8 mm, 0 % are missed." in limits.missed[0]
    assert sorted(path.name for path in out.iterdir()) == [*OUTPUTS[:3], "scans", OUTPUTS[3]]


def test_the_page_shows_it_once_and_loads_nothing(found: tuple[Limits, Path, list[str]]) -> None:
    page = (found[1] / "limits.html").read_text()
    assert page.count("Not a medical device") == 1
    assert page.count('<td class="reliable"') == 16
    assert page.count("data:image/png;base64,") == 2  # one found of each size
    assert "http" not in page.replace("http-equiv", "")
    assert "what this model would miss in your scans" in page.lower()


def test_a_blind_model_finds_none(tmp_path: Path) -> None:
    limits = measured(Blind(), cohort(tmp_path), tmp_path / "out")
    assert {cell.found for cell in limits.cells} == {0}
    assert all("missed too often at every size: even of 20 mm, all are missed" in line for line in limits.missed[:2])
    assert limits.missed[2].endswith("misses 100 % at the rim, 100 % deep in the brain and 100 % at the base.")


def test_a_seed_gives_the_same_bytes_and_another_seed_other_implants(
    found: tuple[Limits, Path, list[str]], tmp_path: Path
) -> None:
    scans = cohort(tmp_path)
    measured(Bright(1.05), scans, tmp_path / "again")
    for name in ("limits.tsv", "sensitivity.tsv", "limits.html"):
        assert (tmp_path / "again" / name).read_bytes() == (found[1] / name).read_bytes()
    measured(Bright(1.05), Cohort(scans.rows[:1], ""), tmp_path / "other", seed=1)
    assert table(tmp_path / "other" / "limits.tsv")[0] not in table(found[1] / "limits.tsv")


def test_a_resumed_run_is_one_without_interruption(
    found: tuple[Limits, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = cohort(tmp_path), tmp_path / "out"
    whole = detection_limit._measured

    def interrupted(row: Row, *rest: Any) -> Any:
        if row.subject == "h1":
            raise KeyboardInterrupt
        return whole(row, *rest)

    monkeypatch.setattr(detection_limit, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(Bright(1.05), scans, out)
    assert [path.name for path in out.iterdir()] == ["scans"]
    done: list[str] = []
    monkeypatch.setattr(detection_limit, "_measured", lambda row, *rest: done.append(row.subject) or whole(row, *rest))
    said: list[str] = []
    measured(Bright(1.05), scans, out, say=said.append)
    assert done == ["h1"]
    assert "1/2 h0: measured before" in said
    for name in ("limits.tsv", "sensitivity.tsv", "limits.html"):
        assert (out / name).read_bytes() == (found[1] / name).read_bytes()


def test_what_is_marked_anyway_is_no_detection(tmp_path: Path) -> None:
    """A bright spot in a healthy scan is a false finding, and no implant is put near it."""
    image = flat_brain(0)
    spot = ball(image.shape, 0.2, (0.2, 0.1, 0.1))
    image[spot] = 1000
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE), tmp_path / "spot.nii.gz")
    limits = measured(Bright(1.3), Cohort((Row("spot", tmp_path / "spot.nii.gz"),), ""), tmp_path / "out")
    (scan,) = limits.measured
    assert scan.false_findings == 1
    assert 0 < scan.marked < 0.02
    places = np.argwhere(spot) @ SMALL_AFFINE[:3, :3].T + SMALL_AFFINE[:3, 3]
    for one in scan.planted:
        near = np.linalg.norm(places - np.array(one.centre_mm), axis=1).min()
        assert near > one.size_mm / 2


def test_known_lesions_are_left_alone(tmp_path: Path) -> None:
    image = flat_brain(0)
    lesion = ball(image.shape, 0.3, (0.15, 0.1, 0.1))
    image[lesion] = 1000
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE), tmp_path / "p.nii.gz")
    nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), tmp_path / "lesion.nii.gz")
    row = Row("p", tmp_path / "p.nii.gz", lesion_mask=tmp_path / "lesion.nii.gz", group="ms")
    limits = measured(Bright(1.3), Cohort((row,), ""), tmp_path / "out")
    (scan,) = limits.measured
    assert scan.false_findings == 0
    assert scan.free_ml < 0.95 * np.count_nonzero(image) * 0.045
    slices = replace(row, lesion_mask=None, lesion_free_slices=tuple(range(4)))
    (other,) = measured(Bright(1.3), Cohort((slices,), ""), tmp_path / "slices", Question((8.0,), (1.0,), 1)).measured
    assert {round((one.centre_mm[2] + 60) / 5) for one in other.planted} <= {1, 2, 3}
    assert {place for _, _, place in other.left_out} <= {"rim", "deep"}


def test_a_scan_that_fails_costs_itself(tmp_path: Path) -> None:
    scans, said = cohort(tmp_path), list[str]()
    rows = (*scans.rows, Row("gone", tmp_path / "gone.nii.gz"))
    limits = measured(Bright(1.05), Cohort(rows, ""), tmp_path / "out", say=said.append)
    assert limits.failed == 1
    assert any(line.startswith("gone: failed: ") for line in said)
    assert "Scans that could not be used: 1." in (tmp_path / "out" / "limits.html").read_text()


def test_a_scan_that_changes_while_it_is_measured_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers would be stored under the digest of other bytes."""
    from uadtk.study import detection_limit

    scans, said, real = cohort(tmp_path), list[str](), detection_limit._measured

    def changing(row: Row, *rest: Any) -> Any:
        made = real(row, *rest)
        if row.subject == "h1":
            nib.save(nib.Nifti1Image(flat_brain(9), SMALL_AFFINE), row.image)
        return made

    monkeypatch.setattr(detection_limit, "_measured", changing)
    limits = measured(Bright(1.05), scans, tmp_path / "out", say=said.append)
    assert limits.failed == 1
    assert any(line.startswith("h1: failed: ") and "changed while it was read" in line for line in said)
    assert len(list((tmp_path / "out" / "scans").iterdir())) == 1


def test_the_same_scan_twice_counts_once(tmp_path: Path) -> None:
    scans = cohort(tmp_path, 1)
    copy = tmp_path / "copy.nii"
    nib.save(nib.load(scans.rows[0].image), copy)
    measured(Bright(1.05), scans, tmp_path / "out")
    for file in OUTPUTS:
        (tmp_path / "out" / file).unlink()  # as if it had been interrupted: the copy is found all the same
    said: list[str] = []
    twice = Cohort((*scans.rows, Row("copy", copy)), "")
    limits = measured(Bright(1.05), twice, tmp_path / "out", say=said.append)
    assert (len(limits.measured), limits.failed) == (1, 1)
    assert "1/2 h0: measured before" in said


@pytest.mark.parametrize(
    ("image", "scorer", "words"),
    [
        (lambda: flat_brain(0), Everything(), "100 % of them are marked without implants"),
        (
            lambda: np.where(ball((44, 52, 24), 0.75), flat_brain(0), 0),
            Bright(2),
            "has no room for an implant of 95 mm",
        ),
    ],
    ids=["everything is marked", "small brain"],
)
def test_no_room(tmp_path: Path, image: Callable[[], np.ndarray], scorer: Any, words: str) -> None:
    nib.save(nib.Nifti1Image(image().astype(np.float32), SMALL_AFFINE), tmp_path / "s.nii.gz")
    with pytest.raises(DataError) as caught:
        measured(scorer, Cohort((Row("s", tmp_path / "s.nii.gz"),), ""), tmp_path / "out", Question((95.0,), (1.0,)))
    assert words in caught.value.one_line()
    assert not (tmp_path / "out").exists()


def test_patients_without_masks_are_not_lesion_free(tmp_path: Path) -> None:
    rows, said = read_cohort(patients(tmp_path)), list[str]()
    assert {row.subject for row in usable_rows(rows, Run(say=said.append))} == {f"p{i}" for i in range(7)}
    assert said == ["1 scans of patients without a lesion mask are left out: nothing says where they are healthy"]
    with pytest.raises(DataError, match="no lesion-free scan: these are of patients without lesion masks"):
        usable_rows(rows.where(collection="unmarked"), Run())


@pytest.mark.parametrize(
    ("sizes", "contrasts", "words"),
    [
        ((), (0.5,), "sizes must be given"),
        ((5.0, 5.0), (0.5,), "sizes must be given, each once"),
        ((0.1,), (0.5,), "no implant can have 0.1 mm"),
        ((float("nan"),), (0.5,), "no implant can have nan mm"),
        ((5.0,), (0.0,), "a contrast of \\+0 %"),
        ((5.0,), (-2.0,), "a contrast of -200 %"),
    ],
)
def test_impossible_questions(sizes: tuple[float, ...], contrasts: tuple[float, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Question(sizes, contrasts)


def test_few_subjects_get_more_implants_each() -> None:
    assert [Question().for_subjects(n).repeats for n in (1, 2, 5, 9, 10, 50)] == [5, 5, 2, 2, 1, 1]
    assert Question(repeats=3).for_subjects(1).repeats == 3
