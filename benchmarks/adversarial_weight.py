"""Does the critic of `anovaegan` act? Sharpness and error with and without it, over seeds, on the demo phantom.

    python -m benchmarks.adversarial_weight --weights 0 4 --seeds 3

120 steps on slices of 32 pixels. Sharpness: mean |gradient| of the reconstructions over that of the slices.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from tests.slices import error_and_that_of_the_mean, learn, phantom
from uadtk.models.anovaegan import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.training.optimisers import make_optimisers

SIDE, STEPS = 32, 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, Options.adversarial])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print("| weight | seed | sharpness | error per slice | of the mean image |\n|---|---|---|---|---|")
    for weight in arguments.weights:
        for seed in range(arguments.seeds):
            model = trained(weight, seed)
            error, of_mean = error_and_that_of_the_mean(model, phantom(SIDE))
            print(f"| {weight:g} | {seed} | {sharpness(model):.2f} | {error:.1f} | {of_mean:.1f} |", flush=True)


def trained(weight: float, seed: int) -> Model:
    with seeded(seed):
        model = Model(Options(adversarial=weight), SIDE).train()
        learn(model.turns(1), make_optimisers(model, 7e-4), phantom(SIDE), STEPS, at_once=4)
    return model


def sharpness(model: Model) -> float:
    image = phantom(SIDE).image
    with torch.inference_mode():
        return _edges(model.eval().reconstruct(image)) / _edges(image)


def _edges(x: Tensor) -> float:
    return float(x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
