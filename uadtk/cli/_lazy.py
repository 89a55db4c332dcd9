"""Commands that cost nothing until they run; the only file that touches ``typer.core``.

Listing a group's help asks for every child, so children are stubs with a name and a summary. A stub builds the real
command when it is run (or asked for its own help). Options may come from ``--config``: the stub checks its keys.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from uadtk.core.errors import UsageError, did_you_mean
from uadtk.core.options import Field

Function = Callable[..., Any]
Children = Mapping[str, tuple[str, Callable[[], Any]]]
_Misuse: Any = typer.BadParameter.__base__  # what typer raises for any wrong option; it has no public name
_MOST = 3.5e38  # of 32 bits
CONTEXT = {"help_option_names": ["-h", "--help"]}


class Stub(typer.core.TyperCommand):
    """A command by name and summary; ``build()`` gives the function (or group) behind it."""

    def __init__(self, name: str, summary: str, build: Callable[[], Any]) -> None:
        super().__init__(name, help=summary, rich_markup_mode=None)
        self.build = build

    def get_short_help_str(self, limit: int = 45) -> str:
        """The whole summary, wrapped where a list of commands is narrow; typer would cut it."""
        return str(self.help)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        command = as_command(self.build(), str(self.name))
        if parent is not None:
            section = ".".join([*parent.command_path.split()[1:], str(info_name)])
            _check_config(command, (parent.default_map or {}).get(info_name), section)
        return command.make_context(info_name, args, parent, **extra)


class LazyGroup(typer.core.TyperGroup):
    """A group whose children are looked up when they are named; ``what`` they are, for errors."""

    what = "command"

    def own(self) -> Children:
        """name -> (summary, build) of uadtk's own."""
        raise NotImplementedError

    def third_party(self) -> Children:
        """The same of plugins; finding them takes a scan of the installed packages."""
        raise NotImplementedError

    def children(self) -> Children:
        own = self.own()
        return {**own, **{name: child for name, child in self.third_party().items() if name not in own}}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.children())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        child = self.own().get(cmd_name) or self.third_party().get(cmd_name)
        return Stub(cmd_name, *child) if child else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = ctx.resilient_parsing or not args or args[0].startswith("-")  # no errors in the middle of typing
        if not known and self.get_command(ctx, args[0]) is None:
            raise UsageError(f"no {self.what} '{args[0]}'", fix=did_you_mean(args[0], self.children()))
        return super().resolve_command(ctx, args)


def group(cls: type[LazyGroup], name: str, callback: Function) -> Any:
    app = _app(cls=cls, context_settings=CONTEXT, no_args_is_help=True)
    app.callback()(callback)
    built = typer.main.get_group(app)
    built.name = name
    return built


def run(command: Any, argv: list[str] | None, name: str) -> int:
    """Run a command and return its exit code; typer's four lines about a wrong option become one ``UsageError``."""
    completing = f"_{name.upper()}_COMPLETE" in os.environ  # a shell asks for completions
    if completing:
        from typer.completion import completion_init

        completion_init()
    try:
        return command(args=argv, prog_name=name, auto_envvar_prefix=name.upper(), standalone_mode=False) or 0
    except SystemExit as end:
        if completing:  # typer exits once it has completed
            return int(end.code or 0)
        raise
    except _Misuse as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return int(error.exit_code)
        if possible := set(getattr(error, "possibilities", None) or ()) - {"--help"}:
            raise UsageError(error.message, fix=did_you_mean(error.option_name, possible)) from None
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        raise UsageError(message, fix=f"See {error.ctx.command_path} --help." if error.ctx else "") from None


def as_command(function: Any, name: str) -> Any:
    """A typer command from an annotated function or a ``typer.Typer``."""
    if isinstance(function, typer.core.TyperGroup):
        return function
    if isinstance(function, typer.Typer):
        return typer.main.get_command(function)
    app = _app()
    app.command(name, context_settings=CONTEXT, help=inspect.getdoc(function))(function)
    command = typer.main.get_command(app)
    for option in command.params:
        option.show_envvar = False  # type: ignore[attr-defined]  # one rule in the root help, not a line per option
        option.callback = partial(_number, option.callback)
    return command


def _number(then: Callable[..., Any] | None, ctx: Any, option: Any, value: Any) -> Any:
    """Every number is finite and of a size that arithmetic can hold, whatever range its option has, if any."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if isinstance(one, int | float) and not abs(one) <= _MOST:  # nor NaN
            raise typer.BadParameter(f"{str(one)[:40]} is not a number that can be used.", ctx=ctx, param=option)
    return then(ctx, option, value) if then else value


def parameter(field: Field) -> inspect.Parameter:
    """A dataclass option as a native command-line option."""
    settings: dict[str, Any] = {"help": field.help, "show_default": True}
    kind: Any = field.type
    if field.choices or kind in (bool, str):
        pass
    elif kind in (int, float):
        settings |= {"min": field.ge, "max": field.le}
    else:  # lists are written with commas and checked when the options are built
        kind, settings["show_default"] = str, _written(field.default)
    default = field.default if kind is field.type else _written(field.default)
    flag = "--" + field.name.replace("_", "-")
    flags = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    annotation = Annotated[kind, typer.Option(*flags, **settings)]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_parameters(function: Function, name: str, help: str, parameters: list[inspect.Parameter]) -> Function:
    """``function(**values)`` as a function that typer sees with those parameters."""

    def command(**values: Any) -> Any:
        return function(**values)

    command.__name__, command.__doc__ = name, help
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _app(**settings: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def _written(value: Any) -> str:
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_config(command: Any, config: Any, section: str) -> None:
    if config is None:
        return
    where = f"--config [{section}]"
    if not isinstance(config, Mapping):
        raise UsageError("is not a table", where, f"Write [{section}] on one line and the options below it.")
    sub = isinstance(command, typer.core.TyperGroup)
    known = set(command.list_commands(None)) if sub else {param.name for param in command.params} - {"help"}
    for key in config:
        if key not in known:
            raise UsageError(f"no {'section' if sub else 'option'} '{key}'", where, did_you_mean(key, known))
