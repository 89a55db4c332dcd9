"""The campaigns of ``benchmarks/hardening``, in short. Their full length and results stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hardening import kills, malformed


@pytest.mark.slow
@pytest.mark.parametrize("kind", malformed.KINDS, ids=lambda kind: kind.name)
def test_malformed_input_is_read_or_refused(kind: malformed.Kind) -> None:
    ends, faults = malformed.campaign(15, kinds=(kind,))
    assert not faults
    assert sum(ends.values()) == 15


def test_the_campaign_finds_faults() -> None:
    """It could fail: a reader that raises, returns nonsense, or takes memory."""

    def read(path: Path) -> str:
        what = path.read_bytes()[0] % 3
        if what == 0:
            raise KeyError
        return "wrong" if what == 1 else f"{len(bytes(5 * 10**9))}"

    kind = malformed.Kind("x", "x", lambda _: bytes(range(256)), lambda data, draw: bytes([draw.randrange(9)]), read)
    ends, faults = malformed.campaign(12, kinds=(kind,))
    assert {end for _, end in ends} == {"traceback", "nonsense", "memory"}
    assert len(faults) == 12


@pytest.mark.slow
def test_kills(tmp_path: Path) -> None:
    (line,) = kills.campaign(1, 2, kills.WAYS[:1], tmp_path, method=("--model", "histeq", "--threshold", "0.98"))
    assert line.startswith("| one process | 2 |")
