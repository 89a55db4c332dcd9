"""The former name of :mod:`uadtk.plugin`. It stays as an alias; see the deprecation policy there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uadtk import plugin
from uadtk.plugin import __all__ as __all__

if TYPE_CHECKING:
    from uadtk.plugin import *  # noqa: F403


def __getattr__(name: str) -> object:
    return getattr(plugin, name)
