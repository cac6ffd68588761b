"""What a leader knows about one member: how far it is, and how fast it may be fed.

    probe      one append at a time, until the place where the logs agree is found
    replicate  appends are pipelined: `next` runs ahead of the answers, up to a window
    snapshot   the member needs entries that are gone; none are sent until a snapshot is there, and
               `next` is what comes behind it, once it was sent

Invariant: 0 <= match < next.
"""

from collections import deque
from enum import Enum


class Flow(Enum):
    """How a member is fed."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """The leader's view of one member (its own entry has no flow: `match` is what is durable)."""

    __slots__ = (
        "acked_round",
        "active",
        "flow",
        "in_flight",
        "in_flight_bytes",
        "match",
        "next",
        "nudge",
        "paused",
        "periods_waited",
        "sent_commit",
    )

    def __init__(self, next_index: int) -> None:
        self.match = 0
        self.next = next_index
        self.flow = Flow.PROBE
        self.paused = False  # probing, and the one append is on its way
        self.nudge = False  # send an append even if it is empty: the last one may be lost
        self.active = True  # heard from since the last quorum check
        self.acked_round = 0  # newest heartbeat round that it answered
        self.sent_commit = 0
        self.periods_waited = 0  # quorum checks passed while waiting for a snapshot
        self.in_flight: deque[tuple[int, int]] = deque()  # (last index, bytes) per append
        self.in_flight_bytes = 0

    def _enter(self, flow: Flow) -> None:
        self.flow = flow
        self.next = self.match + 1
        self.paused = self.nudge = False
        self.sent_commit = self.periods_waited = 0
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def become_probe(self) -> None:
        """Look for the place where the logs agree, after what is known."""
        self._enter(Flow.PROBE)

    def begin_anew(self, next_index: int) -> None:
        """It has nothing of what it acknowledged."""
        self.match = 0
        self.become_probe()
        self.next = next_index

    def become_replicate(self) -> None:
        """Feed without waiting for answers."""
        self._enter(Flow.REPLICATE)

    def become_snapshot(self) -> None:
        """Wait for a snapshot."""
        self._enter(Flow.SNAPSHOT)

    def sent(self, last_index: int, size: int, commit: int) -> None:
        """Note an append that ends at `last_index`."""
        self.nudge = False
        self.sent_commit = commit
        if self.flow is Flow.PROBE:
            self.paused = True
        elif last_index >= self.next:
            self.in_flight.append((last_index, size))
            self.in_flight_bytes += size
            self.next = last_index + 1

    def is_full(self, messages_max: int, bytes_max: int) -> bool:
        """True when nothing more may be on its way."""
        return len(self.in_flight) >= messages_max or self.in_flight_bytes >= bytes_max

    def acknowledge(self, index: int) -> bool:
        """Take an answer that the log matches up to `index`; True if that is news."""
        while self.in_flight and self.in_flight[0][0] <= index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
        if index <= self.match:
            return index == self.match and self.flow is Flow.PROBE
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def reject(self, index: int, hint: int) -> bool:
        """Take a rejection at `index`; False if an older message caused it."""
        if self.flow is Flow.REPLICATE:
            if index <= self.match:
                return False
            self.become_probe()
            return True
        if self.flow is Flow.SNAPSHOT or self.next - 1 != index:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.paused = False
        return True
