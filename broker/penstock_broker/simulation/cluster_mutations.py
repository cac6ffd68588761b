"""Broken rules of a cluster, to see that its simulation notices: each is one rule taken away.

They live here alone, as changed copies of what the brokers do; these have no switch for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from msgspec import structs

from penstock_broker.machine.commands import Command, CreateTopic
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import Stamp
from penstock_broker.node.catchup.pull import Pull
from penstock_broker.node.group import Group
from penstock_broker.node.metadata import MetadataGroup
from penstock_broker.raft import (
    AppendResponse,
    Entry,
    HardState,
    Ready,
    VoteResponse,
    heartbeat,
    replication,
    survival,
)
from penstock_broker.raft import state as raft_state
from penstock_broker.raft.log import RaftLog
from penstock_broker.raft.state import RaftState
from penstock_broker.simulation import broker_mutations, raft_mutations
from penstock_broker.simulation.cluster_checks import Checks, Watched
from penstock_broker.simulation.disk import SimFile
from penstock_broker.storage import Store

ODD_HOST: Final = 2
"""The one whose machine decides otherwise."""

Changes = list[tuple[Any, Any, Any]]


def _vote_not_persisted() -> Changes:
    """A vote is told, but never written."""
    original = Store.append

    def append(
        self: Store, gid: int, entries: Sequence[Any], hard_state: HardState | None, commit: int
    ) -> None:
        if hard_state is not None:
            hard_state = hard_state._replace(vote=0)
        original(self, gid, entries, hard_state, commit)

    return [(Store, "append", append)]


def _early(kinds: tuple[type, ...]) -> Changes:
    """Some messages don't wait for the disk."""
    original = Group._persist

    def persist(self: Group, ready: Ready) -> None:
        for message in ready.messages_after_persist:
            if isinstance(message, kinds) and message.to != self.raft.id:
                self.node.send_message(self, message)
        original(self, ready)

    return [(Group, "_persist", persist)]


def _ack_before_sync() -> Changes:
    """A follower acknowledges what it has not synced."""
    return _early((AppendResponse,))


def _vote_before_sync() -> Changes:
    """A vote is told before it is durable."""
    return _early((VoteResponse,))


def _sync_skipped() -> Changes:
    """A sync returns without having synced."""
    return [(SimFile, "sync", lambda self: None)]


def _committed_truncated() -> Changes:
    """A follower that was restarted drops the last committed entries of its log."""
    original = RaftLog.__init__

    def init(self: RaftLog, *args: Any) -> None:  # noqa: ANN401 - as it is
        base_index, base_term, entries, *more = args
        original(self, base_index, base_term, entries[:-1], *more)

    return [(RaftLog, "__init__", init)]


def _learner_in_quorum() -> Changes:
    """A leader counts learners among those who decide what is committed."""

    def advance(raft: RaftState) -> None:
        incoming, learners = raft.incoming, raft.configuration.learners
        raft.incoming = incoming + [raft.progress[node] for node in learners]
        try:
            original(raft)
        finally:
            raft.incoming = incoming

    original = replication.advance_commit
    return [(replication, "advance_commit", advance)]


def _snapshot_without_log() -> Changes:
    """A snapshot of a partition is installed though the records beneath it are not here."""
    return [(Pull, "complete", property(lambda self: True))]


def _dropped_forgets_vote() -> Changes:
    """A replica that is dropped forgets for whom it voted; it comes back as if it never had."""
    original = Store.drop_replica

    def drop(self: Store, gid: int, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as it is
        original(self, gid, *args, **more)
        self.recovered[gid].hard_state = (0, 0, 0)

    return [(Store, "drop_replica", drop)]


def _stale_leader_grants() -> Changes:
    """A leader that hears of nobody goes on leading, and gives its records away."""
    return [(heartbeat, "_hears_quorum", lambda raft: True)]


def _grants_without_proof() -> Changes:
    """A leader that stood still hands records out before it asks whether it still leads."""
    return [(Group, "sure", True)]


def _reads_want_everybody() -> Changes:
    """A leader's own answer to its round does not count: reads wait for both of two others."""
    return [(raft_state, "_ALWAYS", 0)]


def _survivor_drops_tail() -> Changes:
    """Who goes on alone forgets what it does not know to be committed."""
    original = survival.recover_alone

    def recover(raft: RaftState, term: int) -> bool:
        if raft.log.commit >= raft.log.base_index:
            raft.log.truncate(raft.log.commit)
        return original(raft, term)

    return [(survival, "recover_alone", recover)]


def _metadata_parts() -> Changes:
    """One broker's machine decides otherwise; no check of the simulation sees it, brokers must."""
    applying: list[MetadataGroup] = []
    apply, decide, compare = MetadataGroup.apply, MetadataMachine._decide, Checks.compare

    def applied(self: MetadataGroup, entry: Entry) -> None:
        applying[:] = [self]
        apply(self, entry)

    def decided(self: MetadataMachine, command: Command, at: Stamp) -> Any:  # noqa: ANN401 - as it is
        node = applying[0].node if applying and applying[0].machine is self else None
        odd = isinstance(node, Watched) and node.host.number == ODD_HOST
        if odd and isinstance(command, CreateTopic):
            command = structs.replace(command, config={**command.config, "segment_ms": "1h"})
        return decide(self, command, at)

    def compared(self: Checks, gid: int) -> int:
        return compare(self, gid) if gid else 1

    return [
        (MetadataGroup, "apply", applied),
        (MetadataMachine, "_decide", decided),
        (Checks, "compare", compared),
    ]


MUTATIONS: Final[Mapping[str, Callable[[], Changes]]] = {
    "ack-before-sync": _ack_before_sync,
    "commit-old-term": raft_mutations._commit_old_term,
    "committed-truncated": _committed_truncated,
    "dropped-replica-forgets-vote": _dropped_forgets_vote,
    "early-after-clock-put-back": broker_mutations._early_after_clock_put_back,
    "grants-without-proof": _grants_without_proof,
    "joint-one-side": raft_mutations._joint_one_side,
    "joint-skipped": raft_mutations._skip_joint,
    "leader-counts-memory": raft_mutations._leader_counts_memory,
    "learner-in-quorum": _learner_in_quorum,
    "metadata-parts": _metadata_parts,
    "reads-want-everybody": _reads_want_everybody,
    "snapshot-without-log": _snapshot_without_log,
    "stale-leader-serves": raft_mutations._read_without_quorum,
    "survivor-drops-tail": _survivor_drops_tail,
    "sync-skipped": _sync_skipped,
    "vote-before-sync": _vote_before_sync,
    "vote-for-stale-log": raft_mutations._vote_for_stale_log,
    "vote-not-persisted": _vote_not_persisted,
}


SCRIPTED: Final[Mapping[str, Callable[[], Changes]]] = {"stale-leader-grants": _stale_leader_grants}
"""It takes members that come back to a leader which was cut off for long: a script does it."""

SOONEST: Final[Mapping[str, Mapping[str, object]]] = {
    "dropped-replica-forgets-vote": {"operate_every": 0.5, "faults": ("kill",), "shared": 0},
    "early-after-clock-put-back": {
        "faults": ("clock",),
        "fault_every": 0.5,
        "delays": True,
        "publishes": 1.0,
        "shared": 0,
    },
    "grants-without-proof": {
        "faults": ("pause-leader",),
        "fault_every": 2.5,
        "partitions": 1,
        "members": 0,
        "publishes": 10.0,
        "shared": 3,
        "lease_seconds": 1.0,
    },
    "learner-in-quorum": {"operate_every": 0.5, "faults": ("slow-disk",), "shared": 0},
    "reads-want-everybody": {"fault_every": 1000.0, "shared": 0},
    "stale-leader-serves": {"faults": ("pause-leader", "strand-leader")},
    "survivor-drops-tail": {
        "faults": ("break",),
        "fault_every": 4.0,
        "pairs": True,
        "shared": 0,
        "topics": False,
        "delays": False,
        "publishes": 1.0,
        "producers": 1,
        "members": 0,
        "operate_every": 0.0,
    },
    "vote-for-stale-log": {"faults": ("crash-leader", "isolate", "split")},
}
"""What shows a broken rule soonest (`Swarm`), where chance alone takes many seeds."""

NODES_FOR: Final[Mapping[str, tuple[int, ...]]] = {
    "dropped-replica-forgets-vote": (5,),
    "learner-in-quorum": (5,),
}
"""Replicas come and go only where there are more brokers than copies."""

_ALL: Final = {**MUTATIONS, **SCRIPTED}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break a rule for a while; an empty name breaks none."""
    with ExitStack() as stack:
        for target, attribute, value in _ALL[name]() if name else []:
            if isinstance(target, dict):
                stack.enter_context(patch.dict(target, {attribute: value}))
            else:
                stack.enter_context(patch.object(target, attribute, value))
        yield
