"""What storage should hold: the world's own, simple account of each group.

A group is a Raft log, a hard state and a machine; the machine's state is a running checksum over
everything applied, so that a lost, doubled or changed entry shows at once. `Durable` is what must
be found after a crash.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Final

from crc32c import crc32c

from penstock.protocol.batch import Kind, control_body, parse_header
from penstock.protocol.records import Record, RecordBatch
from penstock_broker.storage.entries import HardState, StoredEntry, later_hard_state

BLOB: Final = struct.Struct("<QQQQ")
TRIM: Final = b"T"
CREATE: Final = b"C"
DELETE: Final = b"D"


class Violation(AssertionError):
    """Storage broke a promise."""


@dataclass(slots=True)
class Durable:
    """What was acknowledged: it must be there after any crash."""

    floor: int = 0
    """Index of the snapshot below the first entry."""
    entries: list[StoredEntry] = field(default_factory=list)
    hard_state: HardState = (0, 0, 0)

    def copy(self) -> Durable:
        return replace(self, entries=list(self.entries))

    @property
    def last_index(self) -> int:
        return self.floor + len(self.entries)

    def cut(self, first: int) -> Durable:
        """The same without the entries from an index on."""
        return replace(self, entries=self.entries[: max(first - self.floor - 1, 0)])

    def add(self, first: int, entries: list[StoredEntry], hard_state: HardState) -> None:
        """A run of the group was flushed."""
        self.hard_state = later_hard_state(self.hard_state, hard_state)
        if entries:
            keep = first - self.floor - 1
            assert keep <= len(self.entries), "a run has no gap before it"
            del self.entries[keep:]
            self.entries += entries


@dataclass(slots=True)
class Machine:
    """The state that entries are applied to."""

    applied: int = 0
    digest: int = 0
    start_offset: int = 0
    end_offset: int = 0

    def apply(self, entry: StoredEntry) -> None:
        self.applied = entry.index
        self.digest = crc32c(bytes(entry.data), self.digest)
        if entry.kind == Kind.DATA:
            header = parse_header(entry.data)
            self.end_offset = header.base_offset + header.record_count
        elif (body := control_body(entry.data))[:1] == TRIM:
            self.start_offset = max(self.start_offset, int(body[1:]))

    def snapshot(self, padding: int = 0) -> bytes:
        head = BLOB.pack(self.applied, self.digest, self.start_offset, self.end_offset)
        return head + bytes([self.applied % 256]) * padding

    @classmethod
    def restore(cls, blob: bytes) -> Machine:
        return cls(*BLOB.unpack_from(blob))


@dataclass(slots=True)
class Batch:
    """A committed data batch."""

    base_offset: int
    next_offset: int
    data: bytes


@dataclass(slots=True)
class GroupModel:
    """One group as the node sees it, and what is true of it for ever."""

    gid: int
    has_log: bool
    single: bool
    keyed: bool
    """Whether its log is compacted."""
    """A lone voter commits what is durable; a follower learns what is committed."""
    durable: Durable = field(default_factory=Durable)
    floor: int = 0
    entries: list[StoredEntry] = field(default_factory=list)
    """The Raft log in RAM."""
    term: int = 1
    vote: int = 0
    commit: int = 0
    """What the node knows; falls back with a restart."""
    committed: int = 0
    """What is true."""
    persisted: int = 0
    machine: Machine = field(default_factory=Machine)
    digests: dict[int, int] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    newest: dict[bytes, Record] = field(default_factory=dict)
    """Key -> its newest record, in a log that is compacted."""
    installing: Machine | None = None
    """A snapshot that is not durable yet."""
    install_state: HardState = (0, 0, 0)
    before_install: tuple[list[Batch], int] = field(default_factory=lambda: ([], 0))
    """Batches and committed index without the snapshot, should it not survive."""
    cut_at: int = 0
    """First index of a truncation that is not durable: the disk may forget the rest or keep it."""
    durable_void: int = 0
    """Flushes before this sequence count for nothing: a snapshot took their place."""
    proposed_end: int = 0

    @property
    def last_index(self) -> int:
        return self.floor + len(self.entries)

    def entry(self, index: int) -> StoredEntry:
        return self.entries[index - self.floor - 1]

    def note_applied(self, entry: StoredEntry) -> None:
        """The machine applied an entry: it must be what it was the first time."""
        known = self.digests.setdefault(entry.index, self.machine.digest)
        if known != self.machine.digest:
            raise Violation(f"group {self.gid}: entry {entry.index} changed after its commit")
        if entry.kind == Kind.DATA and entry.index > self.committed:
            header = parse_header(entry.data)
            self.batches.append(
                Batch(header.base_offset, self.machine.end_offset, bytes(entry.data))
            )
            if self.keyed:
                batch = RecordBatch(entry.data)
                for record in batch:
                    self.newest[record.key or b""] = record
        self.committed = max(self.committed, entry.index)

    def batch_at(self, offset: int) -> Batch:
        """The batch that holds an offset."""
        low, high = 0, len(self.batches) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.batches[middle].base_offset <= offset:
                low = middle
            else:
                high = middle - 1
        return self.batches[low]
