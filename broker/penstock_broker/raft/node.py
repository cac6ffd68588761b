"""The public surface: `tick`, `step`, `propose`, `ready`, `persisted`.

One `Raft` is one node in one group. It is driven from outside and never waits: hand it ticks,
messages and proposals, ask it with `ready` what is to be done, and report with `persisted` what
has reached the disk. `ready` tells the rules that a driver keeps.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from penstock_broker.raft import (
    election,
    following,
    heartbeat,
    membership,
    replication,
    snapshots,
    survival,
    trace,
    transfer,
)
from penstock_broker.raft.configuration import Configuration, ConfigurationHistory
from penstock_broker.raft.entry import NOBODY, RESERVED_KINDS, Data, Entry, HardState
from penstock_broker.raft.errors import NotLeader, Refused
from penstock_broker.raft.log import RaftLog
from penstock_broker.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.raft.ready import Ready, SoftState
from penstock_broker.raft.roles import become_follower, restart_timer
from penstock_broker.raft.state import Options, RaftState, Randomness, Role, Trace
from penstock_broker.raft.status import Status, status_of

Handler = Callable[[RaftState, Any], None]
_FRESH = HardState()
SUSPICION_TICKS = 3
"""Those who lost one leader together stand within so many ticks, hence rarely at once."""
TURN_TICKS = 2
"""Between one turn and the next: the ticks of two nodes are up to one apart."""
_kind = itemgetter(0)


def _giving_way(handler: Handler) -> Handler:
    """A candidate that hears the leader of its term follows it (Raft 5.2)."""

    def handle(raft: RaftState, message: Message) -> None:
        become_follower(raft, raft.term, message.sender)
        handler(raft, message)

    return handle


def _two_leaders(raft: RaftState, message: Message) -> None:
    raise AssertionError(f"{raft.id} and {message.sender} both lead term {raft.term}")


_FOLLOWER: dict[type, Handler] = {
    VoteRequest: election.on_vote_request,
    Append: following.on_append,
    Heartbeat: following.on_heartbeat,
    InstallSnapshot: snapshots.on_install_snapshot,
    TimeoutNow: transfer.on_timeout_now,
}
_CANDIDATE: dict[type, Handler] = {
    VoteRequest: election.on_vote_request,
    VoteResponse: election.on_vote_response,
    Append: _giving_way(following.on_append),
    Heartbeat: _giving_way(following.on_heartbeat),
    InstallSnapshot: _giving_way(snapshots.on_install_snapshot),
}
_LEADER: dict[type, Handler] = {
    VoteRequest: election.on_vote_request,
    AppendResponse: replication.on_append_response,
    HeartbeatResponse: heartbeat.on_heartbeat_response,
    Append: _two_leaders,
    Heartbeat: _two_leaders,
    InstallSnapshot: _two_leaders,
}
_HANDLERS: dict[Role, dict[type, Handler]] = {
    Role.FOLLOWER: _FOLLOWER,
    Role.PRE_CANDIDATE: _CANDIDATE,
    Role.CANDIDATE: _CANDIDATE,
    Role.LEADER: _LEADER,
}


class Raft(RaftState):
    """One node of one group."""

    __slots__ = ("_told_hard", "_told_soft")

    def __init__(
        self,
        node_id: int,
        *,
        randomness: Randomness,
        configuration: Configuration,
        options: Options | None = None,
        hard_state: HardState = _FRESH,
        base: tuple[int, int] = (0, 0),
        entries: Sequence[Entry] = (),
        applied: int = 0,
        promised: tuple[int, int] = (0, 0),
        trace_to: Trace | None = None,
    ) -> None:
        """Start, or start again, from what is durable.

        Args:
            node_id: This node; positive.
            randomness: Spreads the election timeouts.
            configuration: The one in force after `applied`; empty for a node that is yet to be
                told by a leader.
            options: Times and limits.
            hard_state: As persisted last.
            base: Index and term of the entry before the first of `entries`.
            entries: The log above the base, without gaps.
            applied: Index up to which the machine holds the entries; at least the base.
            promised: Term and index of the last entry of an earlier log of this node in this group,
                which was dropped when it ceased to be a member.
            trace_to: Receives every transition, see `trace`.
        """
        log = RaftLog(*base, list(entries), hard_state.commit, applied)
        assert node_id > NOBODY, f"node ids are positive, not {node_id}"
        assert hard_state.term >= log.last_term, (
            f"entries of term {log.last_term} without a hard state of it: {hard_state}"
        )
        history = ConfigurationHistory(applied, configuration)
        super().__init__(
            node_id, options or Options(), randomness, hard_state, history, log, trace_to, promised
        )
        self.adopt_configurations(entry for entry in entries if entry.index > applied)
        restart_timer(self)
        self._told_hard = hard_state
        self._told_soft = SoftState(self.role, self.leader)
        trace.node_event(self, "InitState")

    @property
    def next_index(self) -> int:
        """Index that the next proposed entry will get."""
        return self.log.last_index + 1

    @property
    def confirmed_round(self) -> int:
        """The newest round of heartbeats that a quorum answered, while this node leads."""
        return heartbeat.confirmed_round(self)

    @property
    def is_leader(self) -> bool:
        """True while this node leads, as far as it knows."""
        return self.role is Role.LEADER

    def status(self) -> Status:
        """Return where this node stands, and on a leader where the members are."""
        return status_of(self)

    # time and messages

    def tick(self) -> bool:
        """Let one tick pass; True if that made something to do, so that `ready` is worth a call."""
        if self.role is Role.LEADER:
            if not self.peers:
                return False
            heartbeat.tick(self)
            return bool(self.messages) or self.send_wanted or self.role is not Role.LEADER
        self.elapsed += 1
        if self.elapsed < self.timeout:
            return False
        election.campaign(self)
        return True

    def step(self, message: Message) -> None:
        """Handle a message from another node, or this node's own vote."""
        assert message.to == self.id, f"message to {message.to} stepped into {self.id}"
        if self.trace is not None:
            trace.received(self, message)
        if message.term != self.term and not election.settle_term(self, message):
            return
        handler = _HANDLERS[self.role].get(type(message))
        if handler is not None:
            handler(self, message)

    # requests

    def propose(self, payloads: Sequence[tuple[int, Data]]) -> int:
        """Append entries of opaque (kind, data); return the index of the first.

        The entries get `next_index`, `next_index + 1`, ... and the present `term`, so the caller
        may stamp them beforehand.

        Raises:
            NotLeader: Another node leads, or none.
            Refused: The lead is being handed over, or too much waits for its commit.
        """
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if self.transferee != NOBODY:
            raise Refused(f"the lead is on its way to {self.transferee}")
        log = self.log
        waiting = log.last_index - log.commit
        if waiting + len(payloads) > self.options.uncommitted_max:
            raise Refused(f"{waiting} entries wait for their commit")
        assert payloads, "nothing proposed"
        assert RESERVED_KINDS.isdisjoint(map(_kind, payloads)), "a kind of raft was proposed"
        first = self.append_own(payloads)
        if self.trace is not None:
            trace.replicated(self, first)
        return first

    def propose_configuration(self, voters: Iterable[int], learners: Iterable[int] = ()) -> int:
        """Begin to make the group consist of these members; return the index of the entry.

        If more than one voter differs, a joint configuration comes first and is left by itself.

        Raises:
            NotLeader: Another node leads, or none.
            Refused: Another change is on its way, it is too early in the term, the lead is being
                handed over, the members make no sense, or nothing would change.
        """
        return membership.propose(self, list(voters), list(learners))

    def read_index(self, context: object) -> None:
        """Ask for a linearizable read; `context` comes back in `Ready.read_states`.

        What is not answered when this node stops leading is dropped: see `Ready.soft_state`.

        Raises:
            NotLeader: Another node leads, or none.
            Refused: Too many reads wait.
        """
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)
        if self.reads.count >= self.options.reads_max:
            raise Refused(f"{self.reads.count} reads wait")
        self.reads.add(context)

    def campaign(self) -> None:
        """Stand for election now, without waiting for silence."""
        election.campaign(self)

    def suspect(self) -> None:
        """Nobody leads, as somebody else found out: stand soon instead of after silence."""
        if self.role is Role.FOLLOWER:
            self.leader = NOBODY
            soon = 1 + self.randomness.randrange(SUSPICION_TICKS)
            self.elapsed = max(self.elapsed, self.timeout - soon)

    def stand_in_turn(self, turn: int) -> None:
        """The leader is gone: stand soon, but let those go first whose turn is before ours.

        If all that remain stood at once they could split the votes, and would wait for an election
        time then.
        """
        if self.role is Role.FOLLOWER:
            self.leader = NOBODY
            soon = 1 + TURN_TICKS * turn
            self.elapsed = max(self.elapsed, self.timeout - soon)

    def transfer(self, to: int) -> None:
        """Hand the lead over to a voter; proposals are refused until it is done or given up.

        Raises:
            NotLeader: Another node leads, or none.
            Refused: `to` is not another voter.
        """
        transfer.begin(self, to)

    def recover_alone(self, term: int) -> bool:
        """Go on as the only voter, since most of the others are lost for ever; see `survival`.

        Args:
            term: Higher than any that one of the others can have seen.

        Returns:
            Whether it was done; if not it may be tried again: this node leads, or did until its
            last `ready`, or takes a snapshot.
        """
        return self._told_soft.role is not Role.LEADER and survival.recover_alone(self, term)

    # what is to be done, and what was done

    def ready(self) -> Ready | None:
        """Return what is to be done now, each thing once; None if there is nothing."""
        if self.role is Role.LEADER:
            self._lead()
        log = self.log
        entries = log.take_unstable() if log.unstable <= log.last_index else []
        committed: list[Entry] = []
        if log.handed < log.commit and log.handed < log.durable:
            committed = log.take_committed(self.options.committed_max)
        hard_state, must_sync = self._changed_hard_state()
        soft_state = self._changed_soft_state()
        if not (entries or committed or hard_state or soft_state or self._has_outgoing()):
            return None
        ready = Ready(
            entries,
            hard_state,
            must_sync or bool(entries) or self.snapshot is not None,
            self.snapshot,
            committed,
            self.messages,
            self.after_persist,
            self.reads.done,
            self.snapshot_requests,
            soft_state,
        )
        self.snapshot = None  # what was handed out is the driver's: begin new lists
        self.messages, self.after_persist = [], []
        self.reads.done, self.snapshot_requests = [], []
        if self.trace is not None:
            trace.node_event(self, "Ready")
        return ready

    def _lead(self) -> None:
        """Do what waited for the end of the round: commit, begin reads, feed the members."""
        if self.commit_wanted:
            replication.advance_commit(self)
        if self.reads.waiting and self.has_committed_in_term():
            heartbeat.serve_reads(self)
        if self.send_wanted:
            replication.send_appends(self)
        if self.transfer_wanted:
            transfer.let_stand(self)
        if self.departing:
            membership.depart(self)

    def _has_outgoing(self) -> bool:
        return bool(
            self.messages
            or self.after_persist
            or self.reads.done
            or self.snapshot_requests
            or self.snapshot
        )

    def _changed_hard_state(self) -> tuple[HardState | None, bool]:
        """Return the hard state if it changed, and whether it must be synced.

        The commit told is durable here, so that a restart finds the entries that it names.
        """
        term, vote, told = self._told_hard
        log = self.log
        commit = min(log.commit, log.durable)
        same_vote = self.term == term and self.vote == vote
        if same_vote and commit <= told:
            return None, False
        self._told_hard = HardState(self.term, self.vote, max(commit, told))
        return self._told_hard, not same_vote

    def _changed_soft_state(self) -> SoftState | None:
        told = self._told_soft
        if self.role is told.role and self.leader == told.leader:
            return None
        self._told_soft = SoftState(self.role, self.leader)
        return self._told_soft

    def persisted(self, index: int, term: int) -> None:
        """The log is durable up to `index`, whose entry (or snapshot) is of `term`.

        A report about entries that are no more is of no effect.
        """
        log = self.log
        if index <= log.durable or log.term_at(index) != term:
            return
        assert index < log.unstable, f"{index} is durable but {log.unstable} was not handed out"
        log.durable = index
        if self.role is Role.LEADER:
            self.own.match = index
            self.commit_wanted = True
            if self.trace is not None:
                own = AppendResponse(self.id, self.id, self.term, index)
                trace.received(self, own)

    def compact(self, index: int) -> None:
        """Drop entries up to `index` from memory: they are applied, and kept elsewhere."""
        self.log.compact(index)
        self.history.compact(index)

    # snapshots for members that are far behind

    def send_snapshot(self, node: int, index: int, data: object) -> bool:
        """Send the machine's state after `index` to a member; False if it needs it no more.

        Raises:
            NotLeader: This node leads no longer.
            Refused: `index` is not applied, or compacted away.
        """
        return snapshots.supply(self, node, index, data)

    def snapshot_progresses(self, node: int) -> None:
        """A member is busy taking its snapshot: do not give up on it yet."""
        progress = self.progress.get(node)
        if progress is not None:
            progress.periods_waited = 0

    def unreachable(self, node: int) -> None:
        """What is on its way to a member is lost: begin anew when it is heard of again."""
        snapshots.unreachable(self, node)

    def log_dropped(self, node: int) -> bool:
        """A member says that it has no log; True if it had one, and `ready` is worth a call."""
        return snapshots.log_dropped(self, node)

    def snapshot_failed(self, node: int) -> None:
        """The snapshot for a member can't be made or did not arrive: try from the start."""
        snapshots.fail(self, node)

    # heartbeats carried by somebody else (Options.external_heartbeats)

    @property
    def heartbeat_due(self) -> bool:
        """True if reads wait for a round of heartbeats: it is worth not to wait for its time."""
        return bool(self.reads.waiting) and self.has_committed_in_term()

    def heartbeats(self, number: int) -> list[tuple[int, int]]:
        """Begin round `number`, higher than all before; return (member, commit) to tell.

        The term to tell is `term`. Empty unless this node leads.
        """
        return heartbeat.collect(self, number)

    def on_heartbeat(self, sender: int, term: int, commit: int) -> int:
        """Hear a heartbeat; return this node's term, to be reported if it is higher."""
        if term == self.term and self.role is Role.FOLLOWER:
            following.hear_heartbeat(self, sender, commit)
        elif term >= self.term:
            assert self.role is not Role.LEADER or term > self.term, (
                f"{self.id} and {sender} both lead term {term}"
            )
            become_follower(self, term, sender)
            following.hear_heartbeat(self, sender, commit)
        return self.term

    def on_heartbeat_ack(self, sender: int, term: int, number: int) -> bool:
        """A member answered round `number` in its `term`; True if `ready` is worth a call."""
        if term == self.term and self.role is Role.LEADER:
            return heartbeat.acknowledge(self, sender, number)
        if term > self.term:
            become_follower(self, term, NOBODY)
            return True
        return False
