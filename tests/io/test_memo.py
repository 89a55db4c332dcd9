"""Memos: a result is used again for exactly its inputs, and never if it is damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uadtk.core.errors import DataError, UadtkError
from uadtk.core.schema import plain, record
from uadtk.io.memo import digest_of, read_memo, remembered, sha256_of, write_memo

KEY = {"model": "vae", "options": {"latent": 8, "side": 128}, "scans": ["a", "b"], "threshold": 0.1}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def reordered(value: Any) -> Any:
    """The same with the keys of every dictionary in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(one) for one in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_the_order_of_a_dictionary_does_not_matter(key: dict[str, Any]) -> None:
    assert digest_of(reordered(key)) == digest_of(key) == digest_of(json.loads(json.dumps(key)))


@pytest.mark.parametrize(
    "changed",
    [
        {**KEY, "model": "ae"},
        {**KEY, "options": {"latent": 8, "side": 256}},
        {**KEY, "scans": ["b", "a"]},
        {**KEY, "threshold": 0.1 + 2**-54},
        {**KEY, "more": None},
        {name: value for name, value in KEY.items() if name != "model"},
    ],
)
def test_any_other_input_is_another_key(changed: dict[str, Any], tmp_path: Path) -> None:
    write_memo(tmp_path / "m.json", 3, KEY, {"value": 1})
    assert digest_of(changed) != digest_of(KEY)
    assert remembered(tmp_path / "m.json", 3, changed) is None


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9999
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_what_was_written_is_what_is_returned_read_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "m.json"
    written = write_memo(path, 3, KEY, {"value": (1, 2.5), "image": Path("a/b.nii.gz")})
    assert written == {"format": 3, "digest": digest_of(KEY), "key": KEY, "value": [1, 2.5], "image": "a/b.nii.gz"}
    assert read_memo(path, 3, "a record", record({"value": plain, "image": plain})) == written
    assert remembered(path, 3, reordered(KEY)) == written


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a record"),
        ("{", "is not a record"),
        ("[1]", "is not a record"),
        ("7", "is not a record"),
        ("{}", "is not a record"),
        ('{"format": 3, "digest": "x"}', "is not a record"),
        ('{"format": 3, "key": {}}', "is not a record"),
        ('{"format": 3, "digest": "x", "key": {}}', "is damaged: its key does not fit its digest"),
        ('{"format": 2, "digest": "x", "key": {}}', "is a record of format 2, this uadtk reads 3"),
        ("\udcff", "is not a record"),
    ],
)
def test_what_is_no_memo_is_refused_with_its_path_and_not_remembered(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_memo(path, 3, "a record", fix="Name another.")
    assert (caught.value.where, caught.value.fix) == (str(path), "Name another.")
    assert words in caught.value.what
    assert remembered(path, 3, {}) is None


def test_a_memo_of_another_format_or_with_a_changed_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    made = write_memo(path, 3, KEY, {"value": 1})
    with pytest.raises(DataError, match="is a record of format 3, this uadtk reads 4"):
        read_memo(path, 4, "a record")
    assert remembered(path, 4, KEY) is None
    path.write_text(json.dumps({**made, "key": {**KEY, "model": "ae"}}))
    with pytest.raises(DataError, match="is damaged"):
        read_memo(path, 3, "a record")
    assert remembered(path, 3, KEY) is None
    assert remembered(path, 3, {**KEY, "model": "ae"}) is None


def test_a_memo_without_a_part_that_is_needed_is_refused(tmp_path: Path) -> None:
    write_memo(tmp_path / "m.json", 3, KEY, {"value": 1})
    with pytest.raises(DataError, match="is damaged"):
        read_memo(tmp_path / "m.json", 3, "a record", record({"value": plain, "where": plain}))


def test_where_there_is_none_none_is_remembered(tmp_path: Path) -> None:
    assert remembered(tmp_path / "none.json", 3, KEY) is None
    assert remembered(tmp_path, 3, KEY) is None
    with pytest.raises(DataError, match=r"none\.json: cannot be read \(No such file or directory\)"):
        read_memo(tmp_path / "none.json", 3, "a record")


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.json"
    write_memo(path, 3, KEY, {"value": 1})
    before = path.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UadtkError, match="No space left on device"):
        write_memo(path, 3, KEY, {"value": 2})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="JSON"):
        write_memo(path, 3, KEY, {"value": float("nan")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
