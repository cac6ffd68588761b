"""The command classes: shared options on every verb, lazy groups, errors turned into exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from penstock.cli.exits import Exit, exit_for, hint_for
from penstock.cli.params import SECONDS
from penstock.cli.settings import SERVER_DEFAULT, TABULAR, Failure, Settings
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

HELP_WIDTH: Final = 80
CONTEXT: Final[Mapping[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": HELP_WIDTH,
}
EVERY_OUTPUT: Final = (*TABULAR, "value")


def _set(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def store(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value is not None and value is not False:
            setattr(ctx.ensure_object(Settings), name, value)

    return store


def shared_options(outputs: Sequence[str], *, root: bool = False) -> list[click.Option]:
    """The options that every command takes; only the root reads the environment."""
    return [
        click.Option(
            ["-s", "--server"],
            metavar="HOST:PORT",
            envvar="PENSTOCK_SERVER" if root else None,
            expose_value=False,
            callback=_set("server"),
            help=f"Brokers, comma separated [default: $PENSTOCK_SERVER or {SERVER_DEFAULT}].",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(outputs),
            metavar="FORMAT",
            expose_value=False,
            callback=_set("output"),
            help=f"{', '.join(outputs)} [default: table].",
        ),
        click.Option(
            ["--timeout"],
            type=SECONDS,
            metavar="DURATION",
            expose_value=False,
            callback=_set("timeout"),
            help="How long to wait for one answer [default: 10s].",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set("quiet"),
            help="Print data and errors only.",
        ),
    ]


class Verb(click.Command):
    """A command that does something: it takes the shared options too.

    `outputs` names the formats it can print; none: it prints no data, and takes no `-o`.
    `local` ones ask no broker, and take neither `-s` nor `--timeout`. `examples`, and
    `notes` under a title of their own, end its help.
    """

    def __init__(
        self,
        name: str | None,
        *,
        callback: Callable[..., object] | None = None,
        params: list[click.Parameter] | None = None,
        help: str | None = None,  # noqa: A002 - click's own name for it
        outputs: Sequence[str] = TABULAR,
        local: bool = False,
        examples: str = "",
        notes: tuple[str, str] = ("", ""),
    ) -> None:
        self.outputs = tuple(outputs)
        self.examples = examples
        self.notes = notes
        unused = {"output"} if not outputs else set()
        unused |= {"server", "timeout"} if local else set()
        self._shared = [o for o in shared_options(self.outputs) if o.name not in unused]
        super().__init__(
            name,
            context_settings=dict(CONTEXT),
            callback=callback,
            params=[*(params or []), *self._shared],
            help=help,
        )

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, once the output format is known to be one of its own."""
        settings = ctx.ensure_object(Settings)
        if self.outputs and settings.output not in self.outputs:
            known = ", ".join(self.outputs)
            raise click.UsageError(f"this command can't print {settings.output!r}: {known}", ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first, the shared ones after them."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            if isinstance(param, click.Argument):
                continue  # the usage line shows it
            record = param.get_help_record(ctx)
            if record is not None:
                (shared if param in self._shared else own).append(record)
        for title, records in (("Options", own), ("Shared options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples and notes, verbatim."""
        write_block(formatter, "Examples", self.examples)
        write_block(formatter, *self.notes)


class Noun(click.Group):
    """A group of verbs in one module."""

    command_class = Verb

    def __init__(
        self,
        name: str | None,
        *,
        callback: Callable[..., object] | None = None,
        params: list[click.Parameter] | None = None,
        help: str | None = None,  # noqa: A002 - click's own name for it
    ) -> None:
        super().__init__(
            name, context_settings=dict(CONTEXT), callback=callback, params=params, help=help
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which they were written."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their first sentences, which are never cut."""
        verbs = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(200)) for name, verb in verbs])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        check_known(self, ctx, args[0])
        return super().resolve_command(ctx, args)


class Root(click.Group):
    """`penstock` itself: imports a noun's module when it is used, and ends with exit codes.

    `nouns` maps a section title to its commands: name -> (module:attribute, one line of help).
    The lines stand here so that `penstock --help` needs none of the modules.
    """

    def __init__(
        self,
        name: str | None,
        *,
        nouns: Mapping[str, Mapping[str, tuple[str, str]]],
        tail: str = "",
        callback: Callable[..., object] | None = None,
        params: list[click.Parameter] | None = None,
        help: str | None = None,  # noqa: A002 - click's own name for it
    ) -> None:
        super().__init__(
            name,
            context_settings=dict(CONTEXT),
            callback=callback,
            params=[*(params or []), *shared_options(EVERY_OUTPUT, root=True)],
            help=help,
        )
        self.nouns = nouns
        self.tail = tail
        self._where = {name: spec for part in nouns.values() for name, spec in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All nouns in their order of appearance."""
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the noun's module."""
        if cmd_name not in self._where:
            return None
        module, _, attribute = self._where[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the noun, or say which one was probably meant."""
        check_known(self, ctx, args[0])
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete nouns from the table, without importing their modules."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=spec[1])
            for name, spec in self._where.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The nouns by section."""
        width = max(map(len, self._where))
        for title, part in self.nouns.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), spec[1]) for name, spec in part.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The closing text, verbatim."""
        for block in self.tail.split("\n\n"):
            title, _, body = block.partition("\n")
            write_block(formatter, title, body)

    # The name is fixed: completion scripts and messages carry it.
    def main(self, args: Sequence[str] | None = None, *_: object, **extra: object) -> NoReturn:
        """Run and end the process: errors become `error:` and `hint:` lines, never a traceback."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that can't show it is no error
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, prog_name="penstock", standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_stdout()
            code = Exit.OK
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("PENSTOCK_DEBUG"):
                raise
            code = report(error)
        sys.exit(int(code) if isinstance(code, int) else int(Exit.OK))


def report(error: BaseException) -> int:
    """Print what went wrong and what to do about it; returns the exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return int(Exit.INTERRUPTED)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return int(Exit.USAGE)
    message, hint, code = str(error) or type(error).__name__, hint_for(error), int(exit_for(error))
    if isinstance(error, click.ClickException):
        message, code = error.format_message(), error.exit_code
    elif not isinstance(error, PenstockError | OSError):
        message = f"{type(error).__name__}: {error}"
        hint = "This is a bug. With PENSTOCK_DEBUG=1 it shows where."
    if isinstance(error, Failure):
        hint, code = error.hint, int(error.code)
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"Try `{error.ctx.command_path} --help`."
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code


def write_block(formatter: click.HelpFormatter, title: str, body: str) -> None:
    """A titled block of help whose lines stay as they are."""
    if not body.strip():
        return
    formatter.write_paragraph()
    formatter.write(f"{title}:\n")
    for line in body.strip("\n").splitlines():
        formatter.write(f"  {line}".rstrip() + "\n")


def check_known(group: click.Group, ctx: click.Context, name: str) -> None:
    """Refuse a word that is no command of the group, and say which one was probably meant."""
    known = group.list_commands(ctx)
    if name in known or name.startswith("-") or ctx.resilient_parsing:
        return
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    ask = f" (did you mean `{near[0]}`?)" if near else ""
    raise click.UsageError(f"there is no `{ctx.command_path} {name}`{ask}", ctx)


def _drop_stdout() -> None:
    # The reader has gone. Python flushes again at exit: let that go nowhere, silently.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
