from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.constant import constant, count
from uadtk.core.model import capabilities, default_scorer
from uadtk.models.ocsvm import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.plugin import BackendError, Batch, DataError
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices, planted

SLICES = healthy_slices(48, 32)
LEARNED, HELD = (Batch(SLICES.image[s], SLICES.brain[s], SLICES.normal[s]) for s in (slice(40), slice(40, 48)))


def model(**options: Any) -> Model:
    with seeded(1):
        return Model(Options(**{"latent": 16, "vectors": 64, **options}), 32).eval().requires_grad_(False)


def concluded(*batches: Batch, **options: Any) -> Model:
    fitted = model(**options)
    fitted.conclude(iter(batches or (LEARNED,)))
    return fitted


def per_slice(ocsvm: Model, batch: Batch) -> torch.Tensor:
    return ocsvm.score(batch.image, batch.brain).amax((1, 2, 3))


def test_parameters_of_the_autoencoder_of_the_study() -> None:
    assert count(Model(Options(), 128)) == 1_625_777


def test_loss_is_the_sum_over_normal_pixels_and_the_mean_over_slices() -> None:
    grey = constant(model(), 0.25)
    error = (HELD.image - 0.25).abs()
    torch.testing.assert_close(grey.training_loss(HELD)["loss"], error.sum() / 8)
    half = replace(HELD, normal=HELD.image > 0.5)
    torch.testing.assert_close(grey.training_loss(half)["loss"], error[HELD.image > 0.5].sum() / 8)


def test_dropout_acts_on_z_in_training_only() -> None:
    ae = model(dropout=0.5)
    (z,) = ae.net.encode(HELD.image)

    def loss_through(z: torch.Tensor) -> torch.Tensor:
        return (HELD.image - ae.net.decode(z)).abs().sum() / 8

    torch.testing.assert_close(ae.training_loss(HELD)["loss"], loss_through(z))
    with seeded(2):
        dropped = ae.train().training_loss(HELD)["loss"]
    with seeded(2):
        torch.testing.assert_close(dropped, loss_through(F.dropout(z, 0.5)))
    assert dropped != ae.eval().training_loss(HELD)["loss"]


@pytest.mark.parametrize("latent", [16, 100])  # with more numbers than slices some directions have no variance
@pytest.mark.parametrize("nu", [0.05, 0.5])
def test_score_is_the_decision_function_turned_over(latent: int, nu: float) -> None:
    """By scikit-learn alone, ``gamma="scale"`` included."""
    from sklearn.decomposition import PCA
    from sklearn.svm import OneClassSVM

    ocsvm = concluded(latent=latent, nu=nu)
    learned, held = (ocsvm.net.encode(batch.image)[0].double().numpy() for batch in (LEARNED, HELD))
    pca = PCA(min(latent, 39), whiten=True).fit(learned)
    reference = OneClassSVM(kernel="rbf", gamma="scale", nu=nu, tol=1e-9).fit(pca.transform(learned))
    for batch, z in ((LEARNED, learned), (HELD, held)):
        decision = reference.decision_function(pca.transform(z))
        expected = 1 - (decision - reference.intercept_) / reference.dual_coef_.sum()
        score = per_slice(ocsvm, batch).numpy()
        np.testing.assert_allclose(score, expected, atol=5e-4)  # it stops at a tolerance of 1e-3


def test_slices_with_a_lesion_outscore_healthy_ones() -> None:
    """Even features of random weights tell."""
    ocsvm = concluded()
    healthy, ill = per_slice(ocsvm, HELD), per_slice(ocsvm, replace(HELD, image=planted(HELD)[0]))
    assert 0 <= healthy.min() < healthy.max() < ill.min() <= ill.max() <= 1


def test_a_slice_has_one_score_everywhere_in_its_brain() -> None:
    score = concluded().score(HELD.image, HELD.brain)
    assert score.dtype == torch.float32
    for value, brain in zip(score, HELD.brain, strict=True):
        assert value[brain].unique().numel() == 1
        assert not value[~brain].any()
    assert score.unique().numel() == len(HELD.image) + 1


def test_a_slices_score_does_not_depend_on_the_others() -> None:
    ocsvm = concluded()
    alone = torch.cat([ocsvm.score(HELD.image[k : k + 1], HELD.brain[k : k + 1]) for k in range(8)])
    torch.testing.assert_close(ocsvm.score(HELD.image, HELD.brain), alone, rtol=0, atol=1e-5)


def test_before_the_end_of_training_all_is_abnormal() -> None:
    assert torch.equal(model().score(HELD.image, HELD.brain), HELD.brain.float())


@pytest.mark.parametrize("nu", [0.05, 0.5, 0.9])
def test_nu_bounds_the_share_left_outside_and_the_number_of_support_vectors(nu: float) -> None:
    """Of 40 slices at most 40ν weigh as much as one may, 1 / 40ν, and at least 40ν weigh anything."""
    weight = concluded(nu=nu).weight
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
    most = 1 / (40 * nu)
    assert weight.min() == 0
    assert weight.max() < most + 1e-6
    assert (weight > most - 1e-6).sum() <= 40 * nu + 1e-6 <= weight.count_nonzero() + 1e-3


def test_the_svm_sees_a_fixed_choice_where_there_are_more_slices_than_vectors() -> None:
    with generators_untouched():
        few = concluded(vectors=20, nu=0.9)
    points = (few.net.encode(LEARNED.image)[0] - few.mean) @ few.whitening
    near = torch.cdist(points, few.support).amin(1) < 0.01  # else about 1
    assert 18 <= near.sum() <= 20
    assert near[20:].sum() > 5  # a draw from all scans, not the first ones
    assert torch.equal(few.support, concluded(vectors=20, nu=0.9).support)


def test_all_slices_are_whitened() -> None:
    few = concluded(vectors=10)
    points = (few.net.encode(LEARNED.image)[0] - few.mean) @ few.whitening
    torch.testing.assert_close(points.T @ points / 40, torch.eye(16) / 16, rtol=0, atol=1e-4)
    torch.testing.assert_close(points.mean(0), torch.zeros(16), rtol=0, atol=1e-4)


def test_batches_are_one_set_of_slices() -> None:
    halves = [Batch(LEARNED.image[s], LEARNED.brain[s], LEARNED.normal[s]) for s in (slice(25), slice(25, 40))]
    torch.testing.assert_close(per_slice(concluded(*halves), HELD), per_slice(concluded(), HELD), rtol=0, atol=1e-3)


def test_slices_with_a_known_lesion_are_left_out() -> None:
    image, lesion = planted(LEARNED)
    ill = replace(LEARNED, image=image, normal=~lesion)
    assert torch.equal(concluded(LEARNED, ill).support, concluded().support)
    with pytest.raises(DataError, match="every training slice contains a known lesion"):
        concluded(ill)


def test_one_slice_is_enough() -> None:
    one = Batch(LEARNED.image[:1], LEARNED.brain[:1], LEARNED.normal[:1])
    assert not per_slice(concluded(one), one).any()


def test_fitting_again_forgets_what_was_fitted() -> None:
    ocsvm = concluded(nu=0.9)
    half = Batch(LEARNED.image[:20], LEARNED.brain[:20], LEARNED.normal[:20])
    ocsvm.conclude([half])
    again = concluded(half, nu=0.9)
    assert all(torch.equal(a, b) for a, b in zip(ocsvm.buffers(), again.buffers(), strict=True))


def test_what_was_fitted_is_in_the_state() -> None:
    other = Model(Options(latent=16, vectors=64), 32).eval()
    other.load_state_dict(concluded().state_dict())
    assert torch.equal(per_slice(other, HELD), per_slice(concluded(), HELD))


def test_without_scikit_learn_training_does_not_begin_but_scoring_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ocsvm = concluded()
    monkeypatch.setattr("uadtk.models.ocsvm.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    for attempt in (lambda: ocsvm.train().training_loss(HELD), lambda: ocsvm.conclude([HELD])):
        with pytest.raises(BackendError, match=r'pip install "uadtk\[svm\]"'):
            attempt()
    ocsvm.eval()
    assert math.isfinite(ocsvm.training_loss(HELD)["loss"])
    assert per_slice(ocsvm, HELD).isfinite().all()


def test_it_scores_and_does_not_reconstruct() -> None:
    assert capabilities(Model) == {"training_loss", "score"}
    assert default_scorer(Model) == "own"


def test_weights_that_add_up_to_a_little_more_than_one_give_no_negative_score() -> None:
    ocsvm = model()
    ocsvm.weight.fill_(1.001 / 64)  # and all slices are where the vectors are
    assert not ocsvm.score(HELD.image, HELD.brain).any()
