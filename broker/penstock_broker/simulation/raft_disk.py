"""The disk of one simulated Raft node: what survives, and what is still on its way there."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock_broker.raft import Configuration, Entry, HardState, Message, Snapshot


@dataclass(slots=True)
class Write:
    """What one `Ready` wants to be durable, and the messages that wait for it."""

    hard_state: HardState | None
    snapshot: Snapshot | None
    entries: Sequence[Entry]
    after: Sequence[Message]

    @property
    def last(self) -> tuple[int, int] | None:
        """Index and term to report when it is durable."""
        if self.entries:
            return self.entries[-1].index, self.entries[-1].term
        return (self.snapshot.index, self.snapshot.term) if self.snapshot else None


@dataclass(slots=True)
class Disk:
    """Durable: hard state, a machine's state at the base, entries above it. Pending: in order."""

    configuration: Configuration
    hard_state: HardState = field(default_factory=HardState)
    base: tuple[int, int] = (0, 0)
    machine: int = 0
    entries: list[Entry] = field(default_factory=list)
    pending: deque[Write] = field(default_factory=deque)
    flushing: int = 0
    slowness: int = 1

    @property
    def last_index(self) -> int:
        """Index of the last durable entry."""
        return self.base[0] + len(self.entries)

    def holds(self, index: int, term: int) -> bool:
        """Is this entry durable, itself or in the machine's state?"""
        if index <= self.base[0]:
            return True
        return index <= self.last_index and self.entries[index - self.base[0] - 1].term == term

    def complete(self, write: Write) -> None:
        """Make a write durable."""
        if write.hard_state:
            self.hard_state = write.hard_state
        if write.snapshot:
            self._install(write.snapshot)
        if write.entries:
            self._overwrite(write.entries)

    def crash(self, rng: random.Random) -> None:
        """Lose what is pending, but for a random part: whole writes, then a torn one."""
        for _ in range(rng.randrange(len(self.pending) + 1)):
            self.complete(self.pending.popleft())
        if self.pending and rng.random() < 0.5:
            torn = self.pending.popleft()
            if torn.hard_state and rng.random() < 0.7:
                self.hard_state = torn.hard_state
                if not torn.snapshot and torn.entries:
                    self._overwrite(torn.entries[: rng.randrange(len(torn.entries))])
        self.pending.clear()
        self.flushing = 0

    def compact(self, index: int, term: int, configuration: Configuration, machine: int) -> None:
        """Keep the machine's state at `index` instead of the entries up to there."""
        del self.entries[: index - self.base[0]]
        self.base, self.configuration, self.machine = (index, term), configuration, machine

    def _install(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot.data, int)
        self.base = (snapshot.index, snapshot.term)
        self.configuration, self.machine = snapshot.configuration, snapshot.data
        self.entries.clear()

    def _overwrite(self, entries: Sequence[Entry]) -> None:
        if entries:
            assert self.base[0] < entries[0].index <= self.last_index + 1, (
                f"entries from {entries[0].index} written to {self.base[0]}..{self.last_index}"
            )
            del self.entries[entries[0].index - self.base[0] - 1 :]
            self.entries += entries
