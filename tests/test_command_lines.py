"""Every ``uadtk`` command line in a document is one that the command line takes: names, options, types and ranges."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.core

from tests.commands import call

ROOT = Path(__file__).parent.parent
# plugins/README.md is run, by tests/plugins/test_guide.py; its models are not installed here.
DOCUMENTS = [
    *sorted(ROOT.glob("docs/guides/*.md")),
    *(ROOT / name for name in ("README.md", "benchmarks/README.md", "benchmarks/formats.md", "docs/README.md")),
    *sorted(ROOT.glob("uadtk/weights/*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "examples/slurm_array.sh")),
]


def command_lines(path: Path) -> list[list[str]]:
    """The arguments of each ``uadtk`` in a code block."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) if path.suffix == ".md" else [text]
    lines = (line for block in blocks for line in block.splitlines())
    found = (re.match(r"\s*(?:\$ |exec |.*&& )?(?:\.venv/bin/)?uadtk ([a-z-].*)", line) for line in lines)
    return [shlex.split(match[1].partition(" | ")[0], comments=True) for match in found if match]


def mentions(path: Path) -> list[list[str]]:
    """The same between backticks, where arguments may be left out: `uadtk segment --threshold`."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = (shlex.split(words) for words in re.findall(r"`uadtk ([a-z][^`]*)`", text))
    return [[word for word in words if word != "..."] for words in found]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], str]:
    """Parse a command line without running it; the error, empty if there is none."""
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", lambda command, context: None)
    examples = {"MODEL": "vae", "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT": "1/8"}
    return lambda words: call(*[examples.get(word, word) for word in words]).err


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_is_one(path: Path, taken: Callable[[list[str]], str]) -> None:
    assert [error for error in map(taken, command_lines(path)) if error] == []
    incomplete = re.compile(r"uadtk: (Missing |Option '[\w-]+' requires an argument)")
    errors = {" ".join(words): taken(words) for words in mentions(path)}
    assert {words: error for words, error in errors.items() if error and not incomplete.match(error)} == {}


HELPS = sorted(path.stem.replace("_", "-") for path in ROOT.glob("uadtk/cli/[!_]*.py"))


PLAIN = {  # the usage says it all
    *("check", "demo", "doctor", "models", "plugins", "report", "report-training", "reproduce", "train"),
    *("tune-restoration", "warm"),
}


@pytest.mark.parametrize("name", [*HELPS, "train vae"])
def test_every_example_of_a_help_is_one(name: str, taken: Callable[[list[str]], str]) -> None:
    text = call(*name.split(), "--help").out
    examples = re.findall(r"^    uadtk (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert {error for line in examples if (error := taken(shlex.split(line)))} == set()
    assert bool(examples) != (name in PLAIN)


def test_they_are_found_and_a_wrong_one_is_seen(tmp_path: Path, taken: Callable[[list[str]], str]) -> None:
    assert len([line for path in DOCUMENTS for line in command_lines(path)]) > 40
    block = "$ uadtk segment a.nii \\\n    -o out\nscan  done\n  .venv/bin/uadtk demo  # see\n"
    (tmp_path / "a.md").write_text(f"Text `uadtk warm`.\n```\n{block}```\n")
    assert command_lines(tmp_path / "a.md") == [["segment", "a.nii", "-o", "out"], ["demo"]]
    assert mentions(tmp_path / "a.md") == [["warm"]]
    assert "--thresold" in taken(["segment", "a.nii", "--thresold", "1"])
    assert "--latent" in taken(["train", "vae", "c.tsv", "-o", "v.safetensors", "--latent", "none"])
