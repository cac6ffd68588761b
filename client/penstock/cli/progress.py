"""Long work in the terminal: how far it is, how fast it may go, and how it ends early."""

from __future__ import annotations

import sys
import time
from typing import Final

import click

from penstock.cli.settings import Settings
from penstock.cli.units import show_duration

SHOWN_SECONDS: Final = 0.2
CLEAR: Final = "\r\x1b[2K"


class Progress:
    """One line on a terminal that tells how far the work is; elsewhere nothing."""

    def __init__(self, settings: Settings, total: int, verb: str) -> None:
        self.total = total
        self.done = 0
        self._verb = verb
        self._active = not settings.quiet and sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = 0.0

    def add(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        now = time.monotonic()
        if self._active and now - self._shown >= SHOWN_SECONDS:
            self._shown = now
            click.echo(f"{CLEAR}{self._words(now - self._began)}", nl=False, err=True)

    def end(self) -> None:
        """Take the line away."""
        if self._active and self._shown:
            click.echo(CLEAR, nl=False, err=True)

    def _words(self, seconds: float) -> str:
        words = f"{self.done:,} of {self.total:,} {self._verb}"
        if seconds < 1 or not self.done:
            return words
        rate = self.done / seconds
        return f"{words}, {rate:,.0f}/s, {show_duration((self.total - self.done) / rate)} left"


class Pace:
    """Holds work back to a rate; None: as fast as it goes."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next = time.monotonic()

    def portion(self, most: int) -> int:
        """How many to do at once: a quarter of a second's worth."""
        return most if self._rate is None else max(1, min(most, round(self._rate / 4)))

    def wait(self, count: int) -> None:
        """Sleep until the rate permits what follows `count` more."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._next = max(self._next, now) + count / self._rate
        time.sleep(self._next - now)
