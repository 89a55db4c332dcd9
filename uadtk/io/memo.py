"""Results stored with everything they depend on, so that the same work is not done twice, and never for other inputs.

A *memo* is a JSON file ``{"format": n, "digest": "...", "key": {...}, ...}``: ``key`` holds all inputs as plain values,
``digest`` is the SHA-256 of it, and the rest is the result. A memo is used only if its digest fits the key that is
asked for. Results that lack a part because something failed are not stored, or are marked and tried again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from uadtk.core import schema
from uadtk.core.absent import refuse_special, why
from uadtk.core.errors import DataError
from uadtk.core.schema import Check
from uadtk.io.write import write_json

_MOST_TEXT = 1 << 28


def read_text(path: Path) -> str:
    """A small text file. Raises OSError, or ValueError if it is not UTF-8, too large, or no file that ends."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    if found.st_size > _MOST_TEXT:
        raise ValueError("is too large")
    return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one if there is none or it cannot be read."""
    try:
        record = schema.parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def generated_here(folder: Path) -> bool:
    """Its ``dataset_description.json`` says that uadtk made it."""
    return generated(read_json(folder / "dataset_description.json"))


def generated(record: dict[str, Any]) -> bool:
    """A ``dataset_description.json`` says that uadtk made its data set."""
    makers = record.get("GeneratedBy")
    return isinstance(makers, list) and any(isinstance(one, dict) and one.get("Name") == "uadtk" for one in makers)


def digest_of(key: Any) -> str:
    """SHA-256 of plain values; the order of a dictionary's keys does not matter."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Of the bytes of a file."""
    refuse_special(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_memo(path: Path, form: int, key: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Write it, whole or not at all, and return the record as it will be read."""
    record = {"format": form, "digest": digest_of(key), "key": key, **content}
    write_json(path, record)
    return json.loads(json.dumps(record, default=str))  # type: ignore[no-any-return]


def read_memo(path: Path, form: int, what: str, check: Check = schema.plain, fix: str = "") -> dict[str, Any]:
    """A record that passes ``check``; ``what`` names its kind in errors.

    Raises
    ------
    DataError
        It cannot be read, is something else, is of another format, does not pass, or its key was changed.
    """
    try:
        record: dict[str, Any] = schema.parse_json(read_text(path))
        made_for, key, digest = record["format"], record["key"], record["digest"]
    except OSError as error:
        raise DataError(f"cannot be read ({why(error)})", str(path), fix) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(f"is not {what}", str(path), fix) from None
    if made_for != form:
        raise DataError(f"is {what} of format {str(made_for)[:40]}, this uadtk reads {form}", str(path), fix)
    try:
        schema.plain(record, what)
        check(record, what.removeprefix("a "))
    except ValueError as error:
        raise DataError(f"is damaged: {error}", str(path), fix) from None
    if digest_of(key) != digest:
        raise DataError("is damaged: its key does not fit its digest", str(path), fix)
    return record


def remembered(path: Path, form: int, key: dict[str, Any], check: Check = schema.plain) -> dict[str, Any] | None:
    """The record of exactly this key, or None: there is none, it is damaged, or it is of other inputs."""
    try:
        record = read_memo(path, form, "a record", check)
    except DataError:
        return None
    return record if record["digest"] == digest_of(key) else None
