from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.constant import count
from uadtk.core.model import capabilities
from uadtk.models import steganomaly
from uadtk.models.steganomaly import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.networks.tissue import tissue_map
from uadtk.networks.translation import low_pass
from uadtk.plugin import Batch, UsageError
from uadtk.testing.specimens import healthy_slices, planted

BATCH = healthy_slices(3, 32)
REAL = BATCH.image
SIMULATED = tissue_map(REAL, BATCH.brain, BATCH.normal, 3)
BOARD = 1 - 2.0 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)


class Known(nn.Module):
    """A network that can be worked out on paper, and keeps what it was shown."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.shown = value, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return self.value(x)


def model(**options: Any) -> Model:
    with seeded(1):
        return Model(Options(**{"width": 4, "blocks": 1, **options}), 32)


def known(**options: Any) -> Model:
    """G halves, F adds 0.1; the discriminator of simulated slices always says 0.25, that of real ones 0.75."""
    gan = model(**options)
    gan.to_simulated, gan.to_real = Known(lambda x: 0.5 * x), Known(lambda x: x + 0.1)
    gan.judge_simulated, gan.judge_real = Known(lambda x: 0 * x + 0.25), Known(lambda x: 0 * x + 0.75)
    return gan


def loss(gan: Model, player: str, batch: Batch = BATCH) -> dict[str, Tensor]:
    (turn,) = [turn for turn in gan.turns(1) if turn.player == player]
    return turn.loss(batch)


def reached(value: Tensor, gan: Model) -> set[str]:
    """Names of the parameters that ``value`` depends on."""
    named = dict(gan.named_parameters())
    gradients = torch.autograd.grad(value, named.values(), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None and gradient.any()}


def of(gan: Model, player: str) -> set[str]:
    own = {id(parameter) for parameter in gan.players()[player]}
    return {name for name, parameter in gan.named_parameters() if id(parameter) in own}


def test_two_generators_and_two_discriminators() -> None:
    full = Model(Options(), 128)
    assert count(full.to_simulated) == count(full.to_real) == 7_821_441
    assert count(full.judge_simulated) == count(full.judge_real) == 2_761_793


def test_each_parameter_has_one_player_and_each_player_one_turn() -> None:
    gan = model()
    assert sum(len(own) for own in gan.players().values()) == len(list(gan.parameters()))
    assert of(gan, "generators") == {name for name, _ in gan.named_parameters() if name.startswith("to_")}
    assert of(gan, "discriminators") == {name for name, _ in gan.named_parameters() if name.startswith("judge_")}
    assert [(turn.player, turn.times) for turn in gan.turns(1)] == [("generators", 1), ("discriminators", 1)]
    assert gan.betas == (0.5, 0.999)
    assert "sample" not in capabilities(gan)


@pytest.mark.parametrize("weights", [{}, {"cycle_weight": 3.0, "identity_weight": 2.0}])
def test_what_the_generators_minimise(weights: dict[str, float]) -> None:
    losses = loss(known(lowpass=0.0, **weights), "generators")
    adversarial = torch.tensor(0.75**2 + 0.25**2)
    cycle = (REAL - (0.5 * REAL + 0.1)).abs().mean() + (SIMULATED - 0.5 * (SIMULATED + 0.1)).abs().mean()
    identity = 0.1 + (0.5 * SIMULATED).mean()
    torch.testing.assert_close(
        (losses["adversarial"], losses["cycle"], losses["identity"]), (adversarial, cycle, identity)
    )
    cycle_weight, identity_weight = weights.get("cycle_weight", 10.0), weights.get("identity_weight", 0.5)
    torch.testing.assert_close(losses["loss"], adversarial + cycle_weight * (cycle + identity_weight * identity))


def test_what_the_discriminators_minimise() -> None:
    """Each is shown slices of its own domain first, then translations."""
    gan = known()
    losses = loss(gan, "discriminators")
    torch.testing.assert_close(losses["judge_simulated"], torch.tensor(0.5 * (0.75**2 + 0.25**2)))
    torch.testing.assert_close(losses["judge_real"], torch.tensor(0.5 * (0.25**2 + 0.75**2)))
    torch.testing.assert_close(losses["loss"], losses["judge_simulated"] + losses["judge_real"])
    torch.testing.assert_close(gan.judge_simulated.shown, [SIMULATED, 0.5 * REAL])
    torch.testing.assert_close(gan.judge_real.shown, [REAL, SIMULATED + 0.1])


def test_a_discriminator_learns_to_tell_true_from_false_not_the_other_way_round() -> None:
    gan = known()
    gan.judge_simulated = Known(lambda x: (x == SIMULATED).float())
    gan.judge_real = Known(lambda x: (x == REAL).float())
    gan.to_simulated, gan.to_real = (Known(lambda x: x + 7.0) for _ in range(2))
    assert loss(gan, "discriminators")["loss"] == 0
    assert loss(gan, "generators")["adversarial"] == 2


def test_reconstruction_is_the_cycle_from_real_to_real() -> None:
    gan = known(lowpass=2.0)
    rebuilt = low_pass(0.5 * REAL, 2.0) + 0.1
    torch.testing.assert_close(gan.reconstruct(REAL), rebuilt)
    torch.testing.assert_close(gan.objective(REAL), (REAL - rebuilt).abs().flatten(1).sum(1))


def test_weights_are_selected_by_intact_pixels_and_by_removed_implants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity has no error but the implants it leaves; the empty slice has none of them, and no slice either."""
    gan = known()
    losses = {}
    for name, value in {"copies": lambda x: x, "removes": lambda _: REAL, "empty": lambda x: 0 * x}.items():
        monkeypatch.setattr(gan, "reconstruct", value)
        with seeded(3):
            losses[name] = gan.training_loss(BATCH)
    assert losses["removes"]["loss"] == 0
    assert losses["copies"]["intact"] < 0.01 < 0.05 < losses["copies"]["implanted"]  # edges of implants are soft
    assert losses["removes"]["loss"] < losses["copies"]["loss"] < losses["empty"]["loss"]


def test_implants_are_as_large_as_the_pixels_ask() -> None:
    gan = known()
    losses = []
    for batch in (BATCH, replace(BATCH, pixel_mm=2 * BATCH.pixel_mm)):
        with seeded(3):
            losses.append(gan.training_loss(batch)["implanted"])
    assert losses[0] != losses[1]


def test_known_lesions_do_not_count_in_the_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without implants, and with networks that look at one pixel at a time."""
    monkeypatch.setattr(
        steganomaly, "with_implants", lambda batch, *_: SimpleNamespace(image=batch.image, target=batch.brain & False)
    )
    image, lesion = planted(BATCH)
    losses = [
        known(lowpass=0.0).training_loss(Batch(bright, BATCH.brain, ~lesion)) for bright in (image, image + 3 * lesion)
    ]
    torch.testing.assert_close(*losses)
    error = (image - (0.5 * image + 0.1)).abs()
    torch.testing.assert_close(losses[0]["loss"], error[BATCH.brain & ~lesion].mean())


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Five slices, each of one intensity, and as of which half: 0.1 | 0.6, 0.2 | 0.7, ..."""
    level = (torch.arange(1, 6.0) / 10)[:, None, None].expand(5, 32, 32)
    np.save(tmp_path / "slices.npy", (level + 0.5 * (torch.arange(32) > 15)).numpy().astype(np.float16))
    return tmp_path / "slices.npy"


def test_simulated_slices_are_drawn_from_the_file_and_mirrored(slices: Path) -> None:
    gan = model(simulated=str(slices))
    with seeded(0):
        drawn = torch.cat([gan._simulated(BATCH) for _ in range(20)])
    assert drawn.dtype == torch.float32
    ends = {(round(float(x[0, 0, 0]), 1), round(float(x[0, 0, -1]), 1)) for x in drawn}
    levels = {(k / 10, (k + 5) / 10) for k in range(1, 6)}
    assert ends == levels | {(right, left) for left, right in levels}
    slices.unlink()
    assert gan.reconstruct(REAL).isfinite().all()  # the file is not needed to score
    assert all(loss(gan, player)["loss"].isfinite() for player in gan.players())


def test_both_players_see_simulated_slices_in_place_of_tissue_maps(slices: Path) -> None:
    for player, judge in (("generators", "to_real"), ("discriminators", "judge_simulated")):
        gan = known(simulated=str(slices))
        loss(gan, player)
        shown = getattr(gan, judge).shown[0]
        assert not shown.isclose(SIMULATED).all()
        assert shown[:, 0].flatten(1).unique(dim=1).shape[1] == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (np.zeros((3, 16, 16), np.float32), "is not slices"),
        (np.zeros((0, 32, 32), np.float32), "is not slices"),
        (np.full((3, 32, 32), 500, np.float32), "intensities"),
        (np.full((3, 32, 32), np.nan, np.float32), "intensities"),
        (np.array(["a"]), "cannot be read"),
    ],
)
def test_files_without_simulated_slices_are_refused(content: np.ndarray | None, what: str, tmp_path: Path) -> None:
    path = tmp_path / "slices.npy"
    if content is not None:
        np.save(path, content)
    with pytest.raises(UsageError, match=what):
        loss(model(simulated=str(path)), "generators")


@pytest.mark.parametrize(("lowpass", "passed"), [(1.0, 0.0), (0.0, 1.0)])
def test_what_is_hidden_in_weak_high_frequencies_does_not_reach_the_way_back(lowpass: float, passed: float) -> None:
    """A chequerboard of amplitude 0.05 on G(x), in training and at test; without the low-pass all of it arrives."""
    for use, turn in ((lambda gan: gan.reconstruct(REAL), 0), (lambda gan: loss(gan, "generators"), 1)):
        given = []
        for hidden in (0.0, 0.05 * BOARD):
            gan = known(lowpass=lowpass)
            gan.to_simulated = Known(lambda x, hidden=hidden: 0.5 * x + hidden)
            use(gan)
            given.append(gan.to_real.shown[turn])
        torch.testing.assert_close(given[0], low_pass(0.5 * REAL, lowpass))
        arrived = float((given[1] - given[0]).abs().max()) / 0.05
        assert arrived == pytest.approx(passed, abs=1e-3)


def test_the_way_back_from_true_simulated_slices_has_no_low_pass() -> None:
    gan = known(lowpass=2.0)
    loss(gan, "generators")
    torch.testing.assert_close(gan.to_real.shown, [SIMULATED, low_pass(0.5 * REAL, 2.0), REAL])
    torch.testing.assert_close(gan.to_simulated.shown, [REAL, SIMULATED + 0.1, SIMULATED])


def test_known_lesions_have_no_part_in_what_is_asked_for() -> None:
    """With networks that look at one pixel at a time, a lesion may be as bright as it likes."""
    image, lesion = planted(BATCH)
    for player in ("generators", "discriminators"):
        losses = []
        for bright in (image, image + 3 * lesion):
            gan = known(lowpass=0.0)
            gan.to_real = Known(lambda x: 0.9 * x + 0.1)
            losses.append(loss(gan, player, Batch(bright, BATCH.brain, ~lesion)))
            assert not any(shown[lesion].any() for shown in gan.judge_real.shown)
            assert all(shown[~lesion].any() for shown in gan.judge_real.shown)
        torch.testing.assert_close(*losses)


def test_each_player_learns_from_its_own_turn() -> None:
    gan = model()
    assert of(gan, "generators") <= reached(loss(gan, "generators")["loss"], gan)
    assert reached(loss(gan, "discriminators")["loss"], gan) == of(gan, "discriminators")


def test_either_generator_learns_from_its_discriminator_and_both_from_each_cycle() -> None:
    gan = model(cycle_weight=0.0)
    assert reached(loss(gan, "generators")["adversarial"], gan) >= of(gan, "generators")
    gan.judge_real = Known(lambda x: 0 * x)
    names = reached(loss(gan, "generators")["adversarial"], gan)
    assert {name.split(".")[0] for name in names} == {"to_simulated", "judge_simulated"}
    assert reached(gan.training_loss(BATCH)["loss"], gan) == of(gan, "generators")


def test_no_loss_knows_which_map_is_of_which_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = model()
    before = [loss(gan, player) for player in gan.players()]
    monkeypatch.setattr(gan, "_simulated", lambda batch: SIMULATED.roll(1, 0))
    torch.testing.assert_close([loss(gan, player) for player in gan.players()], before)


def test_as_many_tissues_as_asked_for() -> None:
    gan = known(tissues=5)
    loss(gan, "discriminators")
    torch.testing.assert_close(gan.judge_simulated.shown[0], tissue_map(REAL, BATCH.brain, BATCH.normal, 5))
    assert not torch.allclose(gan.judge_simulated.shown[0], SIMULATED)


def test_in_half_precision_too() -> None:
    gan = model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [loss(gan, player) for player in gan.players()]
    for reduced, player in zip(losses, gan.players(), strict=True):
        torch.testing.assert_close(reduced["loss"], loss(gan, player)["loss"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("side", [28, 34, 130])
def test_slices_that_do_not_fit(side: int) -> None:
    with pytest.raises(UsageError, match=f"slices of {side} pixels"):
        Model(Options(width=4, blocks=1), side)


def test_the_smallest_slices() -> None:
    for side in (32, 36):
        gan, batch = Model(Options(width=4, blocks=1), side), healthy_slices(1, side)
        assert gan.reconstruct(batch.image).shape == batch.image.shape
        assert all(loss(gan, player, batch)["loss"].isfinite() for player in gan.players())
