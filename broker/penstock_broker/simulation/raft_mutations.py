"""Broken rules, to see that the simulation notices: each is one rule of Raft, taken away.

They live here alone, as changed copies of what the core does; the core has no switch for them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from penstock_broker.raft import (
    AppendResponse,
    Data,
    Message,
    Raft,
    Ready,
    Role,
    VoteRequest,
    VoteResponse,
    election,
    following,
    heartbeat,
    membership,
    node,
    quorum,
    replication,
)
from penstock_broker.raft.log import RaftLog
from penstock_broker.raft.messages import Append
from penstock_broker.raft.progress import Progress
from penstock_broker.raft.state import RaftState
from penstock_broker.simulation.raft_swarm import Mix, anything, churn, deposed, figure_8

Changes = list[tuple[Any, Any, Any]]


def _commit_old_term() -> Changes:
    """A leader commits entries of older terms by counting them (figure 8)."""

    def advance(raft: RaftState) -> None:
        raft.commit_wanted = False
        index = quorum.quorum_value(
            [at.match for at in raft.incoming], [at.match for at in raft.outgoing]
        )
        if index > raft.log.commit:
            before = raft.log.commit
            raft.log.commit_to(index)
            raft.send_wanted = True
            if raft.change_open:
                membership.after_commit(raft, before)

    return [(replication, "advance_commit", advance)]


def _leaves_early(kinds: tuple[type, ...]) -> Changes:
    original = Raft.ready

    def ready(raft: Raft) -> Ready | None:
        made = original(raft)
        if made is None:
            return None
        early: list[Message] = []
        late: list[Message] = []
        for message in made.messages_after_persist:
            hasty = isinstance(message, kinds) and message.to != raft.id
            (early if hasty else late).append(message)
        return made._replace(messages=[*made.messages, *early], messages_after_persist=late)

    return [(Raft, "ready", ready)]


def _vote_not_persisted() -> Changes:
    """A vote is told before it is durable."""
    return _leaves_early((VoteResponse,))


def _stand_not_persisted() -> Changes:
    """A candidate asks for votes before its term is durable."""
    return _leaves_early((VoteRequest,))


def _ack_before_persist() -> Changes:
    """A follower acknowledges entries that are not durable."""
    return _leaves_early((AppendResponse,))


def _leader_counts_memory() -> Changes:
    """A leader counts itself for entries that are not on its disk."""
    original = RaftState.append_own

    def append(raft: RaftState, payloads: Iterable[tuple[int, Data]]) -> int:
        first = original(raft, payloads)
        raft.own.match = raft.log.last_index
        raft.commit_wanted = True
        return first

    return [(RaftState, "append_own", append)]


def _joint_one_side() -> Changes:
    """Only the new half of a joint configuration decides."""

    def value(incoming: Sequence[int], _: Sequence[int]) -> int:
        return quorum.majority_value(incoming)

    def outcome(
        incoming: Sequence[int], _: Sequence[int], votes: Mapping[int, bool]
    ) -> quorum.Outcome:
        return quorum.majority_outcome(incoming, votes)

    return [
        (replication, "quorum_value", value),
        (heartbeat, "quorum_value", value),
        (heartbeat, "quorum_outcome", outcome),
        (election, "quorum_outcome", outcome),
    ]


def _skip_joint() -> Changes:
    """Any set of voters replaces any other in one step."""

    def skip(raft: RaftState, voters: list[int], learners: list[int]) -> int:
        changed = type(raft.configuration).of(voters, learners)
        with patch.object(type(changed), "changed_to", lambda *_: changed):
            return _PROPOSE(raft, voters, learners)

    return [(membership, "propose", skip)]


_PROPOSE = membership.propose


def _change_before_commit() -> Changes:
    """A leader changes members before it has committed in its term."""

    def hasty(raft: RaftState, voters: list[int], learners: list[int]) -> int:
        if raft.role is Role.LEADER:
            with patch.object(RaftState, "has_committed_in_term", lambda _: True):
                return _PROPOSE(raft, voters, learners)
        return _PROPOSE(raft, voters, learners)

    return [(membership, "propose", hasty)]


def _two_changes() -> Changes:
    """A leader begins a change while another is not committed."""

    def hasty(raft: RaftState, voters: list[int], learners: list[int]) -> int:
        with patch.object(type(raft.history), "index", 0):
            return _PROPOSE(raft, voters, learners)

    return [(membership, "propose", hasty)]


def _vote_twice() -> Changes:
    """A node votes for everyone who asks."""

    def vote(raft: RaftState, message: VoteRequest) -> None:
        if not message.pre:
            raft.vote = 0
            raft.leader = 0
        _VOTE(raft, message)

    return [(table, VoteRequest, vote) for table in _TABLES]


def _vote_for_stale_log() -> Changes:
    """A node votes for a candidate that lacks what it has."""

    def vote(raft: RaftState, message: VoteRequest) -> None:
        _VOTE(raft, message._replace(last_term=raft.term + 1))

    return [(table, VoteRequest, vote) for table in _TABLES]


_VOTE = election.on_vote_request
_TABLES = (node._FOLLOWER, node._CANDIDATE, node._LEADER)


def _append_without_match() -> Changes:
    """A follower takes entries though what comes before them differs."""

    def append(raft: RaftState, message: Append) -> None:
        if raft.log.commit <= message.prev_index <= raft.log.last_index:
            message = message._replace(prev_term=raft.log.term_at(message.prev_index))
        following.on_append(raft, message)

    return [(node._FOLLOWER, Append, append)]


def _keep_conflicts() -> Changes:
    """A follower keeps its own entries where the leader has others."""

    def matching(log: RaftLog, entries: list[Any]) -> int:
        return sum(entry.index <= log.last_index for entry in entries)

    return [(RaftLog, "matching", matching)]


def _commit_past_match() -> Changes:
    """A heartbeat tells a follower of commits that its log may not have."""

    def collect(raft: RaftState, number: int) -> list[tuple[int, int]]:
        commit = raft.log.commit
        return [(peer, commit) for peer, _ in heartbeat_collect(raft, number)]

    heartbeat_collect = heartbeat.collect
    return [(heartbeat, "collect", collect)]


def _read_without_quorum() -> Changes:
    """A leader answers reads without asking whether it still leads."""

    def serve(raft: RaftState) -> None:
        raft.reads.begin(raft.reads.round, raft.log.commit, may_read=True)
        raft.reads.finish(raft.reads.round)

    return [(heartbeat, "serve_reads", serve)]


def _read_before_commit() -> Changes:
    """A leader answers reads before it has committed in its term."""
    original = Raft._lead

    def lead(raft: Raft) -> None:
        start, raft.term_start = raft.term_start, 0
        if raft.reads.waiting:
            heartbeat.serve_reads(raft)
        raft.term_start = start
        original(raft)

    return [(Raft, "_lead", lead)]


def _trust_any_report() -> Changes:
    """A report of the disk is believed though the entry was replaced since."""

    def persisted(raft: Raft, index: int, _: int) -> None:
        _PERSISTED(raft, index, raft.log.term_at(index))

    return [(Raft, "persisted", persisted)]


_PERSISTED = Raft.persisted


def _window_never_probes() -> Changes:
    """A leader takes a rejection for noise: a lost append is never sent again."""
    return [(Progress, "reject", lambda *_: False)]


def _removed_voter_is_silent() -> Changes:
    """A voter does not stand once it has an entry that removes it, committed or not."""

    def promotable(raft: RaftState) -> bool:
        return raft.id in raft.configuration.electors and raft.log.durable >= raft.log.base_index

    return [(RaftState, "is_promotable", promotable)]


class Mutation(NamedTuple):
    """A broken rule, and the mix of faults that notices it soonest."""

    make: Callable[[], Changes]
    mix: Mix = anything


MUTATIONS: dict[str, Mutation] = {
    "ack-before-persist": Mutation(_ack_before_persist),
    "append-without-match": Mutation(_append_without_match, deposed),
    "commit-old-term": Mutation(_commit_old_term, figure_8),
    "commit-past-match": Mutation(_commit_past_match),
    "joint-one-side": Mutation(_joint_one_side, churn),
    "keep-conflicts": Mutation(_keep_conflicts, deposed),
    "leader-counts-memory": Mutation(_leader_counts_memory),
    "read-before-commit": Mutation(_read_before_commit),
    "read-without-quorum": Mutation(_read_without_quorum, deposed),
    "removed-voter-is-silent": Mutation(_removed_voter_is_silent, churn),
    "skip-joint": Mutation(_skip_joint, churn),
    "stand-not-persisted": Mutation(_stand_not_persisted),
    "trust-any-report": Mutation(_trust_any_report, deposed),
    "two-changes": Mutation(_two_changes, churn),
    "vote-for-stale-log": Mutation(_vote_for_stale_log, deposed),
    "vote-not-persisted": Mutation(_vote_not_persisted),
    "vote-twice": Mutation(_vote_twice),
    "window-never-probes": Mutation(_window_never_probes),
}

SCRIPTED: dict[str, Mutation] = {"change-before-commit": Mutation(_change_before_commit)}
"""It takes three partitions, each within a round trip: chance did not find it, a script does."""

_ALL = MUTATIONS | SCRIPTED


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break one rule, by name, as long as the context lasts; none for an empty name."""
    with ExitStack() as stack:
        for owner, attribute, value in _ALL[name].make() if name else ():
            if isinstance(owner, dict):
                stack.enter_context(patch.dict(owner, {attribute: value}))
            else:
                stack.enter_context(patch.object(owner, attribute, value))
        yield
