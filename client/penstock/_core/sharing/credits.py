"""How many records a member may have in its hands, shared among the partitions that it reads.

Each partition has one acquire in flight at a time, and what it asks for is spoken for until the
answer is there. A partition that has just given much is *hot*: it is asked for all that is free,
without a wait. For any other one only a small part waits at the broker, so that quiet partitions
hold up little. With fewer credits than partitions they take turns; dead-letter topics, where there
is hardly ever anything, and quiet partitions beside hot ones are only glanced at. Invariant: what
is held and asked for together is at most `total`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock._core.sharing.share import Share

WAIT_MS: Final = 5000
"""How long a broker holds an acquire before it answers with nothing."""
ROTATION_MS: Final = 500
ROTATION_MS_MIN: Final = 20
"""With fewer credits than partitions: how long one round of asking all of them takes, about."""
GLANCE_SECONDS: Final = 0.5
DEAD_GLANCE_SECONDS: Final = 1.0
"""How often they are glanced at then while others have records, and dead-letter topics anyway."""
QUIET_PARTS: Final = 4
"""All quiet partitions together hold at most one such part of the credits."""
REFILL_PARTS: Final = 4
"""While there is something to hand out, nothing is asked for less than such a part."""


class Credits:
    """The credits of one subscription.

    Attributes:
        total: how many records may be in this member's hands.
        held: how many are.
        asked: how many are asked for in acquires that are not answered.
    """

    __slots__ = ("_called", "_queued", "_waiting", "asked", "held", "shares", "total")

    def __init__(self, total: int, queued: Callable[[], int]) -> None:
        self.total = total
        self.held = 0
        self.asked = 0
        self.shares = 0
        """How many partitions share them."""
        self._queued = queued
        """Tells how many of those held were not handed out yet."""
        self._waiting: deque[Share] = deque()
        self._called: set[Share] = set()
        """Those that were told of credits and have not asked yet: nobody goes before them."""

    def ask(self, share: Share) -> tuple[int, int]:
        """How many records to acquire, and how many milliseconds to wait for them.

        0 records: there is nothing to give; the share is called when there is.
        """
        free = self._free()
        if share in self._called:
            self._called.remove(share)
        elif self._waiting:
            free = 0
        free -= len(self._called)
        if free <= 0:
            if share not in self._waiting:
                self._waiting.append(share)
            return 0, 0
        if self.shares == 1:
            count, wait = free, WAIT_MS
        elif share.hot:
            count, wait = max(1, free - len(self._waiting)), 0
        else:
            count = min(free, 1 if share.dead else self._quiet)
            wait = self._turn_ms(share) if self.scarce else WAIT_MS
        self.asked += count
        return count, wait

    @property
    def scarce(self) -> bool:
        """Whether there are fewer credits than partitions."""
        return self.shares > self.total

    def is_much(self, count: int, asked: int) -> bool:
        """Whether an answer shows that there is probably more where it came from."""
        return count >= min(asked, self._quiet)

    @property
    def _quiet(self) -> int:
        """What a quiet partition asks for."""
        return max(1, self.total // (QUIET_PARTS * self.shares)) if self.shares else 1

    def rest(self, share: Share) -> float:
        """How many seconds a partition had better not ask again."""
        if share.hot or not self.scarce:
            return 0.0
        if share.dead:
            return DEAD_GLANCE_SECONDS
        return GLANCE_SECONDS if self._hot_ones_wait() else 0.0

    def _hot_ones_wait(self) -> bool:
        return any(each.hot for each in (*self._called, *self._waiting))

    def _turn_ms(self, share: Share) -> int:
        if share.dead or self._hot_ones_wait():
            return 0
        return max(ROTATION_MS_MIN, min(ROTATION_MS, ROTATION_MS * self.total // self.shares * 2))

    def answered(self, asked: int) -> None:
        """An acquire ended, whatever came of it; count what it brought before."""
        self.asked -= asked
        self.offer()

    def offer(self) -> None:
        """Credits may be free: call the partitions that wait for some."""
        free = self._free() - len(self._called) if self._waiting else 0
        while free > 0 and self._waiting:
            free -= 1
            share = self._waiting.popleft()
            self._called.add(share)
            share.bell.ring()

    def leave(self, share: Share) -> None:
        """A partition is not read any more."""
        if share in self._waiting:
            self._waiting.remove(share)
        self._called.discard(share)

    def _free(self) -> int:
        free = self.total - self.held - self.asked
        if free <= 0 or (free * REFILL_PARTS < self.total and self._queued()):
            return 0
        return free
