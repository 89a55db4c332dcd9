"""The model that learns implants: what it is shown, what counts, how it scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.constant import count
from uadtk.models.implant import Model, Options
from uadtk.networks.arithmetic import fast_bfloat16
from uadtk.networks.lessons import JUDGED, lesson
from uadtk.networks.seeded import seeded
from uadtk.plugin import UsageError
from uadtk.testing.specimens import healthy_slices, planted

BATCH = healthy_slices(6, 64)


def model(**options: object) -> Model:
    with seeded(1):
        return Model(Options(**{"width": 4, "depth": 3, **options}), 64).eval()  # type: ignore[arg-type]


def test_parameters() -> None:
    assert count(Model(Options(), 128)) == 450_897
    assert count(model()) < count(model(width=8))
    assert count(model()) < count(model(depth=4))
    with pytest.raises(UsageError, match="cannot be halved"):
        Model(Options(), 100)


def test_the_loss_is_decided_by_the_seed_and_training_has_other_implants() -> None:
    taught = model()

    def loss(seed: int) -> float:
        with seeded(seed), torch.no_grad():
            return float(taught.training_loss(BATCH)["loss"])

    assert loss(3) == loss(3) != loss(4)
    held = loss(3)
    taught.train()
    assert loss(3) != held


def test_nothing_is_learned_where_a_lesion_is_known_nor_outside_the_brain() -> None:
    image, lesion = planted(BATCH)
    marked = replace(BATCH, image=image, normal=~lesion)
    logits = torch.zeros_like(image, requires_grad=True)
    taught = model()
    taught.net.forward = lambda x: logits  # type: ignore[method-assign]
    with seeded(0):
        taught.training_loss(marked)["loss"].backward()
    with seeded(0):
        counts = lesson(marked, taught.pixel_mm, JUDGED).counts
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, counts)


def test_sizes_are_in_mm_of_the_field_of_view() -> None:
    assert model().pixel_mm == 208 / 64
    assert model(field_mm=104).pixel_mm == 104 / 64


def test_shapes_are_used_in_training_and_not_needed_after_it(tmp_path: Path) -> None:
    path = tmp_path / "shapes.npy"
    np.save(path, np.ones((1, 8, 8), np.float16))
    taught, plain = model(shapes=str(path)), model()

    def losses() -> list[float]:
        found = []
        for one in (taught, plain):
            with seeded(3), torch.no_grad():
                found.append(float(one.training_loss(BATCH)["loss"]))
        return found

    assert len(set(losses())) == 2
    path.unlink()
    assert model(shapes=str(path)).score(BATCH.image, BATCH.brain).isfinite().all()


@pytest.mark.parametrize("content", [None, np.ones((8, 8)), np.full((2, 8, 8), 3.0), np.ones((0, 8, 8))])
def test_shapes_that_are_none_are_refused(content: np.ndarray | None, tmp_path: Path) -> None:
    path = tmp_path / "shapes.npy"
    if content is not None:
        np.save(path, content)
    with pytest.raises(UsageError, match=r"cannot be read|is not masks"):
        model(shapes=str(path)).training_loss(BATCH)


def test_scores_in_bfloat16_are_those_of_float32_but_for_rounding() -> None:
    torch.manual_seed(0)
    model = Model(Options(width=8, arithmetic="float32"), 64).eval()
    x, brain = torch.rand(4, 1, 64, 64), torch.ones(4, 1, 64, 64, dtype=torch.bool)
    with torch.inference_mode():
        exact = model.score(x, brain)
        model.options = replace(model.options, arithmetic="bfloat16")
        rounded = model.score(x, brain)
        alone = torch.cat([model.score(one, inside) for one, inside in zip(x.split(1), brain.split(1), strict=True)])
    assert exact.dtype == rounded.dtype == torch.float32
    assert model.arithmetic == ("bfloat16" if fast_bfloat16(x.device) else "float32")
    assert (rounded - exact).abs().max() < 0.02 * exact.max()
    assert (alone - rounded).abs().max() < 0.02 * exact.max()
    assert bool((rounded != exact).any()) == (model.arithmetic == "bfloat16")


def test_many_slices_are_scored_as_few() -> None:
    slices = healthy_slices(40, 64)
    taught = model(arithmetic="float32")  # in bfloat16 the kernel, and so the rounding, may depend on the batch
    with torch.no_grad():
        score = taught.score(slices.image, slices.brain)
        torch.testing.assert_close(taught.score(slices.image[:3], slices.brain[:3]), score[:3])
