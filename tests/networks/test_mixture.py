from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from uadtk.networks.mixture import (
    Gaussian,
    MixtureLatent,
    component_divergence,
    conditional_divergence,
    log_responsibilities,
)
from uadtk.networks.seeded import seeded

K, DIM_Z, DIM_W, FEATURES = 4, 3, 2, 5

with seeded(0):
    Z = torch.randn(2, DIM_Z, 2, 2)
    Q_Z = Gaussian(*torch.randn(2, 2, DIM_Z, 2, 2))
    COMPONENTS = Gaussian(*torch.randn(2, 2, K, DIM_Z, 2, 2))
    SHARES = torch.rand(2, K, 2, 2).log_softmax(1)
    X = torch.randn(2, FEATURES, 2, 2)


def normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, (gaussian.log_variance / 2).exp())


def latent(floor: float = 0.0, responsibilities: Any = "correct", hidden: int = 0) -> MixtureLatent:
    """Its components are apart, unlike those of a new one."""
    with seeded(1):
        module = MixtureLatent(FEATURES, DIM_Z, DIM_W, K, floor, responsibilities, hidden)
        for head in (module.means, module.log_precisions):
            torch.nn.init.normal_(head.bias)
    return module


def test_responsibilities_are_shares_of_the_gaussian_density() -> None:
    density = normal(COMPONENTS).log_prob(Z[:, None]).sum(2)
    torch.testing.assert_close(log_responsibilities(Z, COMPONENTS), density - density.logsumexp(1, keepdim=True))


def test_legacy_responsibilities_prefer_the_wider_component() -> None:
    """At the mean of both, the narrower one is denser; the published codes' sign says the opposite, twice over."""
    both = Gaussian(torch.zeros(1, 2, 1, 1, 1), torch.tensor([0.0, -2.0])[None, :, None, None, None])
    at = torch.zeros(1, 1, 1, 1)
    shares = {form: log_responsibilities(at, both, form).flatten() for form in ("correct", "legacy")}
    torch.testing.assert_close(shares["correct"].diff(), torch.tensor([1.0]))
    torch.testing.assert_close(shares["legacy"].diff(), torch.tensor([-2.0]))


def test_legacy_responsibilities_keep_the_distance() -> None:
    precision = (-COMPONENTS.log_variance).exp()
    published = (-0.5 * (Z[:, None] - COMPONENTS.mean) ** 2 * precision - precision.log() + math.log(math.pi)).sum(2)
    torch.testing.assert_close(log_responsibilities(Z, COMPONENTS, "legacy").exp(), published.softmax(1))


def test_divergence_of_z_from_each_component_counts_by_its_share() -> None:
    pairs = kl_divergence(normal(Gaussian(*(t[:, None] for t in Q_Z))), normal(COMPONENTS)).sum(2)
    found = conditional_divergence(Q_Z, COMPONENTS, SHARES)
    torch.testing.assert_close(found, (SHARES.exp() * pairs).sum((1, 2, 3)))


def test_divergence_of_the_component_from_uniform() -> None:
    expected = kl_divergence(Categorical(logits=SHARES.movedim(1, -1)), Categorical(logits=torch.zeros(K)))
    torch.testing.assert_close(component_divergence(SHARES, 0.0), expected.sum((1, 2)))


def test_the_floor_holds_at_each_place() -> None:
    """One place knows the component (log 4 = 1.39), one does not (0): with a floor of 1 that is 1.39 + 1."""
    certain, uniform = torch.tensor([0.0, -1e9, -1e9, -1e9]), torch.zeros(4).log_softmax(0)
    shares = torch.stack([certain, uniform], 1)[None, :, None]
    torch.testing.assert_close(component_divergence(shares, 0.0), torch.tensor([math.log(4)]))
    torch.testing.assert_close(component_divergence(shares, 1.0), torch.tensor([math.log(4) + 1]))


def test_there_is_no_gradient_below_the_floor() -> None:
    logits = torch.tensor([[[[2.0, 0.2]], [[0.0, 0.0]]]], requires_grad=True)  # divergence 0.33 and 0.005
    component_divergence(logits.log_softmax(1), floor=0.1).sum().backward()
    assert logits.grad is not None
    assert logits.grad[..., 0].all()
    assert not logits.grad[..., 1].any()


def test_far_from_all_components_everything_stays_finite() -> None:
    far = (Z + 1e6).requires_grad_()
    log_q = log_responsibilities(far, COMPONENTS)
    total = component_divergence(log_q, 0.0) + conditional_divergence(
        Gaussian(far, Q_Z.log_variance), COMPONENTS, log_q
    )
    total.sum().backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()
    assert total.isfinite().all()


def test_a_draw_has_the_variance_whose_logarithm_is_given() -> None:
    with seeded(2):
        drawn = Gaussian(torch.full((100_000,), 3.0), torch.full((100_000,), -4.0)).draw()
    assert drawn.mean().item() == pytest.approx(3, abs=0.01)
    assert drawn.var().item() == pytest.approx(math.exp(-4), rel=0.02)


def test_a_new_mixture_is_linear_in_w_with_log_precision_a_tenth_at_nought() -> None:
    with seeded(1), torch.no_grad():
        module = MixtureLatent(FEATURES, DIM_Z, DIM_W, K, 0.0, "correct")
        w = torch.randn(2, DIM_W, 2, 2)
        at, twice, nought = (module.prior(factor * w) for factor in (1, 2, 0))
    assert at.mean.shape == at.log_variance.shape == (2, K, DIM_Z, 2, 2)
    assert not nought.mean.any()
    torch.testing.assert_close(nought.log_variance, torch.full_like(nought.log_variance, -0.1))
    for one, two, none in zip(at, twice, nought, strict=True):
        torch.testing.assert_close(two - none, 2 * (one - none))
        assert (one != none).all()


def test_a_hidden_layer_bends_the_way_from_w_to_the_mixture() -> None:
    module = latent(hidden=6)
    assert module.hidden[0].out_channels == 6
    with torch.no_grad():
        at, opposite, nought = (module.prior(torch.full((1, DIM_W, 1, 1), w)) for w in (1.0, -1.0, 0.0))
    for one, other, none in zip(at, opposite, nought, strict=True):
        assert not torch.allclose(one - none, none - other)


@pytest.mark.parametrize("responsibilities", ["correct", "legacy"])
def test_what_the_latent_costs_at_the_means(responsibilities: Any) -> None:
    module = latent(0.2, responsibilities)
    with torch.no_grad():
        z, costs = module(X, draw=False)
        w_mean, w_log_variance, z_mean, z_log_variance = (head(X) for head in module.heads)
    assert torch.equal(z, z_mean)
    prior = module.prior(w_mean)
    log_q = log_responsibilities(z_mean, prior, responsibilities)
    expected = {
        "conditional": conditional_divergence(Gaussian(z_mean, z_log_variance), prior, log_q),
        "w": kl_divergence(Normal(w_mean, w_log_variance.exp().sqrt()), Normal(0, 1)).sum((1, 2, 3)),
        "component": component_divergence(log_q, 0.2),
    }
    torch.testing.assert_close(costs, expected)


def test_w_shapes_the_mixture_and_z_is_weighed_by_it_both_as_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    module = latent()
    seen = []
    monkeypatch.setattr(module, "prior", lambda w, prior=module.prior: seen.append(w) or prior(w))
    with torch.no_grad(), seeded(2):
        z, costs = module(X, draw=True)
        q_w, q_z = module.encode(X)
    with seeded(2):
        expected = q_w.draw(), q_z.draw()
    torch.testing.assert_close((seen[0], z), expected)
    torch.testing.assert_close(
        costs["component"], component_divergence(log_responsibilities(z, module.prior(seen[0])), 0)
    )


@pytest.mark.parametrize("hidden", [0, 6])
def test_every_place_has_a_mixture_of_its_own(hidden: int) -> None:
    """Costs of a map are the sums of the costs of its places."""
    module = latent(floor=0.5, hidden=hidden)
    with torch.no_grad():
        z, costs = module(X, draw=False)
        alone = [module(X[:, :, i : i + 1, j : j + 1], draw=False) for i in (0, 1) for j in (0, 1)]
    torch.testing.assert_close(z.flatten(2), torch.cat([z.flatten(2) for z, _ in alone], 2))
    torch.testing.assert_close(costs, {name: torch.stack([cost[name] for _, cost in alone]).sum(0) for name in costs})


def test_gradients_of_each_cost() -> None:
    """The component depends on z and on w; the divergence of w is its own affair."""
    module = latent(hidden=6)
    for name, reached in (("w", {"heads.0", "heads.1"}), ("component", None), ("conditional", None)):
        module.zero_grad()
        _, costs = module(X, draw=True)
        costs[name].sum().backward()
        found = {key.rpartition(".")[0] for key, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        everything = {key.rpartition(".")[0] for key, _ in module.named_parameters()}
        assert found == (reached or everything), name
