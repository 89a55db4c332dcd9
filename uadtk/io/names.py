"""File names: which are images, the name of a scan's outputs, and safe names from any text."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from uadtk.io.readers import IMAGE
from uadtk.io.rows import Row

LONGEST_NAME = 160
"""Bytes. File systems allow 255, and an output's suffix is added."""

_BIDS = re.compile(r"(sub-[^_]+(?:_[a-z]+-[^_]+)*)_[A-Za-z0-9]+")


def safe_name(text: str, longest: int = LONGEST_NAME) -> str:
    """A file name made of text: letters, digits, ``.``, ``_``, ``+`` and ``-``, in no folder, not hidden, not empty.

    A name of more than ``longest`` bytes is cut and ends with part of its SHA-256, so that two long names differ.

    >>> safe_name("../../etc/passwd"), safe_name("Ann B (2)"), safe_name("")
    ('etc-passwd', 'Ann-B-2-', 'scan')
    """
    name = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text)).lstrip(".-") or "scan"
    packed = name.encode()
    if len(packed) <= longest:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{packed[: longest - len(digest) - 1].decode(errors='ignore')}-{digest}"


def output_name(item: Row | str | os.PathLike[str]) -> str:
    """The name of a scan's outputs, without their suffix; made by ``safe_name``.

    >>> output_name("raw/sub-01_ses-1_FLAIR.nii.gz"), output_name("scan.nii.gz")
    ('sub-01_ses-1', 'scan')
    >>> output_name(Row("P 7", Path("ses-2/flair.nii.gz")))
    'P-7_ses-2'
    """
    if not isinstance(item, Row):
        return safe_name(scan_name(Path(item)))
    base = scan_name(item.image)
    if base.startswith("sub-") and f"{base}_".startswith(f"{item.subject}_"):
        return safe_name(base)
    session = re.search(r"(?:^|[/_])(ses-[A-Za-z0-9]+)[/_]", item.image.as_posix())
    return safe_name(f"{item.subject}_{session[1]}" if session else item.subject)


def output_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """``output_name`` of every row; a name that was there already, in any case, gets a number: ``P1``, ``P1_2``."""
    taken: set[str] = set()
    last: dict[str, int] = {}  # number of each name: all up to it are taken
    names = []
    for row in rows:
        base = output_name(row)
        first = last.get(base.casefold(), 1)
        number, name = next(
            one for one in enumerate(with_numbers(base, first), first) if one[1].casefold() not in taken
        )
        last[base.casefold()] = number
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def with_numbers(base: str, first: int = 1) -> Iterator[str]:
    """``P``, ``P_2``, ``P_3``, ..., from the ``first``."""
    return (f"{base}_{number}" if number > 1 else base for number in count(first))


def scan_name(path: Path) -> str:
    """The name without format endings, and without the suffix if it is a BIDS name."""
    name = IMAGE.sub("", path.name)
    if name == path.name:
        name = Path(name.removesuffix(".gz")).stem
    bids = _BIDS.fullmatch(name)
    return bids[1] if bids else name
