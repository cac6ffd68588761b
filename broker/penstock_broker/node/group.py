"""One Raft group on this broker: consensus, log and machine joined.

Every entry is one stamped batch. Proposals of a round are stamped with the index and term they will
have, gathered, and proposed as one run before anything else can take their place. What is committed
is applied in order, once; after a restart the machine starts at its checkpoint and the entries
above it are applied again. With the lead go the proposals that were not made, and everybody who
waits is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from penstock.errors import (
    NotLeader,
    PenstockError,
    PreconditionFailed,
    Throttled,
)
from penstock.protocol.batch import (
    Buffer,
    Kind,
    control_batch,
    control_body,
    parse_header,
    stamp,
)
from penstock_broker import raft as consensus
from penstock_broker.machine.stamp import Stamp
from penstock_broker.node import retained
from penstock_broker.node.held import Held
from penstock_broker.node.peers.heartbeats import PROOF_SECONDS
from penstock_broker.node.restart import pack_blob, unpack_blob
from penstock_broker.raft import NOBODY, Entry, Raft, ReadState, Ready, Role, Snapshot, SoftState
from penstock_broker.raft.entry import RESERVED_KINDS

if TYPE_CHECKING:
    from penstock_broker.node.node import Node

Done = Callable[[PenstockError | None], None]


class Group:
    """What all groups share; subclasses say what applying an entry means.

    Attributes:
        retained_bytes: of applied entries that are still in memory, for members that lack them.
    """

    __slots__ = ("_sure_until", "applied_index", "applied_term", "dirty", "gid", "gone", "held",
                 "node", "pending", "raft", "reads", "reads_due", "ready_at_term",
                 "retained_bytes")  # fmt: skip

    def __init__(self, node: Node, gid: int, raft: Raft) -> None:
        self.node = node
        self.gid = gid
        self.raft = raft
        self.pending: list[tuple[int, Buffer]] = []
        self.dirty = False
        self.gone = False
        """Whether it was deleted: a round that is not over must not bring it back."""
        self.held = Held(raft.log.last_index)
        self.applied_index = raft.log.base_index
        self.applied_term = raft.log.base_term
        self.ready_at_term = 0
        """The term whose no-op has been applied; the leader serves only then (Raft 8)."""
        self.reads: dict[Done, None] = {}
        """Linearizable reads that were not answered."""
        self.reads_due: deque[ReadState] = deque()
        """Of these, those that only wait for an index to be applied."""
        self.retained_bytes = 0
        self._sure_until = 0.0

    # ----- leading

    @property
    def leading(self) -> bool:
        """Whether this broker leads the group and has applied its own term's no-op."""
        return self.ready_at_term == self.raft.term and self.raft.role is Role.LEADER

    @property
    def sure(self) -> bool:
        """Whether nobody else can lead the group now, so that what is known here holds.

        Who heard this leader elects no other for a while. So a quorum must have heard it a moment
        ago by its own clock: who stood still, and woke up, asks first (thesis 6.4.1). Asked again
        when answers leave (`Node.take_output`), since a process may be stopped inside a round. Not
        covered: the moment from there to the socket, and a clock that stands still with the
        process.
        """
        if not self.raft.peers or self.node.clock < self._sure_until:
            return True
        self._sure_until = self.node.peers.sure_until(self.raft)
        return self.node.clock < self._sure_until

    def doubt(self) -> None:
        """A node is out of reach: what it answered holds it back no longer."""
        self._sure_until = 0.0

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

    def propose_command(self, body: bytes, at_us: int = 0) -> int:
        """Propose a machine command; time travels in its stamp (0: that of the node)."""
        return self.propose(Kind.CONTROL, control_batch(body), 0, 0, at_us or self.node.wall_us)

    def campaign(self) -> None:
        """Stand for election now: the preferred leader of a new or restarted group does."""
        self.raft.campaign()
        self.node.mark(self)

    def suspect(self) -> None:
        """Nobody leads, as far as is known here: stand for election soon."""
        self.raft.suspect()

    def recover_alone(self, term: int) -> bool:
        """Go on as the only voter; False: not now. See `Raft.recover_alone`."""
        if not self.raft.recover_alone(term):
            return False
        assert not self.pending, "proposed by who does not lead"
        self.node.groups.disturb(self)
        self.node.mark(self)
        return True

    def change_members(self, voters: Sequence[int], learners: Sequence[int] = ()) -> None:
        """Begin to make the Raft group consist of these nodes.

        Raises:
            NotLeader: another broker leads, or nobody does.
            PreconditionFailed: a change is under way, or nothing would change.
        """
        self._ask(lambda: self.raft.propose_configuration(voters, learners))
        self.node.groups.disturb(self)

    def transfer(self, to: int) -> None:
        """Hand the lead over to a voter; what is published meanwhile waits for the outcome.

        Raises:
            NotLeader: another broker leads, or nobody does.
            PreconditionFailed: it is no other voter, or the members are being changed.
        """
        if self.raft.change_open:
            raise PreconditionFailed("the replicas are being changed; hand the lead over later")
        self._ask(lambda: self.raft.transfer(to))

    def _ask(self, act: Callable[[], object]) -> None:
        """Ask something of the leader's Raft, which may take an index of the log."""
        if not self.leading:
            raise NotLeader(leader=self.raft.leader)
        self._propose_pending(at_once=True)
        try:
            act()
        except consensus.NotLeader as error:
            raise NotLeader(leader=error.leader) from error
        except consensus.Refused as error:
            raise PreconditionFailed(str(error)) from error
        self.node.mark(self)

    def read(self, done: Done) -> None:
        """Call `done` when all that was decided before now is applied here.

        Raises:
            NotLeader: another broker leads, or nobody does.
            Throttled: too many reads wait.
        """
        if not self.leading:
            raise NotLeader(leader=self.raft.leader)
        try:
            self.raft.read_index(done)
        except consensus.Refused as error:
            raise Throttled(str(error)) from error
        self.reads[done] = None
        self.node.peers.beat(self)
        self.node.mark(self)

    # ----- the round's end

    def close_round(self) -> None:
        """Propose what was gathered, hand on what consensus made ready."""
        self.dirty = False
        raft = self.raft
        while True:
            if self.pending:
                self._propose_pending()
            ready = raft.ready()
            if ready is None:
                return
            for message in ready.messages:
                self.node.send_message(self, message)
            self._persist(ready)
            if ready.soft_state is not None:
                self._role_changed(ready.soft_state)
            if ready.committed:
                self.apply_run(ready.committed)
                if raft.peers or raft.role is not Role.LEADER or self.retained_bytes:
                    retained.applied(self, ready.committed)
                else:
                    raft.compact(self.applied_index)
            if self.reads or ready.snapshot_requests:
                self._serve(ready)

    def _drop_pending(self) -> None:
        if self.pending and not self.ready_at_term:
            self.on_lost_leadership()  # proposed before we might serve: no loss of a lead tells
        self.pending.clear()

    def _propose_pending(self, at_once: bool = False) -> None:
        """Make the gathered proposals, unless the lead is lost or about to be handed over.

        Nothing else of this leader may enter the log between a proposal's stamp and here.
        """
        raft = self.raft
        if raft.role is not Role.LEADER:
            self._drop_pending()  # whoever waits is told in `_role_changed`
        elif self.pending and raft.transferee == NOBODY and (at_once or not self.holds_back()):
            pending, self.pending = self.pending, []
            raft.propose(pending)

    def _serve(self, ready: Ready) -> None:
        """Answer reads, and give members snapshots."""
        self.reads_due += ready.read_states
        self._finish_reads()
        for node_id in ready.snapshot_requests:
            self.node.catchup.wanted(self, node_id)

    def _persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self._install(ready, ready.snapshot)
            return
        store, held = self.node.store, self.held
        if ready.entries or ready.must_sync:
            entries = ready.entries
            if entries:
                first = entries[0]
                if first.index <= held.logged:
                    held.truncated(first.index)
                raft = self.raft
                own = raft.role is Role.LEADER and raft.history.index < first.index
                if first.kind in RESERVED_KINDS or not own:  # else all are of this round's pending
                    entries = self._as_batches(entries)
                held.logged = entries[-1].index
            store.append(self.gid, entries, ready.hard_state, self.raft.log.commit)
            held.sequence = store.wal.sequence
            held.clean = False
        if ready.messages_after_persist:
            if held.clean:
                for message in ready.messages_after_persist:
                    self.node.send_message(self, message)
            else:
                held.add(store.wal.sequence, self.raft.log.last_index, ready.messages_after_persist)

    def _as_batches(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Raft's own entries travel and lie on disk as batches, like all others."""
        if not any(entry.kind in RESERVED_KINDS for entry in entries):
            return entries
        self.node.groups.disturb(self)  # there may be members that there were not
        return [as_batch(entry) for entry in entries]

    def persisted(self, flush: int, index: int, term: int) -> None:
        """A flush made the log durable up to an index: what waited for that may go (Raft 5)."""
        self.raft.persisted(index, term)
        held = self.held
        if flush >= held.sequence and max(index, held.base) >= held.logged:
            held.clean = True
        if held.messages:
            for message in held.take(flush, index):
                self.node.send_message(self, message)
        if not self.dirty:
            self.node.mark(self)

    def _role_changed(self, soft: SoftState) -> None:
        self.node.groups.disturb(self)
        if soft.role is Role.LEADER:
            # It serves when a quorum has its no-op, which leaves now: all of these heard it since.
            self._sure_until = self.node.clock + PROOF_SECONDS
            return
        self._drop_pending()
        if self.ready_at_term:
            self.ready_at_term = 0
            self.node.groups.announce(self.gid, 0)
            error = NotLeader("the leader changed; the outcome is unknown", leader=soft.leader)
            self.node.pending.lost(self.gid, error)
            self._refuse_reads(error)
            self.node.catchup.lost(self.gid)
            self.on_lost_leadership()
        if soft.leader != NOBODY:
            self.node.pending.group_ready(self.gid)

    def apply_run(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries in order."""
        for entry in entries:
            if entry.kind == Kind.NOOP:
                self.on_noop(entry)
                if entry.term == self.raft.term and self.raft.role is Role.LEADER:
                    self.ready_at_term = entry.term
                    self.node.groups.announce(self.gid, entry.term)
                    self.on_leading()
                    self.node.pending.group_ready(self.gid)
            elif entry.kind != Kind.CONFIG:
                self.apply(entry)
        self.applied_index, self.applied_term = entries[-1].index, entries[-1].term

    def command_of(self, entry: Entry) -> tuple[bytes, Stamp]:
        """The command in a control entry, and its stamp."""
        at = Stamp(entry.index, entry.term, parse_header(entry.data).append_ts_us)
        return control_body(entry.data), at

    # ----- reads

    def _finish_reads(self) -> None:
        due = self.reads_due
        while due and due[0].index <= self.applied_index:
            done = cast("Done", due.popleft().context)
            if done in self.reads:
                del self.reads[done]
                done(None)

    def _refuse_reads(self, error: PenstockError) -> None:
        reads, self.reads = self.reads, {}
        self.reads_due.clear()
        for done in reads:
            done(error)

    # ----- snapshots

    def snapshot(self) -> bytes:
        """The checkpoint blob: configuration and machine at `applied_index`."""
        return pack_blob(self.raft.history.at(self.applied_index), self.machine_state())

    def _install(self, ready: Ready, snapshot: Snapshot) -> None:
        """A snapshot replaces log and machine; answers wait until it is durable."""
        store, held = self.node.store, self.held
        if ready.hard_state is not None:
            store.append(self.gid, [], ready.hard_state, self.raft.log.commit)
        blob = snapshot.data
        assert isinstance(blob, bytes), "what arrived over the network"
        self.applied_index, self.applied_term = snapshot.index, snapshot.term
        retained.forgotten(self)
        self.restore(unpack_blob(blob)[1])
        store.install(self.gid, snapshot.index, snapshot.term, blob)
        held.installing(snapshot.index, ready.messages_after_persist)
        if ready.entries:
            store.append(self.gid, self._as_batches(ready.entries), None, self.raft.log.commit)
            held.logged = ready.entries[-1].index
            held.sequence = store.wal.sequence
        self.node.groups.disturb(self)

    def installed(self, index: int, term: int) -> None:
        """The snapshot is durable."""
        self.raft.persisted(index, term)
        for message in self.held.installed(index):
            self.node.send_message(self, message)
        self.node.mark(self)

    def end(self, error: PenstockError) -> None:
        """The group leaves this broker: answer everybody who waits."""
        self.gone = True
        self.pending.clear()
        retained.forgotten(self)
        self.node.pending.lost(self.gid, error)
        self._refuse_reads(error)

    # ----- what subclasses say

    def holds_back(self) -> bool:
        """Whether proposals wait for those before them, or for more that are about to come."""
        return False

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

    def restore(self, state: bytes) -> None:
        """Take over a machine's state from a snapshot."""
        raise AssertionError(f"group {self.gid} has no machine")


def as_batch(entry: Entry) -> Entry:
    """One of Raft's own entries as the batch in which it travels and lies on disk."""
    if entry.kind not in RESERVED_KINDS:
        return entry
    batch = control_batch(bytes(entry.data))
    stamp(batch, entry.kind, entry.index, entry.term, 0, 0, 0)
    return Entry(entry.index, entry.term, entry.kind, batch)
