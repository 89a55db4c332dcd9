"""Signals that end a command as ctrl-c does: one line, scratch removed, and the same command goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM (a scheduler, a container) and SIGHUP (a terminal that closed) raise KeyboardInterrupt in the block.

    One that is ignored, as ``nohup`` does, stays ignored. The first one counts: a second must not stop the cleaning up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    handled = [number for number in _ENDING if before[number] == signal.SIG_DFL]

    def stop(*_: Any) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
