"""Signals that end a command as ctrl-c does: one line, scratch removed, and the same command resumes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ending() -> Iterator[list[int]]:
    """SIGTERM (a scheduler, a container) and SIGHUP (a terminal that closed) raise KeyboardInterrupt in the block.

    Yields the signals received so far, ctrl-c included: where compiled code swallows the exception, what fails next is
    no bug. One that is ignored, as ``nohup`` does, stays ignored.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handled = [number for number in _ENDING if before[number] in usual]

    def stop(number: int, _: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, before[number])
