"""Every numeric option of every command has a range, and what is outside it is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.core

from tests.commands import call
from uadtk.cli import Root, _root
from uadtk.cli._lazy import as_command, group, run
from uadtk.core.errors import UsageError
from uadtk.phantom import synthesis

EXTREME = ("nan", "inf", "-inf", "-1", "0", "1e308", "-1e308", str(2**70), "1e400", "1_0", "0x10", "", "9" * 5000)


@cache
def commands() -> dict[str, Any]:
    """Every command, and each model of ``train`` as one, by its words."""
    return {" ".join(words): command for words, command in _below(group(Root, "uadtk", _root), ())}


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, typer.core.TyperGroup):
        yield words, command
        return
    for name in command.list_commands(None):
        stub: Any = command.get_command(None, name)
        yield from _below(as_command(stub.build(), name), (*words, name))


def kind_of(option: Any) -> type | None:
    """``int`` or ``float``; None for any other."""
    annotation = option.type_descriptor.annotation if hasattr(option, "type_descriptor") else None
    return annotation if annotation in (int, float) else None


def numeric(command: Any) -> list[Any]:
    return [option for option in command.params if kind_of(option)]


NAMES = sorted(commands())


def test_they_are_found() -> None:
    found = {name: [option.opts[0] for option in numeric(commands()[name])] for name in NAMES}
    assert "--bias" in found["phantom"]
    assert "--minutes" in found["train vae"]
    assert "--learning-rate" in found["train vae"]
    assert len(found) > 40
    assert sum(map(len, found.values())) > 400


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_range_and_no_other_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", lambda _, context: context.params)
    command = commands()[name]
    needed = [word for option in command.params if option.required for word in _given(option)]
    for option in numeric(command):
        assert option.min is not None, option.opts
        assert option.max is not None, option.opts
        beyond = (option.max + abs(option.max) / 1e3 + 1, option.min - abs(option.min) / 1e3 - 1)
        for text in (*EXTREME, *map(str, beyond), f"{option.max}", f"{option.min}"):
            words, value = [*needed, f"{option.opts[0]}={text}"], option.min
            with suppress(UsageError):  # one line, as it is for any option
                value = run(command, words, name)[option.name]  # type: ignore[index]  # as invoke returns it here
            assert isinstance(value, int | float), (option.opts, text)
            assert math.isfinite(value)
            assert option.min <= value <= option.max, (option.opts, text)


def _given(option: Any) -> list[str]:
    return ["x"] if option.param_type_name == "argument" else [option.opts[0], "x"]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e308", str(2**2000)])
def test_a_plugins_number_without_a_range(text: str) -> None:
    def theirs(size: float = 1.0, sizes: list[float] = []) -> None:  # noqa: B006 - as typer asks for it
        """Has no ranges."""

    command = as_command(theirs, "theirs")
    for option in ("--size", "--sizes"):
        with pytest.raises(UsageError, match=rf"Invalid value for '{option}'"):
            run(command, [f"{option}={text}"], "theirs")
    assert run(command, ["--size=3", "--sizes=4", "--sizes=-5"], "theirs") == 0


def test_phantoms_have_the_ranges_of_the_function() -> None:
    options = {option.name: (option.min, option.max) for option in numeric(commands()["phantom"])}
    assert {name: options[name] for name in synthesis.RANGES} == synthesis.RANGES


@pytest.mark.parametrize("option", ["--sizes-mm", "--contrasts"])
@pytest.mark.parametrize("text", ["nan", "5,inf", "5,-inf", "1e308", "5,,6", "", "0", "5,5", "1e-400"])
def test_numbers_in_a_list(tmp_path: Path, option: str, text: str) -> None:
    (tmp_path / "cohort.tsv").write_text("subject\timage\na\ta.nii\n")
    done = call(
        "limits", "histeq", tmp_path / "cohort.tsv", "-o", tmp_path / "out", f"{option}={text}", "--threshold=1"
    )
    done.refused(2)


@pytest.mark.parametrize(
    "words", [("--shard=0/0",), ("--shard=1/99999999999",), ("--min-voxels=1_0_",), ("--threshold=-0.1",)]
)
def test_other_numbers(tmp_path: Path, words: tuple[str, ...]) -> None:
    call("segment", tmp_path / "a.nii", "-o", tmp_path / "out", "--model", "histeq", *words).refused(2)
