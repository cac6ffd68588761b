"""Verdicts on their way to the broker: collected into runs, sent, confirmed.

A `Ledger` belongs to one partition. Acks of records that follow one another extend one run in
place, so that the usual ack costs one comparison and one addition. Invariants: a verdict is in
`runs` (to be sent), in `sent` (in flight) or confirmed; after a lost connection all of `sent` goes
back to the front of `runs`, since the broker takes a verdict twice without harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from penstock._core.texts import writable
from penstock.protocol.leases import (
    ACK,
    ERROR_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    SETTLE_BYTES_MAX,
    VERDICTS_MAX,
    Verdict,
)

ENTRY_BYTES: Final = 64
"""A verdict without its texts takes less."""
CHARACTER_BYTES: Final = 4


class Grant:
    """A lease that this member holds, or held.

    Attributes:
        left: records of it whose verdict is not confirmed.
        lost: the lease is over: others may have its records now.
    """

    __slots__ = ("lease", "ledger", "left", "lost")

    def __init__(self, ledger: Ledger, lease: int, left: int) -> None:
        self.ledger = ledger
        self.lease = lease
        self.left = left
        self.lost = False


class Run:
    """One verdict on records of a lease that follow one another: [first, end)."""

    __slots__ = ("counted", "end", "error", "first", "grant", "ready_at_us", "reason", "serial",
                 "verdict")  # fmt: skip

    def __init__(
        self,
        grant: Grant,
        first: int,
        end: int,
        verdict: int,
        ready_at_us: int = 0,
        reason: str = "",
        error: str = "",
    ) -> None:
        self.grant = grant
        self.first = first
        self.end = end
        self.verdict = verdict
        self.ready_at_us = ready_at_us
        self.reason = reason
        self.error = error
        self.counted = first
        """The records below are not in the member's hands any more, as far as was counted."""
        self.serial = 0

    def same(self, other: Run) -> bool:
        """Whether both say the same of one lease's records."""
        return (
            self.grant is other.grant
            and self.verdict == other.verdict
            and self.ready_at_us == other.ready_at_us
            and self.reason == other.reason
            and self.error == other.error
        )

    def wire(self) -> Verdict:
        """The entry of a settle frame."""
        count = self.end - self.first
        return Verdict(
            self.grant.lease, self.first, count, self.verdict, self.ready_at_us, self.reason,
            self.error,
        )  # fmt: skip

    @property
    def bytes_max(self) -> int:
        """At most so many bytes in a settle frame."""
        return ENTRY_BYTES + CHARACTER_BYTES * (len(self.reason) + len(self.error))


class Ledger:
    """The verdicts of one partition.

    Attributes:
        hands: records that were granted and have no verdict yet, as of the last `count`.
        tail: the run of acks that the next ack may extend.
        runs: what is to be sent.
        sent: what is in flight.
    """

    __slots__ = ("_on_count", "_on_run", "_serial", "hands", "runs", "sent", "tail")

    def __init__(self, on_run: Callable[[], None], on_count: Callable[[int], None]) -> None:
        self._on_run = on_run
        self._on_count = on_count
        self._serial = 0
        self.hands = 0
        self.runs: list[Run] = []
        self.sent: list[Run] = []
        self.tail = NO_RUN

    # ----- for records

    def ack(self, grant: Grant, first: int, end: int) -> None:
        """Ack records that do not follow the tail."""
        self.count()
        run = Run(grant, first, end, ACK)
        self.tail = run
        self._add(run)
        self.count()

    def add(
        self,
        grant: Grant,
        first: int,
        end: int,
        verdict: int,
        ready_at_us: int = 0,
        reason: str = "",
        error: str = "",
    ) -> None:
        """Take any other verdict; texts are cut to what fits, errors keep their end."""
        reason = writable(reason)[:REASON_CHARACTERS_MAX]
        error = writable(error[-ERROR_CHARACTERS_MAX:])[-ERROR_CHARACTERS_MAX:]
        run = Run(grant, first, end, verdict, ready_at_us, reason, error)
        run.counted = end
        self._less(end - first)
        self._add(run)

    def count(self) -> None:
        """Notice acks that extended the tail: their records are out of the member's hands."""
        tail = self.tail
        if tail.end != tail.counted:
            self._less(tail.end - tail.counted)
            tail.counted = tail.end

    def drop(self, count: int) -> None:
        """Records without a verdict are gone: their lease is over."""
        self._less(count)

    # ----- for the partition

    def take(self) -> list[Verdict]:
        """Move what fits into one frame from `runs` to `sent`."""
        assert not self.sent
        self.count()
        self.tail = NO_RUN
        runs = merged(self.runs) if len(self.runs) > 1 else self.runs
        room = SETTLE_BYTES_MAX
        fitting = 0
        for run in runs[:VERDICTS_MAX]:
            room -= run.bytes_max
            if room < 0:
                break
            fitting += 1
        self.sent, self.runs = runs[:fitting], runs[fitting:]
        return [run.wire() for run in self.sent]

    def back(self) -> None:
        """What was in flight is to be sent again."""
        self.runs = self.sent + self.runs
        self.sent = []

    def confirmed(self) -> list[Grant]:
        """What was in flight is settled; returns the leases that hold nothing any more."""
        ended = []
        for run in self.sent:
            grant = run.grant
            grant.left -= run.end - run.first
            if grant.left <= 0:
                ended.append(grant)
        self.sent = []
        return ended

    def mark(self) -> int:
        """A number for `is_confirmed`: everything so far; later acks begin a run of their own."""
        self.count()
        self.tail = NO_RUN
        return self._serial

    def is_confirmed(self, mark: int) -> bool:
        """Whether all verdicts up to a mark are settled."""
        return not any(run.serial <= mark for runs in (self.sent, self.runs) for run in runs)

    def _add(self, run: Run) -> None:
        self._serial += 1
        run.serial = self._serial
        self.runs.append(run)
        self._on_run()

    def _less(self, count: int) -> None:
        self.hands -= count
        self._on_count(count)


def merged(runs: list[Run]) -> list[Run]:
    """The same verdicts in as few runs as can be, those of a lease by offset."""
    found: list[Run] = []
    last = NO_RUN
    for run in sorted(runs, key=_order):
        if run.first == last.end and run.same(last):
            last.end = last.counted = run.end
            last.serial = min(last.serial, run.serial)
        else:
            found.append(run)
            last = run
    return found


def _order(run: Run) -> tuple[int, int]:
    return run.grant.lease, run.first


NO_RUN: Final = Run(Grant(None, 0, 0), -1, -1, ACK)  # type: ignore[arg-type] # of no partition
"""Stands for a tail that nothing extends."""
