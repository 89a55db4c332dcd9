"""Errors that a user meets: what happened, where, what to do; each with its exit code.

    UadtkError            1   something failed (also: some scans of a cohort failed)
    ├── StorageError      1   the disk is full, or scratch space cannot be used
    ├── UsageError        2   the command asks for something that does not exist or does not fit
    ├── DataError         3   a scan, mask or table cannot be used
    │   └── GateError     "   a scan that the checkpoint cannot read: not a FLAIR, not a brain, not an image
    ├── CheckpointError   4   a checkpoint cannot be read or does not fit
    ├── PluginError       5   a plugin that was asked for cannot be loaded
    ├── BackendError      6   a device or an optional library is missing
    └── OutOfMemoryError  7   a scan needs more memory than there is
    interrupted         130

Anything else that escapes is a bug in uadtk, and the command line says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from uadtk.core.text import shown


class UadtkError(Exception):
    """Base of all errors meant for people.

    Parameters
    ----------
    what : str
        What happened, in one clause.
    where : str
        File, axis, option or value it happened at.
    fix : str
        What the reader can do about it.

    Attributes
    ----------
    stops_run : bool
        The error is not about one scan: it would meet the next one too, so a cohort stops.
    """

    exit_code = 1
    stops_run = False

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.one_line())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.where, self.fix), dict(self.__dict__)

    def locate(self, where: object) -> None:
        """Add the place to an error that passes by without one."""
        if not self.where:
            self.where = str(where)
            self.args = (self.one_line(),)

    def one_line(self) -> str:
        """``where: what. fix`` on a single line."""
        where = shown(self.where)  # a line break in a file name must not become a blank
        text = f"{where}: {self.what}" if where else self.what
        text = f"{text}. {self.fix}" if self.fix else text
        return shown(" ".join(text.split()))


class StorageError(UadtkError):
    stops_run = True


class UsageError(UadtkError):
    exit_code = 2


class DataError(UadtkError):
    exit_code = 3


class GateError(DataError):
    """``light`` is what the gate showed: red, or amber where only green may pass."""

    light = "red"


class CheckpointError(UadtkError):
    exit_code = 4


class PluginError(UadtkError):
    exit_code = 5


class BackendError(UadtkError):
    exit_code = 6
    stops_run = True


class OutOfMemoryError(UadtkError):
    exit_code = 7


INTERRUPTED = 130


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(names) or 'none'}."
