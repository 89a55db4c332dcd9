"""Sets of files that a killed process was moving into place, so that the same command can move them again.

A set with a manifest names its files there; of one without, they are named in a hidden file of the folder meanwhile.
"""

from __future__ import annotations

import json
from pathlib import Path

UNFINISHED = "unfinished"
"""Key of a manifest or journal whose set is being moved into place; its value: the names of the set's files."""
JOURNAL = ".uadtk-unfinished.json"


def unfinished(folder: Path) -> set[str]:
    """Paths, relative to the folder, of files of sets without a manifest; a journal that is damaged names none."""
    journal = folder / JOURNAL
    try:
        return set(json.loads(journal.read_bytes())[UNFINISHED]) if journal.is_file() else set()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def is_unfinished(path: Path) -> bool:
    whole = path.absolute()
    return any(str(whole.relative_to(folder)) in unfinished(folder) for folder in whole.parents)
