"""A group of real Raft nodes on a perfect network, with the faults that a test asks for.

Messages wait in `wire`; `settle` delivers until nothing moves. A node in `stalled` has a disk that
does not answer. Nothing here is random: node n waits `election_ticks + n - 1` ticks.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock_broker.raft import (
    Configuration,
    Entry,
    HardState,
    Message,
    Options,
    Raft,
    ReadState,
    Ready,
    Role,
    Snapshot,
    TimeoutNow,
    Trace,
    VoteResponse,
)

RECORD = 1


class Fixed:
    """Luck that is always the same."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def randrange(self, stop: int, /) -> int:
        return min(self.value, stop - 1)


class Group:
    def __init__(
        self,
        voters: Iterable[int] = (1, 2, 3),
        learners: Iterable[int] = (),
        *,
        strangers: Iterable[int] = (),
        options: Options | None = None,
        trace_to: Trace | None = None,
    ) -> None:
        self.options = options or Options()
        self.first = Configuration.of(voters, learners)
        self.nodes: dict[int, Raft] = {}
        self.wire: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()
        self.stalled: set[int] = set()
        self.held: dict[int, list[Ready]] = {}
        self.applied: dict[int, list[Entry]] = {}
        self.disks: dict[int, tuple[HardState, list[Entry]]] = {}
        self.reads: dict[int, list[ReadState]] = {}
        self.snapshots: dict[int, list[Snapshot]] = {}
        self.requests: dict[int, list[int]] = {}
        for node in (*self.first.members, *strangers):
            known = self.first if node in self.first.members else Configuration()
            self._add(node, known, trace_to)

    def _add(self, node: int, configuration: Configuration, trace_to: Trace | None) -> None:
        self.nodes[node] = Raft(
            node,
            randomness=Fixed(node - 1),
            configuration=configuration,
            options=self.options,
            trace_to=trace_to,
        )
        self.disks[node] = (HardState(), [])
        for table in (self.held, self.applied, self.reads, self.snapshots, self.requests):
            table[node] = []

    def __getitem__(self, node: int) -> Raft:
        return self.nodes[node]

    # driving

    def work(self, node: int) -> None:
        """Do all that a node wants done; messages go to the wire."""
        while (ready := self.nodes[node].ready()) is not None:
            self.take(node, ready)

    def take(self, node: int, ready: Ready) -> None:
        """Do one round of a node's work."""
        self.wire += [m for m in ready.messages if (m.sender, m.to) not in self.cuts]
        self.applied[node] += ready.committed
        self.reads[node] += ready.read_states
        self.requests[node] += ready.snapshot_requests
        if ready.snapshot:
            self.snapshots[node].append(ready.snapshot)
        self.held[node].append(ready)
        if node not in self.stalled:
            self.flush(node)

    def flush(self, node: int, rounds: int | None = None) -> None:
        """Let the disk of a node answer for its oldest rounds (for all, if not told)."""
        done = self.held[node][:rounds]
        del self.held[node][:rounds]
        for ready in done:
            self._persist(node, ready)
        for ready in done:
            for message in ready.messages_after_persist:
                if message.to == node:
                    self.nodes[node].step(message)
                elif (message.sender, message.to) not in self.cuts:
                    self.wire.append(message)

    def _persist(self, node: int, ready: Ready) -> None:
        hard_state, entries = self.disks[node]
        if ready.snapshot:
            entries = []
            self.nodes[node].persisted(ready.snapshot.index, ready.snapshot.term)
        if ready.entries:
            first = ready.entries[0].index
            entries = [e for e in entries if e.index < first] + list(ready.entries)
            self.nodes[node].persisted(entries[-1].index, entries[-1].term)
        self.disks[node] = (ready.hard_state or hard_state, entries)

    def step(self) -> bool:
        """Work everywhere, then deliver what is on the wire; True if something moved."""
        for node in self.nodes:
            self.work(node)
        wire, self.wire = self.wire, []
        for message in wire:
            if (message.sender, message.to) not in self.cuts:
                self.nodes[message.to].step(message)
        return bool(wire)

    def settle(self) -> None:
        """Go on until nothing moves."""
        for _ in range(500):
            if not self.step():
                return
        raise AssertionError("the group never comes to rest")

    def tick(self, count: int = 1, nodes: Iterable[int] | None = None) -> None:
        """Let time pass everywhere (or on some nodes), settling after every tick."""
        for _ in range(count):
            for node in self.nodes if nodes is None else nodes:
                self.nodes[node].tick()
            self.settle()

    # saying what happens

    def elect(self, node: int) -> Raft:
        """Let a node stand at once, as after a transfer: loyalty to another leader is no bar."""
        raft = self.nodes[node]
        if raft.role is Role.FOLLOWER:
            raft.step(TimeoutNow(node, node, raft.term))
        else:
            raft.campaign()
        self.settle()
        assert self.nodes[node].is_leader
        return self.nodes[node]

    def propose(self, node: int, *data: bytes) -> int:
        index = self.nodes[node].propose([(RECORD, item) for item in data])
        self.settle()
        return index

    def cut(self, *links: tuple[int, int]) -> None:
        self.cuts |= set(links)

    def isolate(self, *apart: int) -> None:
        """Cut some nodes from all others, but not from each other."""
        for one in apart:
            for other in self.nodes:
                if other not in apart:
                    self.cuts |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cuts.clear()

    def restart(self, node: int) -> Raft:
        """Crash a node; start it from its disk, with an empty machine."""
        hard_state, entries = self.disks[node]
        self.held[node], self.applied[node] = [], []
        self.nodes[node] = Raft(
            node,
            randomness=Fixed(node - 1),
            configuration=self.first,
            options=self.options,
            hard_state=hard_state,
            entries=entries,
        )
        return self.nodes[node]

    # looking

    def data(self, node: int) -> list[bytes]:
        """What a node has applied, without the entries of Raft itself."""
        return [bytes(entry.data) for entry in self.applied[node] if entry.kind == RECORD]

    def terms(self, node: int) -> list[int]:
        """Terms of the entries in a node's log."""
        log = self.nodes[node].log
        return [entry.term for entry in log.slice(log.base_index + 1, log.last_index)]

    def leaders(self) -> list[int]:
        return [node for node, raft in self.nodes.items() if raft.role is Role.LEADER]


def lone(
    node: int = 1,
    *,
    voters: Iterable[int] = (1, 2, 3),
    learners: Iterable[int] = (),
    term: int = 0,
    vote: int = 0,
    commit: int = 0,
    entries: Iterable[Entry] = (),
    options: Options | None = None,
) -> Raft:
    """One node of a group, to be stepped by hand, restarted with this state."""
    return Raft(
        node,
        randomness=Fixed(node - 1),
        configuration=Configuration.of(voters, learners),
        options=options,
        hard_state=HardState(term, vote, commit),
        entries=list(entries),
    )


def entries_of(*terms: int, first: int = 1) -> list[Entry]:
    """Entries with these terms, one after the other."""
    return [
        Entry(index, term, RECORD, b"%d.%d" % (term, index))
        for index, term in enumerate(terms, first)
    ]


def work_of(raft: Raft) -> Ready:
    """What a node wants done; it must want something."""
    ready = raft.ready()
    assert ready is not None
    return ready


def leading(raft: Raft, *voters: int) -> Raft:
    """Make a lone node the leader by the votes of these, its disk answering at once."""
    raft.campaign()
    for voter in voters:
        raft.step(VoteResponse(voter, raft.id, raft.term + 1, True, pre=True))
    for message in work_of(raft).messages_after_persist:
        if message.to == raft.id:
            raft.step(message)
    for voter in voters:
        raft.step(VoteResponse(voter, raft.id, raft.term, True))
    assert raft.is_leader
    return raft
