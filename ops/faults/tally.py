"""Which failpoints were tried, and which were hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from penstock_broker.failpoints import ON_DISK, points

DOES: Final = ("crash", "pause", "error")


def may(point: str, does: str) -> bool:
    """Whether a broker has to bear that there; only disks fail with errors."""
    return does != "error" or point.rpartition(".")[0] in ON_DISK


@dataclass
class Tally:
    """Hits and attempts of each point and of what it does."""

    points: Sequence[str] = field(default_factory=points)
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    ways: dict[tuple[str, str], str] = field(default_factory=dict)
    """What led to a hit the last time; empty: waiting for it."""
    breaches: Counter[str] = field(default_factory=Counter)
    """Of promises, found when the point had just been tried."""
    wanted: int = 0
    """So often each point is to be hit by each that it does; 0: as often as there is time for."""

    def next(self, *does: str) -> tuple[str, str]:
        """What was tried least of what is to be hit more often, in the order of the points."""
        every = [(point, what) for what in does for point in self.points if may(point, what)]
        chosen = min(self.below(*does) or every, key=self.attempts.__getitem__)
        self.attempts[chosen] += 1
        return chosen

    def lacks(self, point: str, does: str) -> bool:
        """Whether a point should do that more often."""
        return may(point, does) and self.hits[point, does] < self.wanted

    def below(self, *does: str) -> list[tuple[str, str]]:
        """What is to be hit more often."""
        return [(point, what) for what in does for point in self.points if self.lacks(point, what)]

    @property
    def complete(self) -> bool:
        """Whether everything was hit as often as it is wanted, if there is an end to that."""
        return self.wanted > 0 and not self.below(*DOES)

    def of(self, point: str) -> int:
        """How often a point was hit, whatever it did."""
        return sum(self.hits[point, does] for does in DOES)

    @property
    def different(self) -> int:
        """How many points were hit at all."""
        return sum(1 for point in self.points if self.of(point))

    @property
    def fewest(self) -> int:
        """So often was every point hit."""
        return min(map(self.of, self.points))

    def missing(self) -> list[str]:
        """Points that were never hit."""
        return [point for point in self.points if not self.of(point)]

    def table(self) -> str:
        """Point by point; what was to be hit more often is marked."""
        lines = [f"{'point':<28}{'crash':>8}{'pause':>8}{'error':>8}{'breaches':>10}"]
        for point in self.points:
            words = "".join(f"{self._cell(point, does):>8}" for does in DOES)
            lines.append(f"{point:<28}{words}{self.breaches[point]:>10}")
        return "\n".join(lines)

    def _cell(self, point: str, does: str) -> str:
        if not may(point, does):
            return "-"
        return "<" * self.lacks(point, does) + str(self.hits[point, does])
