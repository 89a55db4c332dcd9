"""Turns of adversarial training with a Wasserstein critic of images, or of the latent z of an autoencoder.

Each function returns data for ``Model.players`` and ``Model.turns``; :func:`uadtk.networks.critics.critic_loss` is what
the critic minimises. Losses call ``critic`` and ``fake`` afresh, so they follow the model's weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from uadtk.core.model import Batch, Turn
from uadtk.networks.critics import critic_loss
from uadtk.networks.dense import DenseAutoencoder
from uadtk.networks.residual_blocks import ResidualAutoencoder

WARM_UP_EPOCHS = 6  # of an adversarial autoencoder: it takes more steps per batch than its adversaries

Fake = Callable[..., Tensor]


def critic_turn(
    critic: Callable[[Tensor], Tensor],
    fake: Fake,
    times: int,
    penalty: float,
    once: Callable[[Batch], Tensor] | None = None,
) -> Turn:
    """``times`` steps of the critic, separating ``fake(batch)`` from the batch's slices.

    Pixels that are not ``normal`` are 0 in the real slices; ``fake`` masks its own, so the critic sees neither.
    ``once``: see ``Turn``; ``fake`` gets its result as second argument.
    """

    def loss(batch: Batch, *given: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            made = fake(batch, *given)
        return critic_loss(critic, batch.target * batch.normal, made, penalty)

    return Turn("critic", loss, times, once)


def generator_turn(critic: Callable[[Tensor], Tensor], fake: Fake, player: str = "generator") -> Turn:
    """One step of ``player`` to raise the critic's value of ``fake(batch)``."""
    return Turn(player, lambda batch: {"loss": -critic(fake(batch)).mean()})


def generated(generator: Callable[[Tensor], Tensor], latent: int, batch: Batch) -> Tensor:
    """One slice per slice of the batch from fresh z ~ N(0, 1), 0 where the batch's are not ``normal``."""
    z = torch.randn(len(batch.image), latent, device=batch.image.device)
    return generator(z) * batch.normal


def latent_turns(
    net: DenseAutoencoder | ResidualAutoencoder, critic: Callable[[Tensor], Tensor], times: int, penalty: float
) -> list[Turn]:
    """``times`` steps of the critic, separating z from N(0, 1) draws; one of the encoder, to raise its value of z."""

    def encoded(batch: Batch) -> Tensor:
        (z,) = net.encode(batch.image)
        return z

    def loss(batch: Batch, z: Tensor | None = None) -> dict[str, Tensor]:
        with torch.no_grad():
            z = encoded(batch) if z is None else z
        return critic_loss(critic, torch.randn_like(z), z, penalty)

    return [Turn("critic", loss, times, encoded), generator_turn(critic, encoded, "encoder")]


def latent_players(net: DenseAutoencoder | ResidualAutoencoder, critic: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters of the players ``autoencoder``, ``critic`` and ``encoder``; the last owns every layer up to z."""
    to_z: list[nn.Module] = [net.encoder]  # that of the residual network ends in z
    if isinstance(net, DenseAutoencoder):
        to_z += [net.latent.squeeze, net.latent.heads]
    return {
        "autoencoder": list(net.parameters()),
        "critic": list(critic.parameters()),
        "encoder": list(nn.ModuleList(to_z).parameters()),
    }
