"""Text that stdout cannot take is an error of every command; text that stderr cannot take is lost, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from uadtk.cli import _ORDER, main

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def printing_to_full(*words: str) -> tuple[object, str]:
    """Exit code and stderr of the command in this process."""
    err = StringIO()
    with FULL.open("w") as out, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code, err.getvalue()


LINE = "uadtk: stdout: cannot be written (No space left on device). Nothing more was printed.\n"


@pytest.mark.parametrize("command", [*_ORDER, ""])
def test_help_that_cannot_be_printed(command: str) -> None:
    assert printing_to_full(*command.split(), "--help") == (1, LINE)


@pytest.mark.parametrize(
    "words", ["--version", "models", "models --json", "plugins", "inspect scalespace", "train ae -h"]
)
def test_lines_that_cannot_be_printed(words: str) -> None:
    assert printing_to_full(*words.split()) == (1, LINE)


def test_a_table_that_cannot_be_printed_stops_an_archive_before_the_work(
    histeq: Path, small_cohort: Path, tmp_path: Path
) -> None:
    words = ("segment", str(small_cohort), "--model", str(histeq), "-o", str(tmp_path / "out"), "--threads", "1")
    assert printing_to_full(*words) == (1, LINE)
    code, err = printing_to_full(*words, "--json")
    assert (code, err.splitlines()[-1]) == (1, LINE.strip())
    assert not list(tmp_path.rglob("*_provenance.json"))


def test_a_page_is_whole_though_its_path_cannot_be_printed(tmp_path: Path) -> None:
    log = tmp_path / "m.log.jsonl"
    log.write_text('{"epoch": 1, "validation_loss": 2.0, "seconds": 1}\n')
    assert printing_to_full("report-training", str(log)) == (1, LINE)
    assert (tmp_path / "m.training.html").read_text().endswith("</html>\n")


def real(words: str, redirection: str) -> tuple[int, str]:
    command = f"{sys.executable} -m uadtk {words} {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ})
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "redirection", "code", "line"),
    [
        ("--help", ">/dev/full", 1, LINE),
        ("--help", ">&-", 1, "uadtk: stdout: cannot be written (not writable). Nothing more was printed.\n"),
        ("--help", "| true; exit ${PIPESTATUS[0]}", 1, LINE.replace("No space left on device", "Broken pipe")),
        ("models --json", "| true; exit ${PIPESTATUS[0]}", 1, LINE.replace("No space left on device", "Broken pipe")),
        ("modles", "2>&-", 2, ""),
        ("modles", "2>/dev/full", 2, ""),
        ("modles", ">&- 2>&- <&-", 2, ""),
        ("models", ">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_streams_of_a_shell(words: str, redirection: str, code: int, line: str) -> None:
    assert real(words, redirection) == (code, line)
