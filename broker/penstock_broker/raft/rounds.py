"""Heartbeats and ticks of many groups at once (`external_heartbeats`).

The same as `Raft.heartbeats`, `Raft.on_heartbeat_ack` and `Raft.tick` for one group after another,
at a third of the cost: these are the things that are done for each group and member several times a
second, also when nothing happens. A group is known by a label of the caller's.
"""

from collections.abc import Container, Iterable
from typing import TypeVar

from penstock_broker.raft import heartbeat
from penstock_broker.raft.entry import NOBODY
from penstock_broker.raft.node import Raft
from penstock_broker.raft.progress import Flow
from penstock_broker.raft.state import RaftState, Role

Label = TypeVar("Label")
Beat = tuple[Label, int, int, RaftState]
"""Label of the group, its term, the commit to tell; the group."""


def tell(groups: Iterable[tuple[Label, RaftState]], number: int) -> dict[int, list[Beat[Label]]]:
    """Begin round `number` in all groups that this node leads; return what to tell each member."""
    found: dict[int, list[Beat[Label]]] = {}
    leader = Role.LEADER
    for label, raft in groups:
        peers = raft.peers
        if raft.role is not leader or not peers:
            continue
        term, commit, reads = raft.term, raft.log.commit, raft.reads
        if reads.waiting:
            reads.begin(number, commit, raft.has_committed_in_term())
        else:
            assert number >= reads.round, f"round {number} after round {reads.round}"
            reads.round = number
        beat = (label, term, commit, raft)
        for node, progress in peers:
            match, beats = progress.match, found.get(node)
            if beats is None:
                beats = found[node] = []
            beats.append(beat if match >= commit else (label, term, match, raft))
    return found


def tick(groups: Iterable[tuple[Label, Raft]]) -> list[Label]:
    """Let one tick pass in all these groups.

    Returns:
        The groups for which `ready` is worth a call.
    """
    found = []
    leader = Role.LEADER
    for label, raft in groups:
        elapsed = raft.elapsed + 1
        if raft.role is leader:
            options = raft.options
            if (
                elapsed < options.election_ticks
                and raft.transferee == NOBODY
                and options.external_heartbeats
                and not raft.send_wanted
                and not raft.messages
                and raft.peers
            ):
                raft.elapsed = elapsed
                continue
        elif elapsed < raft.timeout:
            raft.elapsed = elapsed
            continue
        if raft.tick():
            found.append(label)
    return found


def acknowledged(
    beats: Iterable[Beat[Label]], node: int, number: int, refused: Container[Label]
) -> list[Label]:
    """A member answered a round for these groups, but for those that it refused.

    Returns:
        The groups for which `ready` is worth a call.
    """
    found = []
    leader, probe = Role.LEADER, Flow.PROBE
    for label, term, _, raft in beats:
        if raft.term != term or raft.role is not leader or label in refused:
            continue
        progress = raft.progress.get(node)
        if progress is None:
            continue
        lags = progress.match < raft.log.last_index or progress.flow is probe
        if lags or raft.reads.rounds:
            if heartbeat.acknowledge(raft, node, number):
                found.append(label)
            continue
        progress.active = True
        if number > progress.acked_round:
            progress.acked_round = number
    return found
