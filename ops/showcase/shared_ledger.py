"""What the demo's shared group writes down while it works; plain data, checked at the end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from ops.showcase.landings import Landing, Row, Summary


class Letter(NamedTuple):
    """A dead letter, as the operator saw it."""

    row: int
    reason: str
    attempts: int
    error: str = ""
    """The last line of what its handler raised last."""


@dataclass
class Shop:
    """What the workers have done, and what was set aside."""

    landings: dict[int, Landing] = field(default_factory=dict)
    """Row -> what its worker made of it."""
    summaries: dict[str, Summary] = field(default_factory=dict)
    """Airline -> what its flights add up to."""
    workers: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    again: int = 0
    """Rows that were handed out once more, since the ack was lost with the broker."""
    contradictions: int = 0
    first_done: int = 0
    """Rows that were done before the parser was put right."""
    letters: list[Letter] = field(default_factory=list)
    stored_letters: int = 0
    """Records in the dead-letter topic at the end."""
    redriven: int = 0
    left: int = 0
    """Dead letters that were there at the end."""

    def add(self, worker: str, row: Row, landing: Landing) -> None:
        """A worker is done with a row; what it did before is recognised."""
        number = int(row["row"])
        known = self.landings.get(number)
        if known is not None:
            self.again += 1
            self.contradictions += known != landing
            return
        self.landings[number] = landing
        self.summaries.setdefault(row["carrier"], Summary()).add(landing)
        self.workers[worker] += 1
