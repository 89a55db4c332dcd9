"""Gzip by either library: read by every other, the same bytes each time, damage noticed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from uadtk.core.errors import DataError
from uadtk.io import deflate
from uadtk.io.readers.packed import unpacked


@pytest.fixture(params=["zlib-ng", "zlib"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib-ng":
        pytest.importorskip("zlib_ng")
    else:
        monkeypatch.setattr(deflate, "zlib_ng", None)
    return str(request.param)


def content() -> list[bytes | memoryview]:
    noise = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    noise[10_000:40_000] = 0
    return [b"header", noise.view(np.uint8).data]


def test_the_standard_library_reads_it_and_the_bytes_are_the_same_each_time() -> None:
    first = b"".join(deflate.packed(content()))
    assert gzip.decompress(first) == b"".join(content())
    assert len(first) < 0.5 * len(b"".join(content()))
    assert b"".join(deflate.packed(content())) == first


def test_the_library_is_named(library: str) -> None:
    assert list(deflate.library()) == [library]
    assert deflate.library()[library][0].isdigit()


def test_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    file, whole = tmp_path / "a.gz", b"".join(content())
    file.write_bytes(b"".join(deflate.packed(content())) + gzip.compress(b"more") + bytes(10))
    assert unpacked(file) == whole + b"more"
    with pytest.raises(DataError, match="holds more"):
        unpacked(file, len(whole) - 1)


@pytest.mark.parametrize("missing", [20, 4])
def test_a_file_cut_short_is_noticed(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a.gz").write_bytes(b"".join(deflate.packed(content()))[:-missing])
    with pytest.raises(DataError, match="cut short"):
        unpacked(tmp_path / "a.gz")


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    data = bytearray(b"".join(deflate.packed(content())))
    data[-6] ^= 1
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(DataError, match="damaged gzip data"):
        unpacked(tmp_path / "a.gz")
