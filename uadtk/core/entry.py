"""What a plugin hands over: light records that name things without importing them."""

from __future__ import annotations

from dataclasses import dataclass

API_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One thing a plugin offers.

    Parameters
    ----------
    name : str
        The name on the command line, ``lower-case-with-dashes``.
    target : str
        ``package.module:attribute``; imported only when it is used.
    summary : str
        One line for lists and ``--help``.
    api : int
        The version of ``uadtk.plugin`` it was written for.
    """

    name: str
    target: str
    summary: str = ""
    api: int = API_VERSION
