from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest

from tests.report.conftest import point
from uadtk.core.finding import Finding, Scoring, Segmentation
from uadtk.core.text import shown
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.kernels import label_components
from uadtk.report import viewer as viewers
from uadtk.report.axial_views import Planes
from uadtk.report.listing import LISTED, listing
from uadtk.report.page import report_html
from uadtk.report.viewer import Viewer, slider, viewer


def made(segmentation: Segmentation) -> Viewer:
    return viewer(segmentation, Planes.of(segmentation), listing(segmentation).all, "scan")


def volume(shown: Viewer, name: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(shown.volumes[name])))


@pytest.fixture
def blotchy(make) -> Segmentation:
    """Blobs of many sizes and scores."""
    from scipy.ndimage import gaussian_filter

    segmentation = make(threshold=0.3)
    noise = gaussian_filter(np.random.default_rng(1).standard_normal(segmentation.mask.shape), 1.2)
    score = np.clip(noise / noise.max(), 0, None).astype(np.float32) * segmentation.scoring.brain.voxels
    scoring = replace(segmentation.scoring, score=ScoreMap(score, segmentation.mask.affine))
    return replace(segmentation, scoring=scoring, min_voxels=5)


def test_counts_are_those_of_labelling_at_every_position(blotchy) -> None:
    settings = json.loads(made(blotchy).settings)
    thresholds = np.array(settings["thresholds"], np.float32)
    assert thresholds[settings["start"]] == np.float32(0.3)
    score = blotchy.scoring.score.zyx
    counts = [label_components(score > t, 26, 5) for t in thresholds]
    assert settings["findings"] == [count for _, count in counts]
    assert settings["voxels"] == [int(np.count_nonzero(labels)) for labels, _ in counts]
    assert max(settings["findings"]) > 20
    assert settings["voxel_ml"] == pytest.approx(0.064)


def test_levels_draw_the_voxels_above_each_threshold(blotchy) -> None:
    shown = made(blotchy)
    thresholds = np.array(json.loads(shown.settings)["thresholds"], np.float32)
    levels = volume(shown, "score")
    inverse = np.linalg.inv(blotchy.mask.affine) @ levels.affine
    first = np.round(inverse[:3, 3]).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(first, levels.shape, strict=True))
    score = blotchy.scoring.score.voxels[box]
    for k in (0, 40, len(thresholds) - 1):
        assert ((np.asarray(levels.dataobj) > k) == (score > thresholds[k])).all()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_volumes_lie_where_the_scan_lies(make, codes: str) -> None:
    lesion = np.s_[8:11, 36:39, 14:17]
    segmentation = make(lesions=(lesion,), codes=codes)
    shown = made(segmentation)
    for name in ("scan", "score", "mask"):
        image = volume(shown, name)
        at = np.argwhere(np.asarray(image.dataobj) == np.asarray(image.dataobj).max()).mean(axis=0)
        place = image.affine[:3, :3] @ at + image.affine[:3, 3]
        np.testing.assert_allclose(place, segmentation.findings[0].centroid_mm, atol=1e-3)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_a_volume_too_large_is_shown_at_every_second_voxel(make, monkeypatch) -> None:
    monkeypatch.setattr(viewers, "MOST_VOXELS", 10_000)
    segmentation = make(lesions=(np.s_[8:11, 36:39, 14:17],))
    shown = made(segmentation)
    assert shown.step == 2
    mask = volume(shown, "mask")
    at = np.argwhere(np.asarray(mask.dataobj)).mean(axis=0)
    place = mask.affine[:3, :3] @ at + mask.affine[:3, 3]
    np.testing.assert_allclose(place, segmentation.findings[0].centroid_mm, atol=4.0)  # a voxel
    assert json.loads(shown.settings)["findings"] == json.loads(made(segmentation).settings)["findings"]


def test_a_scan_of_noise_is_shown_coarser_until_it_fits(make, monkeypatch) -> None:
    segmentation = make(lesions=(np.s_[8:11, 36:39, 14:17],), noise=0.3)
    sizes = []
    for room in (1e6, 38_000, 6_000):
        monkeypatch.setattr(viewers, "MOST_BYTES", room)
        shown = made(segmentation)
        assert len(shown.volumes["scan"]) < 1.2 * room + 1000
        sizes.append((shown.step, len(np.unique(np.asarray(volume(shown, "scan").dataobj)))))
    (one, many), (same, fewer), (more, _) = sizes
    assert (one, same) == (1, 1)
    assert many > fewer
    assert more > 1


def test_a_score_of_noise_leaves_less_room_to_the_scan(make, monkeypatch) -> None:
    segmentation = make(lesions=(np.s_[8:11, 36:39, 14:17],), noise=0.3)
    noise = np.random.default_rng(0).random(segmentation.mask.shape, dtype=np.float32)
    score = ScoreMap(noise * segmentation.scoring.brain.voxels, segmentation.mask.affine)
    noisy = replace(segmentation, scoring=replace(segmentation.scoring, score=score))
    sizes = []
    for room in (1e6, 70_000, 20_000):
        monkeypatch.setattr(viewers, "MOST_TOGETHER", room)
        shown = made(noisy)
        sizes.append(sum(map(len, shown.volumes.values())))
        assert sizes[-1] < 1.2 * room + 1000
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("threshold", "highest", "heat"),
    [(0.0687, 0.4, 0.1), (0.5, 0.1, 0.75), (0.0, 0.0, 1e-12), (0.0, 3.0, 1.0), (1e-6, 9e3, 1.0), (700.0, 701.0, 10.0)],
)
def test_slider_rises_and_holds_the_operating_point(threshold: float, highest: float, heat: float) -> None:
    thresholds, start = slider(threshold, highest, heat)
    assert thresholds[start] == np.float32(threshold)
    assert (np.diff(thresholds) > 0).all()
    assert 2 <= len(thresholds) <= 255


def test_settings_cannot_end_their_element(make) -> None:
    evil = "</script><script>alert(1)</script><!-- ‏עברית &amp; \" ' "
    segmentation = make(lesions=(np.s_[8:11, 36:39, 14:17],), provenance={"checkpoint": {"digest": evil}})
    segmentation = replace(segmentation, point=replace(segmentation.point, name=evil))
    settings = made(segmentation).settings
    assert "<" not in settings
    assert json.loads(settings)["point"] == shown(evil)  # the page shows it; the digest is only saved
    assert json.loads(settings)["checkpoint"] == evil


def test_niivue_is_the_file_that_its_readme_names() -> None:
    folder = files("uadtk.report") / "niivue"
    code = gzip.decompress((folder / "niivue.umd.js.gz").read_bytes())
    digest = re.search(r"[0-9a-f]{64}", (folder / "README.md").read_text())
    assert digest is not None
    assert hashlib.sha256(code).hexdigest() == digest[0]
    assert b"</script" not in code.lower()
    assert "BSD 2-Clause" in (folder / "LICENSE").read_text()


def test_ten_thousand_findings_still_make_a_small_page(make) -> None:
    grid = [(x, y, z) for x in range(5, 55, 2) for y in range(6, 54, 2) for z in range(3, 37, 2)]
    boxes = tuple(np.s_[x : x + 1, y : y + 1, z : z + 1] for x, y, z in grid)
    assert len(boxes) > 10_000
    segmentation = make(shape=(60, 60, 40), spacing=(1.0, 1.0, 1.0))
    for box in boxes:
        segmentation.scoring.score.voxels[box] = 0.9
    labels, count = label_components(segmentation.scoring.score.zyx > 0.5, 26, 1)
    places = [(float(box[0].start), float(box[1].start), float(box[2].start)) for box in boxes]
    findings = tuple(Finding(n, 0.001, place, 0.9, 0.9, place) for n, place in enumerate(places, 1))
    components = Volume.from_zyx(labels, segmentation.mask.affine)
    segmentation = replace(segmentation, components=components, findings=findings)
    html = report_html(segmentation)
    assert len(html) < 5_000_000
    assert html.count("<tr data-label=") == LISTED
    settings = json.loads(made(segmentation).settings)
    assert settings["findings"][settings["start"]] == count == len(boxes)


@pytest.mark.parametrize("shape", [(40, 50, 1), (1, 50, 40), (1, 1, 1)])
def test_a_scan_of_one_slice_has_a_page(shape: tuple[int, int, int]) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    score = np.full(shape, 0.1, np.float32)
    score[0, 0, 0] = 0.9
    everywhere = np.ones(shape, bool)
    scoring = Scoring(Scan(score, affine), Mask(everywhere, affine), "given", ScoreMap(score, affine), {})
    components = Volume((score > 0.5).astype(np.int32), affine)
    finding = Finding(1, 0.02, (0.0, 0.0, 0.0), 0.9, 0.9, (0.0, 0.0, 0.0))
    segmentation = Segmentation(scoring, point(0.5), Mask(score > 0.5, affine), components, (finding,))
    assert "1</b> finding" in report_html(segmentation)
    assert volume(made(segmentation), "scan").shape == shape


def test_nothing_found_has_a_viewer_at_the_highest_score(make) -> None:
    segmentation = make()
    segmentation.scoring.score.voxels[20, 20, 15] = 0.3
    settings = json.loads(made(segmentation).settings)
    assert settings["listed"] == []
    assert settings["findings"][settings["start"]] == 0
    assert settings["highest_mm"] == [80.0, 80.0, 60.0]
    assert settings["findings"][0] == 1  # the lowest threshold is half the operating point
