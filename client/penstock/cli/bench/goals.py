"""What the cases of the suite are held against. Pure.

The goals are for a quiet machine of two cores on which a bare C echo server answers some 200,000
requests a second; elsewhere the shares say how far a case is from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Goal:
    """What one case should reach; 0: no goal.

    Attributes:
        rate: records per second, at least.
        asyncio_rate: the same for the asyncio driver, where it differs.
        p50_us: half of the latencies are at most this.
        p99_us: 99 % of the latencies are at most this.
    """

    rate: int = 0
    asyncio_rate: int = 0
    p50_us: int = 0
    p99_us: int = 0

    def shares(self, figures: Mapping[str, Any], driver: str) -> dict[str, float]:
        """How much of each goal was reached: 1 and above is met."""
        rate = self.asyncio_rate if self.asyncio_rate and driver == "asyncio" else self.rate
        found = {"rate": figures["records_per_second"] / rate} if rate else {}
        for name, goal in (("p50", self.p50_us), ("p99", self.p99_us)):
            seen = figures[f"{name}_us"]
            if goal and seen:
                found[name] = goal / seen
        return found

    def judge(self, figures: Mapping[str, Any], driver: str) -> dict[str, Any]:
        """The share of the goal that is farthest from being met, and all goals in words."""
        shares = self.shares(figures, driver)
        return {
            "goal": self.words(driver),
            "of_goal": round(min(shares.values()), 2) if shares else None,
            "of_goals": {name: round(share, 2) for name, share in shares.items()},
        }

    def words(self, driver: str) -> str:
        """All of it, for people."""
        rate = self.asyncio_rate if self.asyncio_rate and driver == "asyncio" else self.rate
        parts = [f"{rate:,}/s"] if rate else []
        parts += [f"p50 {self.p50_us / 1000:g} ms"] if self.p50_us else []
        parts += [f"p99 {self.p99_us / 1000:g} ms"] if self.p99_us else []
        return ", ".join(parts)


NO_GOAL: Final = Goal()
