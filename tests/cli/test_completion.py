"""Completion in shells: commands, options and choices, without an error in the middle of typing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def complete(words: str, **more: str) -> subprocess.CompletedProcess[str]:
    asked = {"_UADTK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), **more}
    command = [sys.executable, "-m", "uadtk"]
    return subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "follow"),
    [
        ("uadtk seg", ["segment"]),
        ("uadtk segment --lay", ["--layout"]),
        ("uadtk segment --layout ", ["flat", "bids"]),
        ("uadtk train gmvae-", ["gmvae-spatial"]),
        ("uadtk train gmvae --epo", ["--epochs"]),
        ("uadtk sgment --lay", []),
    ],
)
def test_words_that_may_follow(words: str, follow: list[str]) -> None:
    done = complete(words)
    assert (done.stdout.split(), done.stderr) == (follow, "")


@pytest.mark.parametrize(
    ("shell", "line"), [("bash", "complete -o default -F"), ("zsh", "compdef"), ("fish", "complete")]
)
def test_every_shell_gets_its_script(shell: str, line: str) -> None:
    assert line in complete("", _UADTK_COMPLETE=f"source_{shell}").stdout
