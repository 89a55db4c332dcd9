"""The gate on an average brain in every contrast, and on what is no scan at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize

import uadtk.preparation.contrast
from uadtk.core.errors import DataError
from uadtk.core.finding import Gate
from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_mask, read_scan
from uadtk.preparation import contrast, plausibility
from uadtk.preparation.gate import contrast_of, first_look, look, numbers, statistics_of, wanted_by
from uadtk.preparation.kinds import by_name, by_tags, named

AFFINE = np.diag([2.0, 2, 2, 1])
FLAIR, T1, T2, PD = (0.25, 1.15, 1.0), (0.3, 0.7, 1.0), (2.2, 1.2, 1.0), (1.5, 1.25, 1.0)  # fluid, grey, white


@cache
def tissues() -> np.ndarray:
    """Fluid, grey and white matter of the average brain on 2 mm voxels, with room around it."""
    with np.load(Path(uadtk.preparation.contrast.__file__).with_name("tissues.npz")) as stored:
        maps = stored["tissues"].astype(np.float32) / 255
    maps = ndimage.zoom(maps, (1, 2, 2, 2), order=1)
    fluid = maps[0] > np.quantile(maps[0][maps.sum(axis=0) > 0.5], 0.92)  # many, averaged, have hardly any
    maps[:, fluid] = np.array([[1.0], [0], [0]])
    return np.pad(maps, ((0, 0), (8, 8), (8, 8), (8, 8)))


def brain_of(contrast: tuple[float, ...], noise: float = 0.03, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    maps = tissues()
    inside = maps.sum(axis=0) > 0.5
    image = np.tensordot(contrast, maps, 1) / np.maximum(maps.sum(axis=0), 0.5)
    image = image + noise * np.random.default_rng(seed).standard_normal(image.shape)
    return np.where(inside, 500 * image, 0).astype(np.float32), inside


def seen(image: np.ndarray, inside: np.ndarray, name: str = "scan.nii.gz", affine: np.ndarray = AFFINE) -> Gate:
    scan = Scan(np.asarray(image, np.float32), affine)
    return look(scan, Mask(inside, affine), first_look(scan, name))


def words(gate: Gate) -> set[str]:
    return {reason.check for reason in gate.reasons}


def test_a_flair_is_green() -> None:
    gate = seen(*brain_of(FLAIR))
    assert (gate.light, gate.one_line()) == ("green", "")


@pytest.mark.parametrize(("contrast", "word"), [(T1, "T1"), (T2, "T2"), (PD, "proton density")])
def test_another_order_of_tissues_is_red(contrast: tuple[float, ...], word: str) -> None:
    gate = seen(*brain_of(contrast))
    assert gate.light == "red"
    assert word in gate.one_line()


def test_inverted_contrast_is_red() -> None:
    image, inside = brain_of(FLAIR)
    assert seen(np.where(inside, 900 - image, 0), inside).light == "red"


LIGHT = {FLAIR: "green", T1: "red", T2: "red"}


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(list(LIGHT)), st.floats(-9, 9), st.floats(-3, 3))
def test_neither_scale_nor_offset_matters(contrast: tuple[float, float, float], exponent: float, offset: float) -> None:
    image, inside = brain_of(contrast)
    changed = ((image / 500 + offset) * 10**exponent).astype(np.float32)
    assert seen(changed, inside).light == LIGHT[contrast]


def test_a_z_scored_brain_is_read() -> None:
    image, inside = brain_of(FLAIR)
    z = np.where(inside, (image - image[inside].mean()) / image[inside].std(), 0)
    assert seen(z, inside).light == "green"


@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_orientation_does_not_matter(codes: str) -> None:
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

    image, inside = brain_of(T1)
    to = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = AFFINE @ inv_ornt_aff(to, image.shape)
    gate = seen(apply_orientation(image, to), apply_orientation(inside, to), affine=affine)
    assert gate.measured["white"] == pytest.approx(seen(image, inside).measured["white"], abs=0.02)


def test_large_lesions_wide_ventricles_and_thick_slices_pass() -> None:
    image, inside = brain_of(FLAIR)
    x, y, z = np.indices(image.shape)
    tumour = ((x - 30) ** 2 + (y - 60) ** 2 + (z - 50) ** 2 < 17**2) & inside  # 160 ml
    assert seen(np.where(tumour, 900, image), inside).light == "green"
    white = tissues()[2] > 0.8
    patches = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(image.shape), 3)
    assert seen(np.where(white & (patches > np.quantile(patches, 0.75)), 850, image), inside).light == "green"
    middle = np.array(image.shape) / 2
    ventricles = ((x - middle[0]) / 14) ** 2 + ((y - middle[1]) / 20) ** 2 + ((z - middle[2] - 4) / 10) ** 2 < 1
    assert seen(np.where(ventricles, 125, image), inside).light != "red"
    thick = np.diag([2.0, 2, 8, 1])
    assert seen(image[:, :, 1::4], inside[:, :, 1::4], affine=thick).light == "green"


def test_noise_ghosts_and_jumps_are_amber() -> None:
    image, inside = brain_of(FLAIR)
    rng = np.random.default_rng(0)
    assert "noise" in words(seen(np.abs(image + 150 * rng.standard_normal(image.shape)) * inside, inside))
    fine = image * (1 + 0.1 * rng.standard_normal(image.shape))
    ghost = fine + 0.5 * np.roll(fine, 30, axis=1) + 0.5 * np.roll(fine, -30, axis=1)
    assert "ghosts" in words(seen(ghost * inside, inside))
    assert "jumps" in words(seen(image * np.where(np.arange(image.shape[2]) % 2, 0.7, 1), inside))


def test_what_is_missing_of_a_brain_is_amber() -> None:
    image, inside = brain_of(FLAIR)
    half = inside.copy()
    half[: image.shape[0] // 2] = False
    assert "brain" in words(seen(image * half, half))
    upper = slice(image.shape[2] // 2, None)
    assert "coverage" in words(seen(image[:, :, upper], inside[:, :, upper]))
    cropped = slice(20, None)
    assert "coverage" in words(seen(image[cropped], inside[cropped]))


def test_a_brain_of_another_size_is_amber_and_one_of_no_head_red() -> None:
    image, inside = brain_of(FLAIR)
    assert "brain" in words(seen(image, inside, affine=np.diag([1.3, 1.3, 1.3, 1])))
    assert seen(image, inside, affine=np.diag([0.7, 0.7, 0.7, 1])).light == "red"


def test_masks_labels_and_ct_are_red_before_a_brain_is_looked_for() -> None:
    maps = tissues()
    inside = maps.sum(axis=0) > 0.5
    labels = np.where(inside, 1 + maps.argmax(axis=0), 0) * 17
    soft = ndimage.gaussian_filter(inside.astype(float), 1)
    hounsfield = np.where(inside, 35 + 5 * np.random.default_rng(0).standard_normal(inside.shape), -1000)
    hounsfield[ndimage.binary_dilation(inside, iterations=3) & ~inside] = 900
    for image, word in ((inside, "binary mask"), (labels, "label map"), (soft, "mask"), (hounsfield, "CT")):
        gate = first_look(Scan(image.astype(np.float32), AFFINE), "scan.nii.gz")
        assert gate.light == "red"
        assert word in gate.one_line()


def test_a_statistical_map_is_red() -> None:
    _, inside = brain_of(FLAIR)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(inside.shape), 3)
    gate = seen(np.where(inside, smooth / smooth.std(), 0), inside)
    assert gate.light == "red"
    assert words(gate) >= {"values", "contrast"}


@pytest.mark.parametrize(
    ("name", "kind", "sure"),
    [
        ("sub-01_T1w.nii.gz", "a T1-weighted image", True),
        ("sub-01_ses-2_run-1_T2w.nii", "a T2-weighted image", True),
        ("sub-01_task-rest_bold.nii.gz", "a functional series", True),
        ("sub-01_dwi.nii.gz", "diffusion", True),
        ("sub-01_desc-brain_mask.nii.gz", "a mask", True),
        ("sub-01_FLAIR_dseg.nii.gz", "a label map", True),
        ("sub-01_acq-T1w_FLAIR.nii.gz", "FLAIR", True),
        ("BraTS-GLI-00001-000-t2f.nii.gz", "FLAIR", False),
        ("BraTS-GLI-00001-000-t1n.nii.gz", "a T1-weighted image", False),
        ("p07_T2_FLAIR_sag.nii.gz", "FLAIR", False),
        ("p07_t1.mgz", "a T1-weighted image", False),
        ("flair_to_t1.nii.gz", "FLAIR", False),
        ("fmri_pitch.nii.gz", "a functional series", True),
        ("sub-01_T1w_brain.nii.gz", "a T1-weighted image", True),
        ("CT_head.nii.gz", "CT", True),
        ("dwi_and_flair.nii.gz", "FLAIR", False),
        ("P1.nii.gz", "", False),
        ("mask-study_007.nii.gz", "a mask", False),
        ("Pettersson_3.nii.gz", "", False),
    ],
)
def test_names(name: str, kind: str, sure: bool) -> None:
    assert named(name) == (kind, sure)


@pytest.mark.parametrize(("wanted", "name"), [("T1", "sub-01_T1w"), ("T2 or PD", "sub-01_T2w"), ("T2 or PD", "x_pd")])
def test_a_name_of_the_contrast_that_the_checkpoint_reads_is_no_reason(wanted: str, name: str) -> None:
    assert by_name(f"{name}.nii.gz", wanted) == []
    assert [reason.light for reason in by_name("sub-01_FLAIR.nii.gz", wanted)] == ["red"]


def test_a_name_alone_is_red_only_if_it_is_sure() -> None:
    image, inside = brain_of(FLAIR)
    assert seen(image, inside, "sub-01_T1w.nii.gz").light == "red"
    assert seen(image, inside, "p1_t1.nii.gz").light == "amber"
    unclear = np.where(inside, 500 + 20 * np.random.default_rng(0).standard_normal(image.shape), 0)
    assert seen(unclear, inside).light == "amber"
    assert seen(unclear, inside, "p1_t1.nii.gz").light == "red"


def test_tags() -> None:
    def lights(**facts: object) -> list[str]:
        return [reason.light for reason in by_tags(facts, "FLAIR")]

    assert lights(Modality="CT") == ["red"]
    assert lights(Modality="MR", SeriesDescription="t2_tirm_tra_dark-fluid") == []
    assert lights(EchoTime=0.12, InversionTime=2.5, SeriesDescription="T2 ax") == []
    assert lights(EchoTime=2.9, SeriesDescription="t1_mprage") == ["red"]
    assert lights(EchoTime=90, SeriesDescription="t2 tse tra") == ["amber"]
    assert lights() == []


def test_a_checkpoint_of_t1_reads_t1() -> None:
    t1, flair = ([numbers_of(contrast, seed) for seed in range(3)] for contrast in (T1, FLAIR))
    assert [contrast_of(scan) for scan in (*t1, *flair)] == ["T1"] * 3 + ["FLAIR"] * 3
    learned = statistics_of(t1)
    assert wanted_by(learned) == "T1"
    image, inside = brain_of(T1)
    scan, brain = Scan(image, AFFINE), Mask(inside, AFFINE)
    assert look(scan, brain, Gate(), learned).light == "green"
    image, inside = brain_of(FLAIR)
    assert look(Scan(image, AFFINE), brain, Gate(), learned).light == "red"


def numbers_of(contrast: tuple[float, ...], seed: int) -> dict[str, float]:
    image, inside = brain_of(contrast, 0.03 + 0.01 * seed, seed)
    return numbers(Scan(image, AFFINE), Mask(inside, AFFINE))


def test_far_from_the_training_scans_is_amber() -> None:
    learned = statistics_of([numbers_of(FLAIR, seed) for seed in range(3)])
    image, inside = brain_of(FLAIR)
    scan, brain = Scan(image, AFFINE), Mask(inside, AFFINE)
    assert look(scan, brain, Gate(), learned).light == "green"
    thick = np.diag([2.0, 2, 8, 1])
    far = look(Scan(image[:, :, 1::4], thick), Mask(inside[:, :, 1::4], thick), Gate(), learned)
    assert (far.light, words(far)) == ("amber", {"training"})
    assert "slice_mm is 8" in far.one_line()


@pytest.mark.parametrize(("name", "light"), [("flair", "green"), ("t1", "red"), ("t2", "red")])
@pytest.mark.parametrize("folder", ["ms/mslub26", "healthy/kirby113"])
def test_real_scans(shared_data: Path, folder: str, name: str, light: str) -> None:
    scan = read_scan(shared_data / folder / f"{name}.nii.gz")
    brain = read_mask(shared_data / folder / "brainmask.nii.gz", scan)
    assert look(scan, brain, first_look(scan, "scan.nii.gz")).light == light


@pytest.mark.parametrize(
    "name", ["CT_pitch", "M2208_T2w", "chris_MRA", "fmri_pitch", "mniMask", pytest.param("pcasl", id="ten volumes")]
)
def test_real_files_of_other_kinds_are_refused_before_a_brain_is_looked_for(real_files: Path, name: str) -> None:
    path = real_files / f"{name}.nii.gz"
    if name == "pcasl":
        with pytest.raises(DataError, match="holds 10 volumes"):
            read_scan(path)
        return
    assert first_look(read_scan(path), path.name).light == "red"


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_at_shifts_are_those_of_an_autocorrelation(axis: int) -> None:
    image = np.random.default_rng(0).standard_normal((37, 23), dtype=np.float32)
    lines = np.moveaxis(image, axis, 0)
    direct = [float((lines[shift:] * lines[: len(lines) - shift]).sum()) for shift in range(len(lines))]
    np.testing.assert_allclose(plausibility._at_shifts(image, axis, 3), np.array(direct[3:]), atol=1e-3)


def test_the_misfit_is_that_of_arrays_sampled_by_scipy() -> None:
    image, inside = brain_of(FLAIR)
    low = contrast.coarse(Scan(image, AFFINE), Mask(inside, AFFINE))
    fit, atlas = contrast._Fit(low), contrast._atlas()
    for parameters in np.random.default_rng(0).uniform(-0.2, 0.2, (5, 9)):
        share, ranks, overlap = fit.sample(parameters, atlas)
        weight = np.where(share > 0.5, share, 0.0).astype(np.float64)
        normal = (atlas.tissues.T * weight) @ atlas.tissues + contrast.RIDGE * weight.sum() * np.eye(3)
        found = np.linalg.solve(normal, (atlas.tissues.T * weight) @ ranks)
        variance = np.cov(ranks, aweights=weight, ddof=0) * weight.sum()
        explained = 1 - (weight * (ranks - atlas.tissues @ found) ** 2).sum() / variance
        implausible = 0.5 * ((parameters[3:6] / 0.3) ** 4).sum() + 0.5 * ((parameters[6:9] / 0.5) ** 4).sum()
        assert fit.misfit(parameters, atlas) == pytest.approx(implausible - explained - 2 * overlap, abs=1e-6)


def test_the_alignment_finds_the_optimum_that_powell_finds() -> None:
    """Of a brain that is turned and short, so that centre and size alone do not fit."""
    image, inside = brain_of(FLAIR)
    matrix = contrast._rotation(np.array([0.15, -0.1, 0.1])).T / np.array([1.0, 0.9, 1.0])
    centre = (np.array(inside.shape) - 1) / 2
    offset = centre - matrix @ centre
    inside = ndimage.affine_transform(inside.astype(np.float32), matrix, offset, order=1) > 0.5
    image = ndimage.affine_transform(image, matrix, offset, order=1)
    fit, few = contrast._Fit(contrast.coarse(Scan(image, AFFINE), Mask(inside, AFFINE))), contrast._few()
    powell = optimize.minimize(lambda p: fit.misfit(p, few), np.zeros(9), method="Powell", options={"maxfev": 1000})
    start, found = (fit.misfit(parameters, few) for parameters in (np.zeros(9), fit.aligned()))
    assert found < powell.fun + 0.02
    assert found < start - 0.2


def test_details_are_what_a_gaussian_filter_leaves() -> None:
    atlas, rng = contrast._atlas(), np.random.default_rng(0)
    values, weight = rng.random((2, len(atlas.inside)))

    def smoothed(of: np.ndarray) -> np.ndarray:
        grid = np.zeros(atlas.shape)
        grid[atlas.where] = of
        return ndimage.gaussian_filter(grid, contrast.SLOW_MM / atlas.spacing_mm)[atlas.where]

    wanted = values - smoothed(values * weight) / np.maximum(smoothed(weight), 1e-3)
    np.testing.assert_allclose(contrast._details([values], weight, atlas)[0], wanted, atol=1e-5)
