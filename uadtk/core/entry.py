"""Records that a plugin registers: they name objects without importing them."""

from __future__ import annotations

from dataclasses import dataclass

API_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A model, scorer, thresholder, cleaner or command of a plugin.

    Parameters
    ----------
    name : str
        The name on the command line, ``lower-case-with-dashes``.
    target : str
        ``package.module:attribute``; imported on first use.
    summary : str
        One line for lists and ``--help``.
    api : int
        The version of ``uadtk.plugin`` that it was written for.
    """

    name: str
    target: str
    summary: str = ""
    api: int = API_VERSION
