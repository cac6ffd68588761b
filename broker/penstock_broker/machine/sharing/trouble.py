"""What went wrong with records so far: the side table of a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
REJECTED: Final = "rejected"

ATTEMPTS_MAX: Final = 20
"""Attempts told of one record; of more, the last ones."""
HISTORY_BYTES_MAX: Final = 64 << 20
"""Attempts of all records of a group; beyond it the oldest troubles lose theirs."""
ATTEMPT_BYTES: Final = 200
"""What an attempt is taken to weigh beside its texts."""


class Attempt(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A delivery that did not end well."""

    member: str
    host: str
    kind: str
    """`failed`, `timed_out` or `rejected`."""
    reason: str
    error: str
    granted_us: int
    ended_us: int

    @property
    def weight(self) -> int:
        """Bytes that it is taken for."""
        return ATTEMPT_BYTES + len(self.reason) + len(self.error)


class Trouble(Struct, array_like=True, forbid_unknown_fields=True):
    """A record whose way is not straight: counters never go down while it is not DONE."""

    delivered: int = 0
    """Deliveries that have ended otherwise than by a release; one under way is not in it."""
    failed: int = 0
    timed_out: int = 0
    redrives: int = 0
    spared: int = 0
    """Attempts before the last redrive: the retry policy does not count them again."""
    doom: str = ""
    """Why it is MOVING or HELD (again); empty: it is not given up."""
    forgotten: int = 0
    """Attempts that `attempts` lost to limits."""
    attempts: list[Attempt] = []
    """Oldest first."""


class Troubles(dict[int, Trouble]):
    """By offset, the oldest trouble first. What it remembers of attempts is bounded."""

    def __init__(self, rows: Iterable[tuple[int, Trouble]] = ()) -> None:
        super().__init__(rows)
        self.history_bytes = sum(
            attempt.weight for trouble in self.values() for attempt in trouble.attempts
        )

    def of(self, offset: int) -> Trouble:
        """The trouble of a record, made if there is none."""
        found = self.get(offset)
        if found is None:
            found = self[offset] = Trouble()
        return found

    def remember(self, trouble: Trouble, attempt: Attempt) -> None:
        """Add an attempt; the record's oldest goes beyond `ATTEMPTS_MAX`."""
        trouble.attempts.append(attempt)
        self.history_bytes += attempt.weight
        if len(trouble.attempts) > ATTEMPTS_MAX:
            self.history_bytes -= trouble.attempts.pop(0).weight
            trouble.forgotten += 1
        if self.history_bytes > HISTORY_BYTES_MAX:
            self._shrink()

    def forget(self, first: int, end: int) -> None:
        """The records of [first, end) are DONE."""
        if not self:
            return
        offsets: Iterable[int] = range(first, end)
        if end - first > 4 * len(self):
            offsets = [offset for offset in self if first <= offset < end]
        for offset in offsets:
            trouble = self.pop(offset, None)
            if trouble is not None and trouble.attempts:
                self.history_bytes -= sum(attempt.weight for attempt in trouble.attempts)

    def _shrink(self) -> None:
        """The oldest troubles lose their attempts, until a quarter of the room is free again."""
        for trouble in self.values():
            if self.history_bytes <= HISTORY_BYTES_MAX * 3 // 4:
                return
            self.history_bytes -= sum(attempt.weight for attempt in trouble.attempts)
            trouble.forgotten += len(trouble.attempts)
            trouble.attempts.clear()
