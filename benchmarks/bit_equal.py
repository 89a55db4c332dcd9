"""Digests of everything that every model computes, to prove that a change of the code changed no bit of it.

    python benchmarks/bit_equal.py --write before.tsv      # on the commit to compare with
    python benchmarks/bit_equal.py --compare before.tsv    # after the change; exit code 1 if a digest differs

Each registered model and both plugins under ``plugins/`` are built at the smallest side they accept, from fixed seeds,
with their quick options and then once for every other choice of an option. One line each, name and SHA-256: the fresh
weights, training losses, the weights after two steps of training in each of its stages, every output, and the score by
every scorer that fits. One thread, CPU; digests depend on processor and torch version, so compare on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
PLUGINS = {"dae": "uadtk_dae.model", "pca": "uadtk_pca.model"}
sys.path[:0] = [str(path) for path in ROOT.glob("plugins/*/src")]

from uadtk import registry  # noqa: E402
from uadtk.core import options as opts  # noqa: E402
from uadtk.core.errors import UsageError  # noqa: E402
from uadtk.core.model import Batch, traits  # noqa: E402
from uadtk.networks.seeded import seeded  # noqa: E402
from uadtk.testing.specimens import healthy_slices, planted  # noqa: E402
from uadtk.training.optimisers import make_optimisers, take_turns, turns_of  # noqa: E402

SIDES, SLICES, STEPS = (64, 128), 4, 2
SCORERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("own", {}),
    ("residual", {}),
    ("residual", {"polarity": "absolute"}),
    ("multiscale", {}),
    ("gradient", {"form": "paper", "polarity": "absolute"}),
    ("gradient", {"form": "product"}),
    ("montecarlo", {"samples": 3}),
    ("restoration", {"steps": 4}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="Write the digests to this table.")
    parser.add_argument("--compare", type=Path, help="Compare the digests with those in this table.")
    parser.add_argument("--only", nargs="*", help="Names of models, instead of all.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classes = {name: registry.load("models", name) for name in registry.own("models")}
    classes |= {name: importlib.import_module(module).Model for name, module in PLUGINS.items()}
    found: dict[str, str] = {}
    for name, cls in classes.items():
        if not arguments.only or name in arguments.only:
            for line, digest in _digests(name, cls):
                found[line] = digest
                print(f"{line}\t{digest}", flush=True)
    if arguments.write:
        arguments.write.write_text("".join(f"{line}\t{digest}\n" for line, digest in found.items()))
    if arguments.compare:
        sys.exit(_compare(found, arguments.compare, arguments.only))


def _compare(found: dict[str, str], file: Path, only: list[str] | None) -> int:
    before = dict(line.split("\t") for line in file.read_text().splitlines())
    if only:
        before = {line: digest for line, digest in before.items() if line.split()[0] in only}
    differ = [line for line in {**before, **found} if before.get(line) != found.get(line)]
    for line in differ:
        print(
            f"differs: {line}: {before.get(line, 'absent')[:12]} -> {found.get(line, 'absent')[:12]}", file=sys.stderr
        )
    print(f"{len(before)} digests before, {len(found)} now, {len(differ)} differ", file=sys.stderr)
    return 1 if differ else 0


def _digests(name: str, cls: Any) -> Iterator[tuple[str, str]]:
    for values in _variants(cls):
        label = " ".join([name, *(f"{key}={value}" for key, value in values.items())])
        options = opts.build(cls.Options, {**traits(cls).quick, **values}, name)
        side = _smallest(cls, options)
        for what, digest in _of_model(cls, options, side):
            yield f"{label} {what}", digest


def _variants(cls: Any) -> Iterator[dict[str, Any]]:
    """The defaults; then every other choice of each option, one at a time."""
    yield {}
    for field in opts.fields(cls.Options):
        others: list[Any] = [choice for choice in field.choices if choice != field.default]
        if field.type is bool:
            others = [not field.default]
        if field.name in ("dropout", "noise", "lowpass") and not field.choices:
            others = [0.0] if field.default else [4 if field.type is int else 0.1]
        if field.name in ("embedding", "adapt"):
            others = [0.05]
        for value in others:
            yield {field.name: value}


def _smallest(cls: Any, options: Any) -> int:
    for side in SIDES[:-1]:
        try:
            _new(cls, options, side)
        except UsageError:
            continue
        return side
    return SIDES[-1]


def _new(cls: Any, options: Any, side: int) -> Any:
    with seeded(0):
        return cls(options, side)


def _of_model(cls: Any, options: Any, side: int) -> Iterator[tuple[str, str]]:
    model = _new(cls, options, side)
    yield "state", _sha(model.state_dict())
    healthy = healthy_slices(SLICES, side)
    batch = _lessons(model, healthy)
    yield "capabilities", _sha({name: torch.ones(()) for name in traits(model).capabilities})
    if "training_loss" in traits(model).capabilities:
        for mode in (True, False):
            with seeded(1), torch.no_grad():
                yield f"loss {'training' if mode else 'eval'}", _sha(model.train(mode).training_loss(batch))
    yield from _outputs(model, healthy, "fresh")
    yield from _training(model, batch)
    yield from _outputs(model, healthy, "trained")


def _lessons(model: Any, healthy: Batch) -> Batch:
    """Two slices with a lesion that is marked, two without; labelled and not, so that every term of a loss counts."""
    image, lesion = planted(healthy)
    half = torch.arange(len(image))[:, None, None, None] < len(image) // 2
    channels = 1 + 2 * traits(model).neighbours
    known = (half | torch.zeros_like(lesion)) if traits(model).unlabelled else lesion | True
    return replace(
        healthy,
        image=torch.where(half, image, healthy.image).repeat(1, channels, 1, 1),
        normal=~(lesion & half),
        lesion=lesion & known,
        known=known,
        hint=lesion & ~known,
        hinted=~known,
    )


def _training(model: Any, batch: Batch) -> Iterator[tuple[str, str]]:
    model.train()
    optimisers = make_optimisers(model, 1e-3)
    judged = traits(model).judged_from
    for epoch in [1, int(judged)] if 1 < judged < math.inf else [1]:
        if not optimisers:
            break
        for step in range(STEPS):
            for turn in turns_of(model, epoch):
                with seeded(10 * epoch + step):
                    losses = take_turns([turn], optimisers, [batch])
                yield f"epoch {epoch} step {step} {turn.player} x{turn.times} losses", _sha(losses)
                yield f"epoch {epoch} step {step} {turn.player} weights", _sha(dict(model.named_parameters()))
    if traits(model).conclude:
        with torch.no_grad():
            model.eval().conclude([batch])
        yield "concluded", _sha(model.state_dict())


def _outputs(model: Any, healthy: Batch, when: str) -> Iterator[tuple[str, str]]:
    model.eval()
    x, brain = planted(healthy)[0], healthy.brain
    can = traits(model).capabilities
    with seeded(3), torch.no_grad():
        if "reconstruct" in can:
            yield f"{when} reconstruct", _sha({"x": model.reconstruct(x)})
        if "sample" in can:
            yield f"{when} sample", _sha({"x": model.sample(x, 2)})
        if "objective" in can:
            yield f"{when} objective", _sha({"x": model.objective(x)})
        if "score" in can:
            yield f"{when} score", _sha({"x": model.score(x, brain)})
    for name, values in SCORERS:
        spec = ":".join([name, *(f"{key}={value}" for key, value in values.items())])
        scorer_class = registry.load("scorers", name)
        scorer = scorer_class(opts.build(scorer_class.Options, values, name))
        if set(scorer.needs) <= can:
            with seeded(4):
                scored = scorer.score(model, x.clone(), brain)
            yield f"{when} scorer {spec}", _sha({"score": scored.score, **scored.maps})


def _sha(tensors: dict[str, Tensor]) -> str:
    """Of names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
