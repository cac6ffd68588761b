"""What must hold between the brokers of a simulated cluster, for every group, at every moment.

The checks see all nodes at once: what consensus hands out (`Raft.ready`), what reaches the disks,
and every message that leaves. They keep the one committed sequence of each group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest.mock import patch
from zlib import crc32

from penstock.errors import PenstockError, TopicNotFound
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.lease import Lease
from penstock_broker.node.dropping import Remains
from penstock_broker.node.fetches import ColdRead
from penstock_broker.node.group import Group
from penstock_broker.node.groups import Groups
from penstock_broker.node.node import Node
from penstock_broker.node.partition import PartitionGroup
from penstock_broker.node.sharing.reading import SharedRead
from penstock_broker.raft import (
    CONFIG,
    AppendResponse,
    Configuration,
    Entry,
    Message,
    Raft,
    Ready,
    Role,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.raft.configuration import ConfigurationHistory
from penstock_broker.raft.quorum import majority_value
from penstock_broker.simulation.cluster_disks import Durable, Write, flushed, may_be
from penstock_broker.storage import Flush, Job
from penstock_broker.storage.wal_format import RUN_MARK

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_host import Host
    from penstock_broker.simulation.cluster_world import ClusterWorld

SAMPLE_ROUNDS = 50
"""Every so many rounds of a broker, the machine of one of its groups is compared."""


def require(holds: bool, words: str) -> None:
    """Raise AssertionError unless it holds."""
    if not holds:
        raise AssertionError(words)


@dataclass(slots=True)
class History:
    """The committed sequence of one group."""

    entries: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Index -> term, digest."""
    last: int = 0
    last_term: int = 0
    committed_in: int = 0
    """Term of the leader that committed the last one."""


class Watched(Node):
    """A node that tells the checks what becomes durable and what it says."""

    host: Host

    def send_message(self, group: Group, message: Message) -> None:
        """Let a message go, if it promises nothing that is not durable."""
        self.host.world.checks.departs(self.host, group, message)
        super().send_message(group, message)

    def job_done(
        self, job: Job | Flush | ColdRead | SharedRead, error: PenstockError | None
    ) -> None:
        """A job was carried out."""
        if isinstance(job, Flush) and not job.full:
            self.host.world.checks.flushed(self.host, job)
        super().job_done(job, error)


class Checks:
    """The promises, and what is needed to see one broken."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self.histories: dict[int, History] = {}
        self.leaders: dict[tuple[int, int], int] = {}
        """(group, term) -> the node that led."""
        self.served: dict[int, tuple[int, float]] = {}
        """Group -> the latest term in which something was committed, and since when."""
        self._votes: dict[tuple[int, int, int], int] = {}
        self._durable: dict[tuple[int, int], Durable] = {}
        """(host, group) -> what is on its disk."""
        self._lost: dict[tuple[int, int], Durable] = {}
        """(host, group) -> what was on a disk that was lost: acks of it may be on their way."""
        self._writes: dict[int, deque[Write]] = {}
        self._behind: dict[tuple[int, int], list[Write]] = {}
        """(host, group) -> what waits until the snapshot before it is durable."""
        self._unreported: dict[tuple[int, int], list[Write]] = {}
        """(host, group) -> what was on its way to the disk when the process ended."""
        self._commits: dict[int, int] = {}
        """id(raft) -> its commit when it was seen last."""
        self._known: dict[int, tuple[Raft, Host, int]] = {}
        self._rounds = 0
        self._promised: dict[tuple[int, int], tuple[int, int]] = {}
        """(host, group) -> durable term and vote of a replica that was taken away."""
        self.leases: set[tuple[int, int]] = set()
        """(group, lease) of all grants that are committed."""
        self._deleted: set[int] = set()
        """Groups of topics that are gone: who restarts may begin them anew, until it hears so."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See everything that consensus hands out."""
        original = Raft.ready

        def ready(raft: Raft) -> Ready | None:
            if id(raft) not in self._known:
                self._meet(raft)
            deciding, commit = raft.configuration, raft.log.commit
            made = original(raft)
            if made is not None or raft.log.commit != commit:
                self._ready(raft, made, deciding)
            return made

        take = Raft.step

        def step(raft: Raft, message: Message) -> None:
            # A message may truncate what was not committed: look at what was on the disk before.
            if id(raft) not in self._known:
                self._meet(raft)
            take(raft, message)

        alone = Raft.recover_alone

        def recover_alone(raft: Raft, term: int) -> bool:
            if id(raft) not in self._known:
                self._meet(raft)
            self._commits[id(raft)] = raft.log.commit  # it heard of that, and did not decide it
            return alone(raft, term)

        with (
            patch.object(Raft, "ready", ready),
            patch.object(Raft, "step", step),
            patch.object(Raft, "recover_alone", recover_alone),
            self._watching_groups(),
            self._watching_leases(),
        ):
            yield

    @contextmanager
    def _watching_leases(self) -> Iterator[None]:
        """Note each lease that a replica takes from the log."""
        if not self._world.swarm.shared:
            yield
            return
        applying = 0
        apply, add = PartitionGroup.apply, SharedGroup.add_lease

        def applied(group: PartitionGroup, entry: Entry) -> None:
            nonlocal applying
            applying = group.gid
            apply(group, entry)

        def added(group: SharedGroup, lease: Lease) -> None:
            self.leases.add((applying, lease.id))
            add(group, lease)

        with (
            patch.object(PartitionGroup, "apply", applied),
            patch.object(SharedGroup, "add_lease", added),
        ):
            yield

    @contextmanager
    def _watching_groups(self) -> Iterator[None]:
        """See replicas that are put in place, and those that are taken away."""
        put = Group.installed

        def installed(group: Group, index: int, term: int) -> None:
            if isinstance(group.node, Watched):
                self._installed(group.node.host, group.gid, index)
            put(group, index, term)

        drop = Groups._drop

        def dropped(groups: Groups, gid: int, remains: Remains) -> None:
            if isinstance(groups._node, Watched):
                self._left(groups._node.host, gid)
            drop(groups, gid, remains)

        end = Groups._end

        def ended(groups: Groups, gid: int, error: PenstockError) -> bool:
            if isinstance(groups._node, Watched):
                self._left(groups._node.host, gid)
            if isinstance(error, TopicNotFound):
                require(gid in self._world.gone, f"group {gid} is deleted, nobody asked for that")
                self._deleted.add(gid)
            return end(groups, gid, error)

        with (
            patch.object(Group, "installed", installed),
            patch.object(Groups, "_drop", dropped),
            patch.object(Groups, "_end", ended),
        ):
            yield

    # ----- hosts

    def forget(self, host: Host) -> None:
        """The process ended: nobody knows whether what was on its way reached the disk."""
        for raft in [raft for raft, known in self._known.items() if known[1] is host]:
            del self._known[raft]
            self._commits.pop(raft, None)
        for write in self._writes.pop(host.number, ()):
            self._unreported.setdefault((host.number, write.gid), []).append(write)
        for key in [key for key in self._behind if key[0] == host.number]:
            self._unreported.setdefault(key, []).extend(self._behind.pop(key))

    def wiped(self, host: Host) -> None:
        """Its disk is another one."""
        self._lost |= {key: kept for key, kept in self._durable.items() if key[0] == host.number}
        for known in (self._durable, self._unreported, self._promised):
            for key in [key for key in known if key[0] == host.number]:
                del known[key]

    def _left(self, host: Host, gid: int) -> None:
        """A group is on a host no more; what was on its way to the disk is void."""
        self._unreported.pop((host.number, gid), None)
        durable = self._durable.pop((host.number, gid), None)
        if durable is not None and durable.term:
            self._promised[host.number, gid] = durable.term, durable.vote
        self._behind.pop((host.number, gid), None)
        writes = self._writes.get(host.number, deque())
        self._writes[host.number] = deque(write for write in writes if write.gid != gid)

    def flushed(self, host: Host, flush: Flush) -> None:
        """A flush is on the disk."""
        ends: dict[int, int] = {}
        for run in flush.runs:
            if not run.flags & RUN_MARK:
                last = run.last if run.entries and not run.origin else 0
                ends[run.gid] = max(ends.get(run.gid, 0), last)
        writes = self._writes.setdefault(host.number, deque())

        def durable(gid: int) -> Durable:
            return self._durable.setdefault((host.number, gid), Durable())

        flushed(writes, flush.sequence, ends, durable)

    def _installed(self, host: Host, gid: int, index: int) -> None:
        """A snapshot is on the disk; what follows it goes with the next flush."""
        if gid in self._deleted:
            return
        self._durable.setdefault((host.number, gid), Durable()).install(index)
        writes = self._writes.setdefault(host.number, deque())
        assert host.node is not None
        durable = self._durable[host.number, gid]
        with_it, *behind = self._behind.pop((host.number, gid))
        if with_it.hard_state is not None:
            durable.term, durable.vote = with_it.hard_state
        for write in behind:
            write.flush = host.node.store.wal.sequence
            writes.append(write)

    # ----- what consensus hands out

    def _ready(self, raft: Raft, made: Ready | None, deciding: Configuration) -> None:
        if id(raft) not in self._known:
            return
        _, host, gid = self._known[id(raft)]
        if gid in self._deleted:
            return
        if raft.role is Role.LEADER:
            self._check_leader(gid, raft)
        before = self._commits.get(id(raft), 0)
        commit = raft.log.commit
        require(commit >= before, f"{host}, group {gid}: commit fell from {before} to {commit}")
        self._commits[id(raft)] = commit
        if made is not None:
            if made.entries:
                first = made.entries[0].index
                where = f"{host}, group {gid}: entry {first}"
                require(first > before, f"{where} is written again, {before} was committed")
            told = raft._told_hard
            self._note_write(host, gid, made, (told.term, told.vote))
            if made.committed:
                self._check_committed(host, gid, made.committed, raft)
        if raft.role is Role.LEADER and commit > before:
            self._check_held(host, gid, raft, deciding)

    def _meet(self, raft: Raft) -> None:
        """See a group for the first time in the life of a process: it starts from its disk."""
        for host in self._world.hosts:
            node = host.node
            for gid, group in node.groups._all.items() if node is not None else ():
                if group.raft is raft:
                    self._known[id(raft)] = (raft, host, gid)
                    self._world.places[raft.id] = host.number
                    if gid not in self._deleted:
                        self._check_recovered(host, gid, raft)

    def _check_recovered(self, host: Host, gid: int, raft: Raft) -> None:
        """What was durable is there, and what was on its way to the disk may be."""
        key, log, hard_state = (host.number, gid), raft.log, raft._told_hard
        found = Durable(hard_state.term, hard_state.vote, log.base_index)
        terms = {entry.index: entry.term for entry in log.slice(log.base_index + 1, log.durable)}
        found.terms, found.last = terms, log.durable
        durable, unreported = self._durable.get(key), self._unreported.pop(key, [])
        if durable is not None and not may_be(durable, unreported, found):
            where = f"{host}, group {gid}: on its disk was {durable}, on its way {unreported}"
            raise AssertionError(f"{where}; it starts with {found}")
        term, vote = self._promised.pop(key, (0, 0))
        bound = found.term > term or (found.term == term and vote in (0, found.vote))
        where = f"{host}, group {gid}: it had promised {term, vote} when it was taken away"
        require(bound, f"{where}; it starts with {hard_state}")
        self._durable[key] = found

    def _note_write(self, host: Host, gid: int, made: Ready, told: tuple[int, int]) -> None:
        hard_state, key = made.hard_state, (host.number, gid)
        if made.snapshot is not None and host.node is not None:
            # What no flush has taken is dropped; the snapshot takes the hard state along.
            writes = self._writes.get(host.number, deque())
            taken = host.node.store.wal.sequence
            kept = [write for write in writes if write.gid != gid or write.flush < taken]
            self._writes[host.number] = deque(kept)
            self._behind[key] = [Write(0, gid, told, [], made.snapshot.index)]
        if not (made.entries or hard_state) or host.node is None:
            return
        write = Write(
            host.node.store.wal.sequence,
            gid,
            None if hard_state is None else (hard_state.term, hard_state.vote),
            [(entry.index, entry.term) for entry in made.entries],
        )
        if key in self._behind:
            self._behind[key].append(write)
            return
        if made.must_sync or made.entries:
            self._writes.setdefault(host.number, deque()).append(write)

    def _check_leader(self, gid: int, raft: Raft) -> None:
        """Election safety (Raft 5.2), leader completeness (5.4.3)."""
        other = self.leaders.get((gid, raft.term))
        if other == raft.id:
            return
        require(other is None, f"{other} and {raft.id} both lead term {raft.term} of group {gid}")
        self.leaders[gid, raft.term] = raft.id
        self._world.counts.elections += 1
        history = self.histories.get(gid)
        if history is None or history.committed_in >= raft.term:
            return
        log = raft.log
        there = history.last <= log.base_index or log.term_at(history.last) == history.last_term
        require(
            there,
            f"node {raft.id} leads term {raft.term} of group {gid} without committed entry "
            f"{history.last} of term {history.last_term}",
        )

    def _check_committed(self, host: Host, gid: int, entries: Sequence[Entry], raft: Raft) -> None:
        """State machine safety (5.4.3): what is committed never differs, on any node."""
        history = self.histories.setdefault(gid, History())
        for entry in entries:
            if entry.kind == CONFIG:
                _check_change(gid, raft.history, entry.index)
            digest = crc32(entry.data, entry.kind)
            known = history.entries.setdefault(entry.index, (entry.term, digest))
            require(
                known == (entry.term, digest),
                f"{host}, group {gid}: committed {entry.index} of term {entry.term} "
                f"({digest:08x}), elsewhere it is of term {known[0]} ({known[1]:08x})",
            )
        last = entries[-1]
        if last.index > history.last:
            history.last, history.last_term = last.index, last.term
            history.committed_in = raft.term
        self._world.counts.entries += len(entries)

    def _check_held(self, host: Host, gid: int, raft: Raft, deciding: Configuration) -> None:
        """A leader commits what is of its term (5.4.2) and durable on a quorum of both halves."""
        index = raft.log.commit
        term = raft.log.term_at(index)
        where = f"{host}, group {gid}: leader of {raft.term} committed {index} of term {term}"
        require(term == raft.term, f"{where} by counting")
        if self.served.get(gid, (0, 0.0))[0] < term:
            self.served[gid] = term, self._world.now
        places = self._world.places
        for voters in filter(None, (deciding.voters, deciding.outgoing)):
            held = [int(self._holds(places.get(node), gid, index, term)) for node in sorted(voters)]
            require(majority_value(held) > 0, f"{where}; of {sorted(voters)} {held} have it")

    def _holds(self, place: int | None, gid: int, index: int, term: int) -> bool:
        if place is None:
            return False
        copies = self._durable.get((place, gid)), self._lost.get((place, gid))
        return any(copy is not None and copy.holds(index, term) for copy in copies)

    # ----- what leaves

    def departs(self, host: Host, group: Group, message: Message) -> None:
        """No promise leaves before what it promises is durable (Raft 5)."""
        gid = group.gid
        if gid in self._deleted:
            return
        durable = self._durable.get((host.number, gid)) or Durable()
        match message:
            case VoteRequest(pre=False):
                voted = durable.term > message.term or durable.vote == message.sender
            case VoteResponse(pre=False, granted=True):
                voted = durable.term > message.term or durable.vote == message.to
                key = (gid, message.sender, message.term)
                cast = self._votes.setdefault(key, message.to)
                words = f"node {message.sender} votes for {cast} and {message.to} in {key}"
                require(cast == message.to, words)
            case AppendResponse(rejected=False):
                kept = durable.term > message.term or durable.last >= message.index
                require(kept, f"{host}, group {gid}: {message} left, on disk is {durable.last}")
                return
            case _:
                return
        require(
            durable.term >= message.term and voted,
            f"{host}, group {gid}: {message} left, on disk is only {durable.term, durable.vote}",
        )

    # ----- machines

    def look(self, host: Host, node: Node) -> None:
        """Nobody tells of one that parted; now and then: who has applied the same is the same."""
        parted = node.agreement.parted
        require(not parted, f"{host} as {node.node_id} says who parted: {parted}")
        self._rounds += 1
        if self._rounds % SAMPLE_ROUNDS == 0:
            gids = [gid for gid in self.histories if gid not in self._deleted]
            if gids:
                self.compare(gids[self._rounds // SAMPLE_ROUNDS % len(gids)])

    def compare(self, gid: int) -> int:
        """Compare the machines of a group; returns how many stand where the furthest stands."""
        states: dict[int, tuple[Host, bytes]] = {}
        applied = []
        for host in self._world.alive:
            assert host.node is not None
            group = host.node.groups.get(gid)
            if group is None:
                continue
            applied.append(group.applied_index)
            state = group.machine_state()
            first, known = states.setdefault(group.applied_index, (host, state))
            words = f"group {gid} at {group.applied_index} differs on {first} and {host}"
            require(known == state, words)
        self._world.counts.machines += len(applied)
        return applied.count(max(applied, default=0))


def _check_change(gid: int, history: ConfigurationHistory, index: int) -> None:
    """Two configurations in turn have no two quorums without a common voter (Raft 6)."""
    before, after = history.at(index - 1), history.at(index)
    halves = [
        (set(one), set(other))
        for one in (before.voters, before.outgoing)
        for other in (after.voters, after.outgoing)
        if one and other
    ]
    together = any(len(a) // 2 + len(b) // 2 + 2 > len(a | b) for a, b in halves)
    words = f"group {gid}: {before} and {after} at {index} can decide without each other"
    require(together or not halves, words)
