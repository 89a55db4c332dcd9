"""``numba.njit`` for kernels: machine code is stored for the next process where a folder can be written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile without the GIL; cached, unless Numba finds no writable folder (a read-only installation and home)."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function": compiled again by every process
            return njit(nogil=True, **options)(function)

    return decorate
