"""Shows how far the demo is: one line that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

import trio

from ops.showcase.cluster import Cluster
from ops.showcase.ledgers import Book
from ops.showcase.process import BrokerProcess

TERMINAL_SECONDS = 0.1
LINES_SECONDS = 2.0


class Progress:
    """Writes to standard error; `say` keeps its line, `line` is overwritten on a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._began = trio.current_time()

    def say(self, words: str) -> None:
        """Print a line that stays."""
        clear = "\r\x1b[K" if self._terminal else ""
        print(f"{clear}{self._clock()}  {words}", file=sys.stderr)

    async def follow(self, book: Book, broker: BrokerProcess | Cluster) -> None:
        """Show the figures again and again until cancelled."""
        while True:
            self._show(self._figures(book, broker))
            await trio.sleep(TERMINAL_SECONDS if self._terminal else LINES_SECONDS)

    def _show(self, line: str) -> None:
        if self._terminal:
            print(f"\r\x1b[K{self._clock()}  {line}", end="", flush=True, file=sys.stderr)
        else:
            self.say(line)

    def _clock(self) -> str:
        return f"{trio.current_time() - self._began:5.1f} s"

    def _figures(self, book: Book, broker: BrokerProcess | Cluster) -> str:
        done = len(book.acknowledged.places)
        bar = "#" * (20 * done // self._total)
        return (
            f"[{bar:.<20}] acknowledged {done:,} of {self._total:,}, "
            f"read {book.reader.count:,}, worked on {book.group.count:,}, "
            f"landed {len(book.shop.landings):,}, {broker.state}"
        )
