"""The campaigns of ``benchmarks/hardening``, in short. Their full length and results stand there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hardening import malformed, manifests
from uadtk.io import results

ROOT = Path(__file__).parents[1]


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
def test_planted_manifests_change_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, faults = manifests.campaign(8)
    assert not faults
    assert sum(ends.values()) == 8

    def plant(there: manifests.Folder, _: object) -> str:
        (there.out / "s_provenance.json").write_text('{"unfinished": ["s_notes.txt"], "input": {}}')
        return "planted"

    monkeypatch.setattr(manifests, "plant", plant)
    assert manifests.campaign(1)[1] == []
    monkeypatch.setattr(results, "is_output", lambda file, name: str(file).startswith(f"{name}_"))  # it could fail
    assert manifests.campaign(1)[1] == ["0 (planted): foreign file changed: out/s_notes.txt"]


@pytest.mark.slow
def test_kills(tmp_path: Path) -> None:
    """A few kills, stored as they are done, and counted when the same campaign goes on."""
    store = tmp_path / "kills.jsonl"
    words = ["--command", "phantom", "--store", store]
    done = campaign("kills", "--kills", 3, *words)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in store.read_text().splitlines()]
    assert len(records) >= 3
    assert records[-1]["ended"]
    assert campaign("kills", "--kills", 0, *words).stdout == done.stdout
    with store.open("a") as file:
        file.write(json.dumps({**records[0], "faults": ["half-written x"]}) + "\n")
    assert campaign("kills", "--kills", 0, *words).returncode == 1


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    subprocess.run(["umount", tmp_path], check=True)
    done = campaign("full", "--points", 1, "--command", "phantom")
    assert done.returncode == 0, done.stderr
    (row,) = done.stdout.splitlines()[2:]
    assert row.startswith("| phantom | ")
    assert int(row.split(" | ")[1]) >= 6  # with no, one, two and three pages, or files, left


def campaign(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.hardening.{name}", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
