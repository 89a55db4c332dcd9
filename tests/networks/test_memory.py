"""Freed memory stays in the process where the C library is glibc; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import sys

import pytest

from uadtk.networks import memory


class Glibc:
    def __init__(self) -> None:
        self.set: dict[int, int] = {}
        self.trimmed = 0

    def gnu_get_libc_version(self) -> bytes:
        return b"2.39"

    def mallopt(self, what: int, value: int) -> None:
        self.set[what] = value

    def malloc_trim(self, pad: int) -> None:
        self.trimmed += 1


def keep_with(monkeypatch: pytest.MonkeyPatch, platform: str, libc: object) -> None:
    def load(_: None) -> object:
        if isinstance(libc, Exception):
            raise libc
        return libc

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    memory.keep_memory.__wrapped__()


def test_glibc_returns_nothing_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Glibc()
    keep_with(monkeypatch, "linux", libc)
    assert libc.set == {memory.M_MMAP_MAX: 0, memory.M_TRIM_THRESHOLD: -1, memory.M_TOP_PAD: 64 << 20}


def test_memory_is_returned_between_stages_of_large_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Glibc()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    memory.return_memory(256**3)
    assert libc.trimmed == 0
    memory.return_memory(512 * 512 * 320)
    assert libc.trimmed == 1


@pytest.mark.parametrize(
    ("platform", "libc"),
    [("linux", object()), ("linux", OSError("cannot be loaded")), ("darwin", Glibc()), ("win32", TypeError("None"))],
    ids=["musl", "no libc", "macOS", "Windows"],
)
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str, libc: object) -> None:
    keep_with(monkeypatch, platform, libc)
    assert not getattr(libc, "set", None)


def test_python_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "ctypes", None)
    memory.keep_memory.__wrapped__()
