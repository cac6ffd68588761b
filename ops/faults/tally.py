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

    def next(self, *does: str) -> tuple[str, str]:
        """What was tried least so far, in the order of the points."""
        wanted = [(point, what) for what in does for point in self.points if may(point, what)]
        chosen = min(wanted, key=self.attempts.__getitem__)
        self.attempts[chosen] += 1
        return chosen

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

    def tried(self) -> int:
        """How often everything was tried as a crash or an error at least."""
        return min(
            self.attempts[point, does]
            for point in self.points
            for does in ("crash", "error")
            if may(point, does)
        )

    def table(self) -> str:
        """Point by point."""
        lines = [f"{'point':<28}{'crash':>8}{'pause':>8}{'error':>8}{'breaches':>10}"]
        for point in self.points:
            counts = [self.hits[point, does] if may(point, does) else "-" for does in DOES]
            words = "".join(f"{count:>8}" for count in counts)
            lines.append(f"{point:<28}{words}{self.breaches[point]:>10}")
        return "\n".join(lines)
