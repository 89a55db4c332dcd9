"""The command line. Each command is one file here; its first docstring line is its summary."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from uadtk.cli._lazy import Children, LazyGroup, group, run
from uadtk.cli._signals import ending
from uadtk.core.absent import why
from uadtk.core.errors import INTERRUPTED, UadtkError, UsageError, did_you_mean
from uadtk.core.text import OutputError, output_for_people, shown
from uadtk.version import VERSION

# NumPy is not loaded yet. Its threads gain little on matrices of this size, and spin where the cores are busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nor is torch. Its threads spin for each other too, which takes ten times as long where another process has one of the
# cores; this is how long they do where the library knows of more threads than cores.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_ORDER = (
    "segment",
    "report",
    "export-bids",
    "compare",
    "watch",
    "train",
    "report-training",
    "selfteach",
    "threshold",
    "limits",
    "tune-restoration",
    "evaluate",
    "benchmark",
    "reproduce",
    "demo",
    "phantom",
    "inspect",
    "models",
    "plugins",
    "check",
    "doctor",
    "warm",
)


class Root(LazyGroup):
    def own(self) -> Children:
        here = Path(__file__).parent
        return {name: (_summary(here / f"{_module(name)}.py"), partial(_command, name)) for name in _ORDER}

    def third_party(self) -> Children:
        return _plugin_commands()


def _summary(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return lines.readline().strip().strip('"')


_own: list[str] = []  # the command of uadtk that runs; none if it is a plugin's


def _command(name: str) -> Any:
    _own.append(name)
    return getattr(importlib.import_module(f"uadtk.cli.{_module(name)}"), _module(name))


def _module(command: str) -> str:
    return command.replace("-", "_")


def _plugin_commands() -> Children:
    from uadtk import registry

    found = registry.entries("commands")
    return {r.entry.name: (r.entry.summary, partial(registry.load, "commands", r.entry.name)) for r in found}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"uadtk {VERSION}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of defaults: [segment] model = ..., [train.scalespace] levels = 3.")
    ] = None,
    version: Annotated[  # container images often set UADTK_VERSION, which must not print the version
        bool, typer.Option("--version", help="Print the version.", callback=_version, allow_from_autoenv=False)
    ] = False,
) -> None:
    """Unsupervised anomaly detection in brain MRI. For research, not a medical device.

    Start with uadtk demo, then uadtk segment SCAN. uadtk COMMAND --help has options and examples.

    Any option may also come from the environment (UADTK_SEGMENT_MODEL=...) or from --config. Data goes to stdout,
    messages to stderr.

    Exit codes: 0 success, 1 failure (in a cohort: of at least one scan), 2 usage, 3 data, 4 checkpoint, 5 plugin,
    6 device or optional library missing, 7 memory too small, 130 interrupted.
    """
    if config is not None:
        ctx.default_map = _read_config(config)


def _read_config(path: Path) -> dict[str, Any]:
    import tomllib

    from uadtk.io.memo import read_text

    try:
        sections = tomllib.loads(read_text(path))
    except OSError as error:
        raise UsageError(f"cannot be read ({why(error)})", str(path)) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not TOML ({error})", str(path)) from None
    for section in sections:
        if section not in _ORDER and section not in _plugin_commands():
            raise UsageError(f"no command '{section}'", f"{path} [{section}]", did_you_mean(section, _ORDER))
    return sections


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with the code of the error (see ``uadtk.core.errors``)."""
    atexit.register(gc.freeze)  # or the interpreter looks through all of torch before it ends, which takes 0.7 s
    with output_for_people():
        code = _code(argv)
    sys.exit(code)


def _code(argv: list[str] | None) -> int:
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except OutputError as error:
        print(f"uadtk: {error}", file=sys.stderr)
        return UadtkError.exit_code


def _run(argv: list[str] | None) -> int:
    received: list[int] = []
    _own.clear()
    try:
        with ending() as received:
            code = run(group(Root, "uadtk", _root), argv, "uadtk")
    except OutputError:
        raise
    except SystemExit as end:
        if not _own or end.code not in (None, 0):
            raise
        # our commands return to end with 0: this is a plugin's exit, perhaps before any work
        print("uadtk: a plugin called sys.exit. Report it to its author.", file=sys.stderr)
        return UadtkError.exit_code
    except KeyboardInterrupt:  # before or after the command itself
        code = INTERRUPTED
    except UadtkError as error:
        print(f"uadtk: {error.one_line()}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if not isinstance(error.filename, str | bytes):
            raise
        print(f"uadtk: {shown(os.fsdecode(error.filename))}: cannot be used ({error.strerror})", file=sys.stderr)
        return UadtkError.exit_code
    except Exception:
        if not received:
            print(
                "uadtk: this is a bug in uadtk (or in a plugin it runs); please report it with the lines below.",
                file=sys.stderr,
            )
            raise
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("uadtk: interrupted", file=sys.stderr)
    return code
