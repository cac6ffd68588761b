"""How long clients and other brokers wait for this one: what is usual, and how it is lately.

Two kinds are measured, one at a time of each: from a proposal to its commit, which is what a
publisher waits for, and from an entry's arrival to its flush, which is what a leader elsewhere
waits for. Invariant: what is measured while records are copied does not count as usual; but where
copying is as slow as it gets, what is usual follows slowly, since then it is not the copying.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_broker.node.group import Group
    from penstock_broker.storage.wal import Wal

LONGER: Final = 0.5
"""Of the usual wait: so much more is too long,"""
SPREADS: Final = 2.0
"""or so many times its usual spread more, whichever is more, and the grace."""
COMMIT_GRACE_SECONDS: Final = 0.001
FLUSH_GRACE_SECONDS: Final = 0.002
SAMPLE_SECONDS: Final = 0.005
WEIGHT: Final = 1 / 32
"""Of one sample in what is usual."""
SLOW_WEIGHT: Final = 1 / 1024
"""While records are copied as slowly as can be."""
COPYING_SECONDS: Final = 1.0
"""For so long after a copy what is measured does not count as usual."""


class Meter:
    """One kind of waiting.

    Attributes:
        usual: seconds; negative: not known.
        spread: how far from that it is usually.
        count: how often it was measured.
        total: seconds that it took in all.
        since: when what is measured now began; None: nothing is.
    """

    __slots__ = ("_grace", "count", "since", "spread", "total", "usual")

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self.usual = -1.0
        self.spread = 0.0
        self.count = 0
        self.total = 0.0
        self.since: float | None = None

    def add(self, seconds: float, weight: float) -> None:
        """It took so long; this counts so much as usual."""
        self.count += 1
        self.total += seconds
        if self.usual < 0:
            if not weight:
                return
            self.usual = seconds
        self.spread += (abs(seconds - self.usual) - self.spread) * weight
        self.usual += (seconds - self.usual) * weight

    def too_long(self, seconds: float) -> bool:
        """Whether a mean wait is longer than usual; or any, while nobody knows what is."""
        more = max(self.usual * LONGER, self.spread * SPREADS) + self._grace
        return self.usual < seconds - more if self.usual >= 0 else seconds > 0


class Waits:
    """Of one node.

    Attributes:
        commits: what clients wait.
        flushes: what leaders elsewhere wait.
        idle: whether `watch` is to be called for what is proposed.
    """

    __slots__ = ("_copying_until", "_fast_until", "_flush", "_group", "_index", "_next_commit_at",
                 "_next_flush_at", "_term", "commits", "flushes", "idle")  # fmt: skip

    def __init__(self) -> None:
        self.commits = Meter(COMMIT_GRACE_SECONDS)
        self.flushes = Meter(FLUSH_GRACE_SECONDS)
        self.idle = True
        self._group: Group | None = None
        self._index = self._term = self._flush = 0
        self._next_commit_at = self._next_flush_at = 0.0
        self._copying_until = self._fast_until = 0.0

    def copies(self, now: float, *, slowest: bool) -> None:
        """Records are copied at the moment; as slowly as can be or not."""
        self._copying_until = now + COPYING_SECONDS
        if not slowest:
            self._fast_until = self._copying_until

    def _weight(self, now: float) -> float:
        if now < self._fast_until:
            return 0.0
        return SLOW_WEIGHT if now < self._copying_until else WEIGHT

    def watch(self, groups: Iterable[Group], now: float) -> None:
        """Measure one of the proposals that are about to be made."""
        if now < self._next_commit_at:
            return
        for group in groups:
            if group.pending and group.gid:
                self._group, self.commits.since = group, now
                self._index, self._term = group.next_index - 1, group.raft.term
                self.idle = False
                return

    def look(self, now: float) -> None:
        """Whether what is measured is committed; called once a round while not `idle`."""
        group, since = self._group, self.commits.since
        if group is None or since is None or group.gone or group.raft.term != self._term:
            self._over(now)
        elif group.applied_index >= self._index:
            self.commits.add(now - since, self._weight(now))
            self._over(now)

    def _over(self, now: float) -> None:
        self._group = self.commits.since = None
        self.idle = True
        self._next_commit_at = now + SAMPLE_SECONDS

    def look_at_flushes(self, wal: Wal, now: float) -> None:
        """Once a round, before its flush is taken."""
        flushes = self.flushes
        if flushes.since is not None:
            if wal.mark > self._flush:
                flushes.add(now - flushes.since, self._weight(now))
                flushes.since = None
                self._next_flush_at = now + SAMPLE_SECONDS
        elif wal.pending_bytes and now >= self._next_flush_at:
            self._flush, flushes.since = wal.sequence, now
