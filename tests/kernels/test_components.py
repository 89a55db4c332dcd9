"""The component sweep against labelling at every threshold with SciPy and cc3d."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import cc3d
import cuda_on_cpu
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uadtk.kernels import best_component_dice, best_dice, component_sweep, healthy_fp_threshold
from uadtk.kernels._reference import components as reference

RULES = {"connectivity": st.sampled_from([6, 18, 26]), "min_size": st.sampled_from([1, 2, 3, 8])}
KINDS = ["dense", "residual", "ties", "equal", "zeros", "tiny", "negative"]


def volume(kind: str, shape: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    score = rng.random(shape, dtype=np.float32)
    made = {
        "dense": score,
        "residual": np.maximum(ndimage.gaussian_filter(score - 0.5, 0.6) * 3, 0),
        "ties": np.round(score * 6) / 6,
        "equal": np.full(shape, 0.4),
        "zeros": np.where(score > 0.5, 0.0, -0.0),
        "tiny": score * np.float32(1e-42),
        "negative": score - 0.7,
    }[kind]
    return made.astype(np.float32)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    scores, truths = [], []
    for _ in range(draw(st.integers(1, 2))):
        shape = draw(st.tuples(*[st.integers(0, 6)] * 3))
        seed = draw(st.integers(0, 999))
        scores.append(volume(draw(st.sampled_from(KINDS)), shape, seed))
        truths.append(np.random.default_rng(seed).random(shape) < draw(st.sampled_from([0, 0.1, 0.5])))
    return scores, truths


def same_sweep(got: Any, wanted: Any) -> None:
    for name in ("thresholds", "voxels", "true_positives", "components", "positives", "dice"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))


@settings(max_examples=40, deadline=None)
@given(cohort=cohorts(), step=st.sampled_from([0.05, 0.3, 1]), **RULES)
def test_sweep_equals_its_definition(cohort: Any, step: float, connectivity: int, min_size: int) -> None:
    rule: Any = (min_size, connectivity)
    same_sweep(component_sweep(*cohort, *rule, step=step), reference.component_sweep(*cohort, *rule, step=step))
    values = np.unique(np.concatenate([score.ravel() for score in cohort[0]]))
    if values.size:
        ours = component_sweep(*cohort, *rule, thresholds=values)
        same_sweep(ours, reference.component_sweep(*cohort, *rule, thresholds=values))


@settings(max_examples=40, deadline=None)
@given(cohort=cohorts(), **RULES)
def test_best_equals_its_definition(cohort: Any, connectivity: int, min_size: int) -> None:
    rule: Any = (min_size, connectivity)
    found, wanted = best_component_dice(*cohort, *rule), reference.best_component_dice(*cohort, *rule)
    np.testing.assert_equal(astuple(found), astuple(wanted))
    ours, plain = (f.best_component_dice(*cohort, *rule, step=0.05) for f in (_kernels(), reference))
    np.testing.assert_equal(astuple(ours), astuple(plain))
    if min_size == 1:
        np.testing.assert_equal(astuple(found), astuple(best_dice(*cohort)))


@settings(max_examples=40, deadline=None)
@given(
    cohort=cohorts(),
    unit=st.sampled_from(["voxels", "ml", "components"]),
    budget=st.sampled_from([0, 0.5, 1, 2.5, 7, 30, 1e6]),
    **RULES,
)
def test_healthy_threshold_equals_its_definition(
    cohort: Any, unit: Any, budget: float, connectivity: int, min_size: int
) -> None:
    scans, _ = cohort
    options = {"min_size": min_size, "connectivity": connectivity}
    for voxel_ml in [0.5, [0.5, 0.125][: len(scans)]] if unit == "ml" else [None]:
        ours = healthy_fp_threshold(scans, budget, unit, voxel_ml=voxel_ml, **options)
        assert ours == reference.healthy_fp_threshold(scans, budget, unit, voxel_ml=voxel_ml, **options)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_equals_a_loop_of_cc3d(connectivity: Any) -> None:
    score = volume("residual", (40, 33, 37), 0)
    truth = np.random.default_rng(1).random(score.shape) < ndimage.gaussian_filter(score, 1)
    sweep = component_sweep(score, truth, 8, connectivity)
    assert sweep.components.max() > 20
    for k in range(0, 1001, 13):
        labels = cc3d.connected_components(score > np.float32(k * 0.001), connectivity=connectivity)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        kept = (sizes >= 8)[labels]
        wanted = (np.count_nonzero(kept), np.count_nonzero(kept & truth), np.count_nonzero(sizes >= 8))
        assert (sweep.voxels[k], sweep.true_positives[k], sweep.components[k]) == wanted
    assert best_component_dice(score, truth, 8, connectivity, step=0.001) == sweep.best


def test_best_ends_early_and_extends_when_it_must() -> None:
    """Scores whose best mask has few voxels, many, or none."""
    score = volume("residual", (30, 31, 32), 2)
    for truth in (score > 0.55, score > 0.1, np.random.default_rng(0).random(score.shape) < 0.01, score < 0.01):
        distinct = np.nextafter(np.unique(score), np.float32(-1))
        for rule in ((8, 26), (1, 6), (40, 6)):
            assert (
                best_component_dice(score, truth, *rule)
                == component_sweep(score, truth, *rule, thresholds=distinct).best
            )


def test_component_counts_that_fall_and_rise_again() -> None:
    """Two components at 0.5 and above, one at 0.3: a bisection would accept 0.3, although 0.5 exceeds the budget."""
    scan = np.array([[[0.9, 0.3, 0.8, 0.1]]], np.float32)
    threshold = healthy_fp_threshold(scan, 1, "components", min_size=1)
    assert threshold == np.float32(0.8)
    counts = component_sweep(scan, scan > 1, 1, thresholds=np.unique(scan)).components
    assert counts.tolist() == [1, 2, 1, 0]


def test_healthy_threshold_over_several_rounds() -> None:
    """A budget of components that needs more voxels than the first guess."""
    scans = [volume("residual", (30, 31, 32), seed) for seed in (0, 1)]
    distinct = np.unique(scans)
    counts = component_sweep(scans, [scan > 9 for scan in scans], 20, thresholds=distinct).components / 2
    for budget in (0, counts.max() / 4, counts.max() - 0.5):
        threshold = healthy_fp_threshold(scans, budget, "components", min_size=20)
        assert threshold == distinct[np.flatnonzero(counts > budget)[-1] + 1]
    assert healthy_fp_threshold(scans, 1e9) == -math.inf


def test_strides_dtypes_read_only_and_streams() -> None:
    score = np.asfortranarray(np.random.default_rng(1).integers(0, 9, (9, 10, 24)))[::-1, 1:, ::2]
    truth = (score > 4) * 2.5
    score.flags.writeable = truth.flags.writeable = False

    def scores() -> Iterator[Any]:
        return iter([score, score[:4]])

    got = component_sweep(scores, lambda: iter([truth, truth[:4]]), 2, 6, thresholds=range(9))
    pair = [score.astype(np.float32), score[:4].astype(np.float32)], [truth > 0, truth[:4] > 0]
    same_sweep(got, reference.component_sweep(*pair, 2, 6, thresholds=range(9)))
    assert healthy_fp_threshold(scores, 20) == reference.healthy_fp_threshold(pair[0], 20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scores(bad: float) -> None:
    score = np.full((3, 4, 5), 0.5, np.float32)
    score[1, 2, 3] = bad
    truth = score > 0.4
    for call in (component_sweep, best_component_dice):
        with pytest.raises(ValueError, match="NaN or infinite"):
            call(score, truth)
    with pytest.raises(ValueError, match="NaN or infinite"):
        healthy_fp_threshold(score, 1)


def test_device_arrays_are_refused() -> None:
    with cuda_on_cpu.cupy_on_cpu() as cupy:
        score = cupy.asarray(np.ones((2, 2, 2), np.float32))
        with pytest.raises(TypeError, match="runs on the CPU"):
            component_sweep(score, score)
        with pytest.raises(TypeError, match="runs on the CPU"):
            healthy_fp_threshold(score, 1)


ONES = np.ones((2, 3, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: component_sweep(ONES[0], ONES[0]), ValueError, "score must be 3-D"),
        (lambda: component_sweep(ONES, ONES[1:]), ValueError, "truth has shape"),
        (lambda: component_sweep(ONES, ONES, 0), ValueError, "min_size must be at least 1"),
        (lambda: component_sweep(ONES, ONES, 1, 8), ValueError, "connectivity must be 6, 18 or 26, got 8"),
        (
            lambda: component_sweep(ONES, ONES, thresholds=[0.2, 0.1]),
            ValueError,
            "must be finite and strictly increasing",
        ),
        (lambda: component_sweep(ONES, ONES, thresholds=[]), ValueError, "must be finite and strictly increasing"),
        (lambda: component_sweep(ONES, ONES, step=2), ValueError, "step must lie in"),
        (lambda: component_sweep(iter([ONES]), [ONES]), TypeError, "read only once"),
        (lambda: best_component_dice(ONES, ONES, 1, 8), ValueError, "connectivity must be"),
        (lambda: healthy_fp_threshold(ONES, -1), ValueError, "budget must be at least 0"),
        (lambda: healthy_fp_threshold(ONES, math.nan), ValueError, "budget must be at least 0"),
        (lambda: healthy_fp_threshold(ONES, 1, "litres"), ValueError, "unit must be"),  # type: ignore[arg-type]
        (lambda: healthy_fp_threshold(ONES, 1, "ml"), ValueError, "voxel_ml must be given for unit 'ml'"),
        (lambda: healthy_fp_threshold(ONES, 1, voxel_ml=1), ValueError, "and only for it"),
        (lambda: healthy_fp_threshold(ONES, 1, "ml", voxel_ml=[1, 1]), ValueError, "one for each of 1 scans"),
        (lambda: healthy_fp_threshold([], 1), ValueError, "no scan"),
        (lambda: component_sweep(_huge(), _huge()), ValueError, "too large"),
    ],
)
def test_errors_are_one_clear_line(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def _huge() -> Any:
    """2 million thin rows: padded to 8 voxels they exceed 31 bits, yet need little memory."""
    return np.zeros((1 << 14, 1 << 14, 1), np.float32)[: (1 << 14) - 1]


def _kernels() -> Any:
    from uadtk.kernels import components

    return components
