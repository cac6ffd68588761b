"""What storage keeps for Raft: entries and hard states. Storage never looks inside an entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock_broker.storage.files import Buffer

HardState = tuple[int, int, int]
"""(term, vote, commit); vote 0 is no vote."""


class EntryLike(Protocol):
    """A Raft entry; `data` is a stamped batch and must not change any more."""

    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def data(self) -> Buffer: ...


class StoredEntry(NamedTuple):
    """An entry read back from the WAL."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    term: int
    kind: int
    data: bytearray


@dataclass(slots=True)
class RecoveredGroup:
    """A group as it was when the process stopped."""

    hard_state: HardState = (0, 0, 0)
    applied_index: int = 0
    applied_term: int = 0
    blob: bytes | None = None
    """The machine's state at `applied_index`; None when no checkpoint was made."""
    entries: list[StoredEntry] = field(default_factory=list)
    """The Raft log above `applied_index`."""
    emptied: bool = False
    """Whether an earlier life of the replica here was dropped: only term and vote are of it."""
    promised: tuple[int, int] = (0, 0)
    """Term and index of the last entry of earlier lives. Others may rely on this replica having
    had the entries up to there, so it votes, for itself too, only as if it still had them."""


def later_hard_state(one: HardState, other: HardState) -> HardState:
    """What is known from two hard states of one group, in whatever order they were written.

    Terms never go down, a term's vote is cast once and commit never goes down.
    """
    if one[0] != other[0]:
        term, vote, _ = max(one, other)
    else:
        term, vote = one[0], one[1] or other[1]
    return term, vote, max(one[2], other[2])
