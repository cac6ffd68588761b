"""All that a Raft node knows, and the few moves that every handler needs.

The handlers (election, replication, following, ...) are functions over this state; only `node`
is public. Nothing here waits, counts seconds or draws luck: time is a number of ticks, and
randomness is handed in.

What leaves the node is queued in two lists, and the difference is the heart of the matter:
`messages` may leave at once; `after_persist` promises something about this node's disk (a vote,
an acknowledgement, a term to campaign in) and leaves when all that was handed out by then is
durable.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from penstock_broker.raft.configuration import Configuration, ConfigurationHistory
from penstock_broker.raft.entry import CONFIG, NOBODY, Data, Entry, HardState, Snapshot
from penstock_broker.raft.log import RaftLog
from penstock_broker.raft.messages import Message
from penstock_broker.raft.progress import Progress
from penstock_broker.raft.reads import ReadQueue

Trace = Callable[[dict[str, object]], None]
_ALWAYS = 1 << 64  # no round has such a number: the leader's own answer is never behind


class Role(IntEnum):
    """What a node is in its group."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class Randomness(Protocol):
    """The one thing that is asked of a `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """Return a number in 0..stop - 1."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a group behaves; times are in ticks.

    Attributes:
        election_ticks: Silence after which a follower stands; it waits up to twice as long.
        heartbeat_ticks: Between two rounds of heartbeats.
        pre_vote: Ask before disturbing the term (thesis 9.6).
        check_quorum: A leader that hears of no quorum for an election time steps down, and
            nobody helps to replace a leader that it heard of recently (thesis 6.2, 4.2.3).
        external_heartbeats: Somebody else carries the heartbeats (see `Raft.heartbeats`).
        eager_commit: Tell followers of a commit at once, not with the next append or heartbeat.
        append_entries_max: Entries in one append.
        append_bytes_max: Bytes of entry data in one append, unless one entry alone has more.
        window_messages_max: Appends on their way to one member.
        window_bytes_max: Bytes of entry data on their way to one member.
        committed_max: Entries in one `Ready.committed`.
        uncommitted_max: Entries that wait for their commit before proposals are refused.
        reads_max: Reads that wait for their round before more are refused.
        snapshot_periods: Election times that a member may take over a snapshot.
    """

    election_ticks: int = 10
    heartbeat_ticks: int = 2
    pre_vote: bool = True
    check_quorum: bool = True
    external_heartbeats: bool = False
    eager_commit: bool = True
    append_entries_max: int = 1024
    append_bytes_max: int = 1 << 20
    window_messages_max: int = 64
    window_bytes_max: int = 4 << 20
    committed_max: int = 8192
    uncommitted_max: int = 65536
    reads_max: int = 4096
    snapshot_periods: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise ValueError(f"heartbeats every {self.heartbeat_ticks} of {self.election_ticks}")


class RaftState:
    """The data of one node in one group."""

    __slots__ = (
        "after_persist",
        "change_open",
        "commit_wanted",
        "configuration",
        "departing",
        "elapsed",
        "heartbeat_elapsed",
        "history",
        "id",
        "incoming",
        "leader",
        "log",
        "messages",
        "options",
        "outgoing",
        "own",
        "peers",
        "progress",
        "promised",
        "randomness",
        "reads",
        "role",
        "send_wanted",
        "snapshot",
        "snapshot_requests",
        "term",
        "term_start",
        "timeout",
        "trace",
        "transfer_elapsed",
        "transfer_told",
        "transfer_wanted",
        "transferee",
        "vote",
        "votes",
    )

    def __init__(
        self,
        node_id: int,
        options: Options,
        randomness: Randomness,
        hard_state: HardState,
        history: ConfigurationHistory,
        log: RaftLog,
        trace: Trace | None,
        promised: tuple[int, int] = (0, 0),
    ) -> None:
        self.id = node_id
        self.options = options
        self.randomness = randomness
        self.trace = trace
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.promised = promised
        """Term and index of the last entry that this node ever had, if it lost its log since."""
        self.leader = NOBODY
        self.role = Role.FOLLOWER
        self.log = log
        self.history = history
        self.configuration: Configuration = history.current
        self.elapsed = self.heartbeat_elapsed = 0
        self.timeout = options.election_ticks
        self.votes: dict[int, bool] = {}
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.snapshot: Snapshot | None = None
        self.reads = ReadQueue()
        self.term_start = 0  # index of the entry that opened this leader's term
        self.transfer_elapsed = 0
        self.stop_leading()

    # what a leader keeps

    def start_leading(self) -> None:
        """Begin with no knowledge about the others."""
        self.progress.clear()
        self.follow_configuration()
        self.heartbeat_elapsed = 0

    def stop_leading(self) -> None:
        """Forget all that only a leader keeps."""
        self.progress: dict[int, Progress] = {}
        self.own = Progress(1)
        self.peers: list[tuple[int, Progress]] = []
        self.incoming: list[Progress] = []
        self.outgoing: list[Progress] = []
        self.snapshot_requests: list[int] = []
        self.commit_wanted = False  # something may have been decided
        self.send_wanted = False  # some member may be sent something
        self.change_open = False  # the configuration in force may not be committed, or be joint
        self.departing = False  # the configuration without this leader is committed
        self.transferee = NOBODY  # who shall lead next
        self.transfer_wanted = False  # it may be ready for that
        self.transfer_told = False  # it was told to stand
        self.reads.abandon()

    def follow_configuration(self) -> None:
        """Keep progress for exactly the members of the configuration in force."""
        known, start = self.progress, self.log.last_index + 1
        configuration = self.configuration
        self.progress = {node: known.get(node) or Progress(start) for node in configuration.members}
        self.own = self.progress.get(self.id) or Progress(start)
        self.own.match = self.log.durable
        self.own.acked_round = _ALWAYS
        self.peers = [(node, at) for node, at in self.progress.items() if node != self.id]
        self.incoming = [self.progress[node] for node in configuration.voters]
        self.outgoing = [self.progress[node] for node in configuration.outgoing]
        self.commit_wanted = self.send_wanted = self.change_open = True

    # moves that several handlers share

    def append_own(self, payloads: Iterable[tuple[int, Data]]) -> int:
        """Append entries of this leader's term; return the index of the first."""
        log, term = self.log, self.term
        first = log.last_index + 1
        make, kind_of = tuple.__new__, Entry
        entries = [
            make(kind_of, (index, term, kind, data))
            for index, (kind, data) in enumerate(payloads, first)
        ]
        log.append(entries)
        if self.peers:
            self.send_wanted = True
        return first

    def adopt_configurations(self, entries: Iterable[Entry]) -> None:
        """Take the configurations among just appended entries into force (Raft 6)."""
        for entry in entries:
            if entry.kind == CONFIG:
                self.history.push(entry.index, Configuration.decode(entry.data))
        self.configuration = self.history.current

    def is_promotable(self) -> bool:
        """May this node stand? It must be a voter, with all of its log there.

        One that was a voter until a change that may not be committed stands too: the others may
        need its log to commit that change. It does not count its own vote, and steps down after
        (thesis 4.2.2).
        """
        history, log = self.history, self.log
        if log.durable < log.base_index or self.promised > (log.last_term, log.last_index):
            return False
        if self.id in history.current.electors:
            return True
        return history.index > log.commit and self.id in history.at(history.index - 1).electors

    def has_committed_in_term(self) -> bool:
        """True once a leader knows the commit of all terms before its own (Raft 5.4.2, 8)."""
        return self.log.commit >= self.term_start
