"""What a command's ``Run`` takes from the machine and from its environment."""

from __future__ import annotations

import pytest
import torch

from uadtk.pipeline.run import make_run


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that torch was told to use."""
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr("uadtk.pipeline.run.usable_cores", lambda: 6)
    return told


@pytest.mark.parametrize(
    ("variable", "asked", "expected"),
    [
        (None, 0, 6),
        ("3", 0, 3),
        ("3", 2, 2),
        ("4,2", 0, 4),
        ("", 0, 6),
        ("many", 0, 6),
        ("0", 0, 1),
        ("9" * 12, 0, 1024),
    ],
)
def test_threads_are_those_of_the_variable_that_schedulers_set(
    variable: str | None, asked: int, expected: int, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    make_run("cpu", asked)
    assert threads == [expected]


def test_under_torchrun_each_process_takes_its_share(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun sets the variable to 1, whatever the machine has."""
    for name, value in (("OMP_NUM_THREADS", "1"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    make_run("cpu")
    assert threads == [3]
