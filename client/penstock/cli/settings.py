"""What the options shared by all commands say, and how words reach the person at the terminal.

`Settings` is the context object of every command. The shared options may stand before the noun or
after the verb; the later one wins.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.exits import Exit

if TYPE_CHECKING:
    from penstock.sync import Client

SERVER_DEFAULT: Final = "127.0.0.1:7400"
PATIENCE_SECONDS: Final = 1.0
DELIVERY_FACTOR: Final = 3
"""A publish is tried this many times as long as one answer may take."""
TABULAR: Final = ("table", "wide", "json", "ndjson", "name")


def wall_us() -> int:
    """The time of day in microseconds since 1970."""
    return time.time_ns() // 1000


class Failure(click.ClickException):
    """Ends the program with `error:` and `hint:` lines and an exit code of the table."""

    def __init__(self, message: str, *, code: Exit = Exit.ERROR, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass
class Settings:
    """The shared options of one run."""

    server: str = SERVER_DEFAULT
    output: str = "table"
    timeout: float = 10.0
    """Seconds to wait for one answer of the broker."""
    quiet: bool = False

    @contextmanager
    def connect(self) -> Iterator[Client]:
        """A blocking client for the chosen server; says so when it has to wait for it."""
        from penstock.sync import connect

        notice = threading.Timer(
            PATIENCE_SECONDS, self.say, [f"waiting for a broker at {self.server} ..."]
        )
        notice.daemon = True
        notice.start()
        with ExitStack() as stack:
            try:
                client = stack.enter_context(
                    connect(
                        self.server,
                        name="penstock-cli",
                        request_timeout=self.timeout,
                        delivery_timeout=self.timeout * DELIVERY_FACTOR,
                    )
                )
            finally:
                notice.cancel()
            yield client

    def say(self, words: str) -> None:
        """Tell the person something that is not data (`--quiet` silences it)."""
        if not self.quiet:
            click.echo(words, err=True)

    def warn(self, words: str) -> None:
        """Tell the person something they must not miss: `--quiet` does not silence it."""
        click.echo(f"warning: {words}", err=True)

    def confirm(self, action: str, *, yes: bool) -> None:
        """Go on only when a destructive action is confirmed: by `--yes`, or asked on a terminal.

        Raises:
            Failure: the answer is no, or there is nobody to ask.
        """
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Failure(
                f"not confirmed: {action}",
                code=Exit.REFUSED,
                hint="Add --yes.",
            )
        if not click.confirm(f"Really {action}?", default=False, err=True):
            raise Failure("nothing was changed", code=Exit.REFUSED)
