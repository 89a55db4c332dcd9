"""The budget holds for the guaranteed share of healthy scans, with the guaranteed confidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.commands import besides_amber, call
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import UsageError
from uadtk.core.options import build
from uadtk.core.spec import Spec
from uadtk.core.thresholder import CalibrationScan, Choice
from uadtk.thresholders.healthy_fp import Options, Thresholder, rank, rank_below, subjects_needed

LESIONS = {"budget": "0 lesions/scan", "min_voxels": 1}  # then the threshold of a scan is its highest score


def scan(score: np.ndarray, brain: np.ndarray | None = None, subject: str = "s") -> CalibrationScan:
    voxels = np.asarray(score, np.float32)
    return CalibrationScan(subject, voxels, np.ones(voxels.shape, bool) if brain is None else brain, None, 0.25)


def with_highest(*highest: float) -> list[CalibrationScan]:
    """One subject per value, which is its highest score."""
    return [scan(np.array([[[value, value / 2, 0]]]), subject=f"s{i}") for i, value in enumerate(highest)]


def choose(scans: Sequence[CalibrationScan], **options: Any) -> Choice:
    return Thresholder(Options(**{**LESIONS, **options})).choose(scans)


# One scan ------------------------------------------------------------------------------------------------------------

shapes = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def scored(draw: st.DrawFn) -> CalibrationScan:
    shape = draw(shapes)
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    return scan(draw(arrays(np.float32, shape, elements=levels)), draw(arrays(bool, shape)))


def kept(one: CalibrationScan, threshold: float, min_voxels: int) -> tuple[int, int]:
    """Number and voxels of the components, by SciPy."""
    labels, count = ndimage.label((one.score > threshold) & one.brain, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int((sizes >= min_voxels).sum()), int(sizes[sizes >= min_voxels].sum())


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(scored(), st.sampled_from(["0 lesions", "1 lesion", "2 lesions", "0.5 ml", "1 ml", "20 %"]), st.integers(1, 4))
def test_the_threshold_of_a_scan_is_the_lowest_from_which_on_it_keeps_the_budget(
    one: CalibrationScan, amount: str, min_voxels: int
) -> None:
    number, unit = amount.split()
    thresholder = Thresholder(Options(budget=amount + (" voxels" if unit == "%" else "/scan"), min_voxels=min_voxels))

    def within(threshold: float) -> bool:
        components, voxels = kept(one, threshold, min_voxels)
        if unit == "ml":
            return voxels * 0.25 <= float(number)
        if unit == "%":
            return 5 * voxels <= int(np.count_nonzero(one.brain))
        return components <= int(number)

    over = [t for t in (0.0, 0.25, 0.5, 0.75, 1.0) if not within(t)]
    assert thresholder.lowest(one) == (max(over) + 0.25 if over else 0)


def test_a_component_that_splits_higher_up_counts_there() -> None:
    """Two peaks on one plateau: one component at 0.1, two at 0.5, and the budget must hold for these too."""
    plateau = scan(np.array([[[0.9, 0.9, 0.3, 0.8, 0.8]]]))
    assert Thresholder(Options(min_voxels=2)).lowest(plateau) == np.float32(0.8)
    assert Thresholder(Options(budget="2 lesions/scan", min_voxels=2)).lowest(plateau) == 0


@pytest.mark.parametrize(
    ("text", "limit"), [("1.2 ml/scan", 4), ("1.25 ml/scan", 5), (".5ml/scan", 2), ("0 ml/scan", 0)]
)
def test_millilitres_are_whole_voxels(text: str, limit: int) -> None:
    rising = scan(np.arange(1, 11).reshape(1, 1, 10) / 10)
    assert Thresholder(Options(budget=text, min_voxels=1)).lowest(rising) == np.float32((10 - limit) / 10)


def test_percent_is_of_the_voxels_that_count() -> None:
    score = np.tile(np.arange(1, 101).reshape(1, 1, 100) / 100, (1, 2, 1))
    brain = np.zeros(score.shape, bool)
    brain[:, 0] = True
    assert Thresholder(Options(budget="7 % voxels", min_voxels=1)).lowest(scan(score, brain)) == np.float32(0.93)


# Many scans ----------------------------------------------------------------------------------------------------------


def test_the_ranks_are_those_of_wilks_tables() -> None:
    """90 % with confidence 90 %: the highest of 22, the second of 38, the third of 52; 95/95: of 59, 93, 124."""
    for share, sizes in ((0.1, (22, 38, 52)), (0.05, (59, 93, 124))):
        assert subjects_needed(share, share) == sizes[0]
        for below, n in enumerate(sizes):
            assert rank(n, share, share) == n - below
            if below:
                assert rank(n - 1, share, share) == n - below


@given(st.floats(0.001, 0.5), st.floats(1e-6, 0.5), st.integers(0, 50))
def test_the_ranks_bracket_the_quantile(epsilon: float, delta: float, more: int) -> None:
    n = subjects_needed(epsilon, delta) + more
    assert (1 - epsilon) ** n <= delta * (1 + 1e-6)
    assert n == more + 1 or (1 - epsilon) ** (n - more - 1) > delta * (1 - 1e-6)
    assert 1 <= rank_below(n, epsilon, delta) <= rank(n, epsilon, delta) <= n
    assert rank(n, epsilon, delta) >= n * (1 - epsilon)


def test_the_order_statistic_is_the_one_and_everything_measured_follows() -> None:
    """The highest score of subject i is i / 100, so that the k-th threshold is k / 100."""
    choice = choose(with_highest(*np.arange(1, 39) / 100), epsilon=0.1, delta=0.1)
    low, high = choice.interval
    assert choice.threshold == high == np.float32(0.37)
    assert low == np.float32(rank_below(38, 0.1, 0.1) / 100)
    assert choice.measured["over_budget"] == 1 / 38
    assert choice.measured["over_budget_limit"] == 0.1
    assert choice.measured["next_within"] == 37 / 39
    assert choice.measured["rank"] == 37
    assert choice.measured["needed_for_half_epsilon"] == 45
    assert 0.09 < choice.measured["bound"] <= 0.1  # 38 are just enough
    wanted = "at most 0 lesions/scan in 90 % of healthy scans, confidence 90 %, components of 1 voxels or more"
    assert choice.target == wanted


def test_the_bound_of_the_highest_is_a_root_of_delta() -> None:
    choice = choose(with_highest(*np.linspace(0.1, 1, 11)), epsilon=0.2, delta=0.1)
    assert choice.measured["rank"] == 11
    assert choice.measured["bound"] == pytest.approx(1 - 0.1 ** (1 / 11))


def test_at_most_epsilon_of_new_scans_exceed_the_budget_in_a_share_1_minus_delta_of_calibrations() -> None:
    """Scores uniform in [0, 1]: the threshold t is exceeded by 1 - t of new scans. Of 11 subjects the highest is used:

    coverage Beta(11, 1), P(1 - t <= 0.2) = 1 - 0.8^11 = 0.914, and 0.9 is promised.
    """
    rng = np.random.default_rng(0)
    exceeded = np.array([1 - choose(with_highest(*rng.uniform(size=11))).threshold for _ in range(200)])
    exact = 1 - 0.8**11
    assert (exceeded <= 0.2).mean() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 200))
    assert 1 - exceeded.mean() == pytest.approx(11 / 12, abs=0.02)  # the next one keeps it: k / (n + 1)


@pytest.mark.parametrize(("n", "epsilon", "delta"), [(11, 0.2, 0.1), (30, 0.2, 0.1), (60, 0.1, 0.05), (3, 0.5, 0.2)])
@pytest.mark.parametrize("ties", [False, True])
def test_coverage_holds_for_every_rank_with_and_without_ties(n: int, epsilon: float, delta: float, ties: bool) -> None:
    """20,000 calibration sets of thresholds, uniform or (ties) on ten values: no more than delta of them promise wrong.

    The interval misses the quantile in no more than 2 delta.
    """
    draws = 20_000
    lowest = np.sort(np.random.default_rng(n).uniform(size=(draws, n)), 1)
    quantile = 1 - epsilon
    if ties:
        lowest, quantile = np.ceil(10 * lowest) / 10, np.ceil(10 * quantile - 1e-9) / 10
    low, high = lowest[:, rank_below(n, epsilon, delta) - 1], lowest[:, rank(n, epsilon, delta) - 1]
    slack = 4 * np.sqrt(delta / draws)
    assert (high < 1 - epsilon).mean() <= delta + slack  # the coverage of t is P(T <= t) = t on these values
    assert ((low > quantile) | (quantile > high)).mean() <= 2 * delta + 2 * slack
    if not ties and rank(n, epsilon, delta) > 1:  # and one rank lower would guarantee too much
        assert (lowest[:, rank(n, epsilon, delta) - 2] < 1 - epsilon).mean() > delta - slack


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=45, max_size=60),
    st.sampled_from([0.1, 0.2]),
    st.sampled_from([0.2, 0.5]),
)
def test_a_tighter_promise_never_has_a_lower_threshold(highest: list[float], epsilon: float, delta: float) -> None:
    scans = with_highest(*highest)
    loose = choose(scans, epsilon=epsilon, delta=delta, budget="1 lesion/scan").threshold
    assert choose(scans, epsilon=epsilon / 2, delta=delta, budget="1 lesion/scan").threshold >= loose
    assert choose(scans, epsilon=epsilon, delta=delta / 2, budget="1 lesion/scan").threshold >= loose
    assert choose(scans, epsilon=epsilon, delta=delta, budget="0 lesions/scan").threshold >= loose


def test_scans_of_one_subject_count_as_its_worst() -> None:
    scans = with_highest(*np.arange(1, 12) / 100)
    again = [scan(np.full((1, 1, 2), 0.5), subject="s0"), scan(np.zeros((1, 1, 2)), subject="s10")]
    choice = choose([*scans, *again])
    assert choice.measured["subjects"] == 11
    assert choice.threshold == 0.5


def test_voxels_that_do_not_count_change_nothing() -> None:
    scans, hidden = with_highest(*np.arange(1, 12) / 100), []
    for one in scans:
        score = np.concatenate([one.score, np.full((1, 4, 3), 9, np.float32)], 1)
        hidden.append(scan(score, score < 9, one.subject))
    assert choose(hidden) == choose(scans)


# Too few subjects, and invalid budgets --------------------------------------------------------------------------------


def test_too_few_subjects_are_refused_with_what_would_do() -> None:
    with pytest.raises(
        UsageError,
        match=r"epsilon=0.2 with delta=0.1 needs 11 subjects, not 10\. Calibrate on 11, or use epsilon=0.206\.",
    ):
        choose(with_highest(*np.linspace(0, 1, 10)))
    assert choose(with_highest(*np.linspace(0, 1, 10)), epsilon=0.206).threshold == 1
    with pytest.raises(UsageError, match=r"needs 11 subjects, not 1\. Calibrate on 11\.$"):
        choose(with_highest(0.5))
    with pytest.raises(UsageError, match="not 1"):
        choose([scan(np.ones((1, 1, 1)))] * 30)  # one subject, thirty times


@given(st.integers(5, 500), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_epsilon_that_is_offered_can_be_had(n: int, delta: float) -> None:
    thresholder = Thresholder(Options(epsilon=0.001, delta=delta))
    with pytest.raises(UsageError) as refused:
        thresholder.check_subjects(n)
    offered = re.search(r"use epsilon=([\d.]+)\.", str(refused.value))
    assert offered is not None
    Thresholder(Options(epsilon=float(offered[1]), delta=delta)).check_subjects(n)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1", "not a budget. Write '1 lesion/scan', '0.5 ml/scan' or '1 % voxels'."),
        ("one lesion/scan", "not a budget"),
        ("1 mm/scan", "not a budget"),
        ("-1 ml/scan", "not a budget"),
        ("1e3 ml/scan", "not a budget"),
        ("0.5 lesions/scan", "a fraction of a lesion is not a budget. The budget applies to each scan"),
        ("101 % voxels", "exceeds 100 % of the voxels"),
    ],
)
def test_budgets_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"healthy-fp: budget={text}: {words}")):
        Thresholder(Options(budget=text))


def test_options_are_checked() -> None:
    for name, value in (("epsilon", "0"), ("epsilon", "0.6"), ("delta", "0"), ("delta", "0.6"), ("min_voxels", "0")):
        with pytest.raises(UsageError, match=f"{name}={value}: must be at"):
            build(Options, {name: value}, "healthy-fp")


# The commands --------------------------------------------------------------------------------------------------------

LOOSE = "healthy-fp:epsilon=0.5,delta=0.5"  # one subject is enough


@pytest.mark.slow
def test_recalibration_leaves_the_weights_of_a_shipped_model_and_adds_a_point(
    small_cohort: Path, tmp_path: Path
) -> None:
    shipped, mine = checkpoints.open_checkpoint("scalespace"), tmp_path / "mine.safetensors"
    train = ["--healthy", small_cohort, "--split", "train", "--budget", "1 lesion/scan"]
    done = call("threshold", "--strategy", LOOSE, "--model", "scalespace", "-o", mine, *train)
    usual = "segment takes 'p98' unless it gets --point healthy-fp; --name default changes that"
    assert (done.code, besides_amber(done.err.splitlines())) == (0, [usual])
    recalibrated = checkpoints.load(mine)
    assert recalibrated.digest == shipped.digest
    assert recalibrated.weights == shipped.weights
    *before, point = recalibrated.points
    assert tuple(before) == shipped.points
    assert (point.name, point.strategy, point.scans) == ("healthy-fp", Spec.parse(f"{LOOSE},budget=1 lesion/scan"), 3)
    low, high = point.interval
    assert done.out == (
        f"{mine}: healthy-fp = {point.threshold:.6g} (at most 1 lesion/scan in 50 % of healthy scans, confidence 50 %, "
        f"components of 8 voxels or more; 3 scans; over_budget 0.3333, over_budget_limit 0.5, bound 0.5, "
        f"next_within 0.5, rank 2, subjects 3, needed_for_half_epsilon 3, amber_scans 3, "
        f"interval {low:.6g} to {high:.6g}; lesion-free scans have {point.lesion_free})\n"
    )
    shown = call("inspect", mine).out
    block = shown[shown.index(f"point        healthy-fp: score > {point.threshold:.6g}\n") :]
    for line in (
        f"strategy = {LOOSE},budget=1 lesion/scan",
        f"target = {point.target}",
        f"interval = [{low:.6g}, {high:.6g}]",
        f"scans = 3, digest {point.digest[:16]}",
        f"date = {point.date}",
        f"made for = {shipped.scorer} {' '.join(map(str, shipped.cleaners))}",
        "next_within = 0.5",
    ):
        assert f"             {line}\n" in block
    assert "point        p98: score > " in shown


def test_segment_keeps_the_budget_on_the_scans_it_was_calibrated_on(small_cohort: Path, tmp_path: Path) -> None:
    """All three keep it where the highest of their thresholds is used, two of them where that is the second."""
    path, model = tmp_path / "h.safetensors", "histeq"
    train = [small_cohort, "--split", "train"]
    for name, promise in {"highest": "epsilon=0.3,delta=0.4", "second": "epsilon=0.5,delta=0.5"}.items():
        strategy = ["--strategy", f"healthy-fp:{promise}", "--budget", "2 lesions/scan", "--name", name]
        assert call("threshold", "--model", model, *strategy, "-o", path, "--overwrite", "--healthy", *train).code == 0
        model = str(path)
    found = {}
    for name in ("highest", "second"):
        done = call("segment", *train, "--model", path, "--point", name, "-o", tmp_path / name)
        found[name] = [int(line.split("\t")[2]) for line in done.out.splitlines()[1:]]
    assert max(found["highest"]) <= 2
    assert sum(count <= 2 for count in found["second"]) == 2


def test_too_few_are_refused_before_anything_is_scored(
    small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uadtk.pipeline.threshold.score_all", lambda *_: pytest.fail("scored for nothing"))
    path = tmp_path / "h.safetensors"
    threshold = ["threshold", "--model", "histeq", "--healthy", small_cohort, "-o", path, "--budget"]
    call(*threshold, "1 lesion/scan").refused(2, "healthy-fp: epsilon=0.2 with delta=0.1 needs 11 subjects, not 5.")
    call(*threshold, "1 lesion").refused(2, "healthy-fp: budget=1 lesion: not a budget. Write '1 lesion/scan'")
    call(*threshold, "0,5 ml/scan").refused(2, "--budget '0,5 ml/scan': a budget has no comma. Write 0.5, not 0,5.")
    call(*threshold, "1 ml/scan", "--strategy", "p98").refused(2, "p98: no option 'budget'")
    assert not path.exists()


def test_slices_of_patients_are_said_to_be_a_part(small_cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    done = call("threshold", "--strategy", LOOSE, "--model", "histeq", "--healthy", small_cohort, "--split", "test",
                "-o", path)  # fmt: skip
    assert done.code == 0
    counted = checkpoints.load(path).points[0].measured["brain_counted"]
    assert 0.3 < counted < 0.99
    assert done.err.splitlines(keepends=True)[-1] == (  # after the gate's line about the small scan
        f"only lesion-free tissue was counted ({counted:.0%} of the brain): "
        "any guarantee per scan holds for that part of it\n"
    )


def test_components_can_be_counted_from_a_volume_on() -> None:
    """Two components of 3 voxels: 0.05 ml asks for 3 voxels of 20 mm3, and for 6 of 10 mm3."""
    score = np.zeros((9, 5, 5), np.float32)
    score[1:4, 1, 1], score[5:8, 3, 3] = 0.4, 0.7

    def chosen(voxel_ml: float) -> Choice:
        scans = [replace(scan(score, subject=f"s{n}"), voxel_ml=voxel_ml) for n in range(11)]
        return choose(scans, budget="1 lesion/scan", min_ml=0.05)

    assert chosen(0.02).threshold == pytest.approx(0.4)
    assert chosen(0.01).threshold == 0
    assert (chosen(0.02).min_ml, chosen(0.02).min_voxels) == (0.05, None)
    assert "components of 0.05 ml or more" in chosen(0.02).target
