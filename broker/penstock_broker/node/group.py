"""One Raft group on this broker: consensus, log and machine joined.

Every entry is one stamped batch. Proposals of a round are stamped with the index and term they will
have, gathered, and proposed as one run when the round closes. What is committed is applied in
order, once; after a restart the machine starts at its checkpoint and the entries above it are
applied again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.protocol.batch import (
    Buffer,
    Kind,
    control_batch,
    control_body,
    parse_header,
    stamp,
)
from penstock_broker.machine.stamp import Stamp
from penstock_broker.node.restart import pack_blob
from penstock_broker.raft import Entry, Message, Raft, Ready, Role, SoftState
from penstock_broker.raft.entry import RESERVED_KINDS

if TYPE_CHECKING:
    from penstock_broker.node.node import Node


class Group:
    """What all groups share; subclasses say what applying an entry means."""

    __slots__ = ("applied_index", "applied_term", "dirty", "gid", "gone", "held", "node", "pending",
                 "raft", "ready_at_term")  # fmt: skip

    def __init__(self, node: Node, gid: int, raft: Raft) -> None:
        self.node = node
        self.gid = gid
        self.raft = raft
        self.pending: list[tuple[int, Buffer]] = []
        self.dirty = False
        self.gone = False
        """Whether it was deleted: a round that is not over must not bring it back."""
        self.held: deque[tuple[int, int, Sequence[Message]]] = deque()
        """(flush, index, messages): leave when that flush and that index are durable."""
        self.applied_index = raft.log.base_index
        self.applied_term = raft.log.base_term
        self.ready_at_term = 0
        """The term whose no-op has been applied; the leader serves only then (Raft 8)."""

    # ----- leading

    @property
    def leading(self) -> bool:
        """Whether this broker leads the group and has applied its own term's no-op."""
        return self.ready_at_term == self.raft.term and self.raft.role is Role.LEADER

    @property
    def next_index(self) -> int:
        """The index that the next proposal of this round gets."""
        return self.raft.next_index + len(self.pending)

    def propose(
        self, kind: int, batch: bytearray | memoryview, epoch: int, offset: int, ts: int
    ) -> int:
        """Stamp a batch and queue it for this round's proposal; returns its index."""
        index = self.next_index
        stamp(batch, kind, index, self.raft.term, epoch, offset, ts)
        self.pending.append((kind, batch))
        if not self.dirty:
            self.node.mark(self)
        return index

    def propose_command(self, body: bytes) -> int:
        """Propose a machine command; time travels in its stamp."""
        return self.propose(Kind.CONTROL, control_batch(body), 0, 0, self.node.wall_us)

    def campaign(self) -> None:
        """Stand for election now: the preferred leader of a new or restarted group does."""
        self.raft.campaign()
        self.node.mark(self)

    # ----- the round's end

    def close_round(self) -> None:
        """Propose what was gathered, hand on what consensus made ready."""
        self.dirty = False
        raft = self.raft
        if self.pending:
            pending, self.pending = self.pending, []
            raft.propose(pending)
        ready = raft.ready()
        while ready is not None:
            self._persist(ready)
            if ready.soft_state is not None:
                self._role_changed(ready.soft_state)
            if ready.committed:
                self.apply_run(ready.committed)
            ready = raft.ready()

    def _persist(self, ready: Ready) -> None:
        store = self.node.store
        if ready.entries or ready.must_sync:
            entries = ready.entries
            if entries and entries[0].kind in RESERVED_KINDS:
                entries = [self._as_batch(entry) for entry in entries]
            store.append(self.gid, entries, ready.hard_state, self.raft.log.commit)
        if ready.messages_after_persist:
            last = self.raft.log.last_index
            self.held.append((store.wal.sequence, last, ready.messages_after_persist))

    @staticmethod
    def _as_batch(entry: Entry) -> Entry:
        """Raft's own entries travel and lie on disk as batches, like all others."""
        if entry.kind not in RESERVED_KINDS:
            return entry
        batch = control_batch(bytes(entry.data))
        stamp(batch, entry.kind, entry.index, entry.term, 0, 0, 0)
        return Entry(entry.index, entry.term, entry.kind, batch)

    def persisted(self, flush: int, index: int, term: int) -> None:
        """A flush made the log durable up to an index: what waited for that may go (Raft 5)."""
        self.raft.persisted(index, term)
        while self.held and self.held[0][0] <= flush and self.held[0][1] <= index:
            for message in self.held.popleft()[2]:
                self.node.send_message(self, message)
        self.node.mark(self)

    def _role_changed(self, soft: SoftState) -> None:
        self.node.groups.disturb(self)
        if soft.role is not Role.LEADER and self.ready_at_term:
            self.ready_at_term = 0
            self.on_lost_leadership()

    def apply_run(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries in order."""
        for entry in entries:
            if entry.kind == Kind.NOOP:
                self.on_noop(entry)
                if entry.term == self.raft.term and self.raft.role is Role.LEADER:
                    self.ready_at_term = entry.term
                    self.on_leading()
                    self.node.pending.group_ready(self.gid)
            elif entry.kind != Kind.CONFIG:
                self.apply(entry)
        self.applied_index, self.applied_term = entries[-1].index, entries[-1].term

    def command_of(self, entry: Entry) -> tuple[bytes, Stamp]:
        """The command in a control entry, and its stamp."""
        at = Stamp(entry.index, entry.term, parse_header(entry.data).append_ts_us)
        return control_body(entry.data), at

    # ----- what subclasses say

    def on_noop(self, entry: Entry) -> None:
        """A leader of a new term was established."""

    def on_leading(self) -> None:
        """This broker leads and may serve."""

    def on_lost_leadership(self) -> None:
        """This broker led and does not any more."""

    def apply(self, entry: Entry) -> None:
        """Apply one committed DATA or CONTROL entry."""
        raise AssertionError(f"group {self.gid} can't apply kind {entry.kind}")

    def machine_state(self) -> bytes:
        """The machine's state at `applied_index`."""
        raise AssertionError(f"group {self.gid} has no machine")

    def snapshot(self) -> bytes:
        """The checkpoint blob: configuration and machine at `applied_index`."""
        return pack_blob(self.raft.history.at(self.applied_index), self.machine_state())
