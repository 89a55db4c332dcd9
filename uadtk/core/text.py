"""Text for people: any file name, on one line, in any terminal.

File names are bytes. Python decodes those that are not UTF-8 to lone surrogates, which no terminal and no UTF-8 file
takes. Names may also hold line breaks, escape sequences, and marks that reverse the direction of writing.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

ESCAPED = "uadtk-escaped"
"""The error handler for ``str.encode`` and streams: what cannot be encoded is written as :func:`shown` writes it."""

# Control characters, line separators, marks of writing direction, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


class OutputError(Exception):
    """stdout cannot be written: what, where and fix, as ``UadtkError`` has them."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(f"{where}: {what}. {fix}")


def shown(text: str) -> str:
    r"""The text with everything escaped that would break a line, a terminal or a file.

    >>> print(shown("b\udcfc.nii\n"))
    b\xfc.nii\n
    """
    return _UNSAFE.sub(_escape, text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _escape(match: re.Match[str]) -> str:
    return _escaped(match[0])


def _handler(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_escaped(one) if "\ud800" <= one <= "\udfff" else "?" for one in lacking), error.end


codecs.register_error(ESCAPED, _handler)


class _Stream:
    """A stream for people: no control characters but line ends and tabs, and one error if it cannot be written.

    The error is raised again by every later call, in case a library has swallowed it.
    """

    def __init__(self, stream: TextIO, name: str, vital: bool) -> None:
        self._stream, self._name, self._vital = stream, name, vital
        self._error: OutputError | None = None

    def write(self, text: str) -> int:
        # A progress bar moves the cursor; what is printed on stderr has been through ``shown``.
        return self._try(self._stream.write, _UNSAFE_IN_LINES.sub(_escape, text) if self._vital else text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[..., Any], *values: str) -> Any:
        if self._error:
            raise self._error
        try:
            return action(*values)
        except (OSError, ValueError) as error:  # a closed pipe, a full disk; a closed file
            with suppress(OSError, ValueError):  # or the interpreter fails once more at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not self._vital:
                return None
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._error = OutputError(f"cannot be written ({reason})", self._name, "Nothing more was printed.")
            raise self._error from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def output_for_people() -> Iterator[None]:
    """In the block, stdout and stderr take any text, escaped; a closed stderr loses its lines, and nothing else.

    Printing raises OutputError if stdout cannot be written: it or its pipe is closed, or the disk is full. Flush it
    before the block ends, or the last lines may be lost without an error.
    """
    before = sys.stdout, sys.stderr
    streams = [open(os.devnull) if stream is None else stream for stream in before]  # noqa: SIM115  # not writable
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPED)
    sys.stdout, sys.stderr = _Stream(streams[0], "stdout", True), _Stream(streams[1], "stderr", False)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
