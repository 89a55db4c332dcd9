"""Sets of files that a killed process was moving into place, so that the same command can move them again.

A set with a manifest names its files there; of one without, they are named in a hidden file of the folder meanwhile.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from uadtk.core.schema import parse_json

UNFINISHED = "unfinished"
"""Key of a manifest or journal whose set is being moved into place; its value: the names of the set's files."""
JOURNAL = ".uadtk-unfinished.json"
_MOST = 1 << 24


def unfinished(folder: Path) -> set[str]:
    """Paths, relative to the folder, of files of sets without a manifest.

    A journal that is damaged names none; nor does one of another user, who could have this user's files replaced.
    """
    journal = folder / JOURNAL
    try:
        found = journal.lstat()
        mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not (stat.S_ISREG(found.st_mode) and mine and found.st_size < _MOST):
            return set()
        names = parse_json(journal.read_bytes())[UNFINISHED]
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def is_unfinished(path: Path) -> bool:
    whole = path.absolute()
    return any(str(whole.relative_to(folder)) in unfinished(folder) for folder in whole.parents)
