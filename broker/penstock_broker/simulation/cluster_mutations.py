"""Broken rules of a cluster, to see that its simulation notices: each is one rule taken away.

They live here alone, as changed copies of what the brokers do; these have no switch for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from penstock_broker.node.group import Group
from penstock_broker.raft import AppendResponse, HardState, Ready, VoteResponse
from penstock_broker.raft.log import RaftLog
from penstock_broker.simulation import raft_mutations
from penstock_broker.simulation.disk import SimFile
from penstock_broker.storage import Store

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


MUTATIONS: Final[Mapping[str, Callable[[], Changes]]] = {
    "ack-before-sync": _ack_before_sync,
    "commit-old-term": raft_mutations._commit_old_term,
    "committed-truncated": _committed_truncated,
    "joint-one-side": raft_mutations._joint_one_side,
    "leader-counts-memory": raft_mutations._leader_counts_memory,
    "stale-leader-serves": raft_mutations._read_without_quorum,
    "sync-skipped": _sync_skipped,
    "vote-before-sync": _vote_before_sync,
    "vote-for-stale-log": raft_mutations._vote_for_stale_log,
    "vote-not-persisted": _vote_not_persisted,
}


SOONEST: Final[Mapping[str, tuple[str, ...]]] = {
    "stale-leader-serves": ("pause-leader", "strand-leader"),
    "vote-for-stale-log": ("crash-leader", "isolate", "split"),
}
"""The faults that show a broken rule soonest, where chance alone takes many seeds."""


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Break a rule for a while; an empty name breaks none."""
    with ExitStack() as stack:
        for target, attribute, value in MUTATIONS[name]() if name else []:
            if isinstance(target, dict):
                stack.enter_context(patch.dict(target, {attribute: value}))
            else:
                stack.enter_context(patch.object(target, attribute, value))
        yield
