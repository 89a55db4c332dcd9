"""Text for people: any file name, on one line, in any terminal.

File names are bytes. Python decodes those that are not UTF-8 to lone surrogates, which no terminal and no UTF-8 file
takes. Names may also hold line breaks, escape sequences, and marks that reverse the direction of writing.
"""

from __future__ import annotations

import codecs
import re
import sys

ESCAPED = "uadtk-escaped"
"""The error handler for ``str.encode`` and streams: what cannot be encoded is written as :func:`shown` writes it."""

# Control characters, line separators, marks of writing direction, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text with everything escaped that would break a line, a terminal or a file.

    >>> print(shown("b\udcfc.nii\n"))
    b\xfc.nii\n
    """
    return _UNSAFE.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _handler(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_escaped(one) if "\ud800" <= one <= "\udfff" else "?" for one in lacking), error.end


codecs.register_error(ESCAPED, _handler)


def escape_output() -> None:
    """Let stdout and stderr escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPED)
