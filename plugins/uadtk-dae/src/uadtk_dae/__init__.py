"""Denoising autoencoder for uadtk. This module is imported at start-up and must stay light."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from uadtk.plugin import Entry, hookimpl


@hookimpl
def uadtk_models() -> Iterable[Entry]:
    return [Entry("dae", "uadtk_dae.model:Model", "Denoising autoencoder: a U-Net that removes coarse noise.")]


@hookimpl
def uadtk_weights() -> Iterable[Path]:
    return [Path(__file__).parent / "weights"]
