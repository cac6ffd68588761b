"""What the cluster's verbs show: brokers and partitions as rows, and what is wrong in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.cli.exits import Exit
from penstock.cli.output import Column
from penstock.cli.settings import Failure
from penstock.cli.units import count_of
from penstock.errors import ClusterUnformed

if TYPE_CHECKING:
    from penstock.protocol.cluster import (
        Bereft,
        ClusterStatusReply,
        CopyFound,
        NodeStatus,
        PartitionState,
        RecoverPartitionReply,
    )
    from penstock.sync import Client

NODES = (
    Column("node", "NODE", "number"),
    Column("address", "ADDRESS"),
    Column("host", "HOST", spare=True),
    Column("state", "STATE"),
    Column("leaders", "LEADERS", "number"),
    Column("replicas", "REPLICAS", "number"),
    Column("metadata", "METADATA"),
    Column("version", "VERSION"),
    Column("feature_max", "FEATURES", "number", wide=True),
)
PARTITIONS = (
    Column("topic", "TOPIC", spare=True),
    Column("partition", "PARTITION", "number"),
    Column("state", "STATE"),
    Column("leader", "LEADER", "number"),
    Column("replicas", "REPLICAS"),
    Column("behind", "BEHIND"),
    Column("copying", "COPYING"),
    Column("members", "MEMBERS", wide=True),
    Column("term", "TERM", "number", wide=True),
    Column("group", "RAFT GROUP", "number", wide=True),
)
COPIES = (
    Column("node", "NODE", "number"),
    Column("end_offset", "END OFFSET", "number"),
    Column("last_term", "LAST TERM", "number"),
    Column("last_index", "LAST INDEX", "number"),
    Column("fate", "FATE"),
)
RECOVER: Final = "penstock partition recover"
SILENT = "away"
BEREFT_SHOWN = 20
Problem = dict[str, Any]
VOTERS_MIN: Final = 3
"""So many decide about the metadata as soon as there are as many brokers."""
"""What is wrong in words, and as numbers: the node that it is about, of how many things."""


def node_row(status: ClusterStatusReply, node: NodeStatus) -> dict[str, Any]:
    """A broker."""
    metadata = status.metadata
    votes = "voter" if node.id in metadata.voters else "learner"
    gone = node.state not in ("active", "draining")
    leads = node.alive and node.id == metadata.leader
    return {
        "node": node.id,
        "address": node.address,
        "host": node.host,
        "state": node.state if node.alive or gone else f"{node.state}, {SILENT}",
        "alive": node.alive,
        "leaders": node.leaders,
        "replicas": node.replicas,
        "metadata": "leader" if leads else "-" if gone else votes,
        "version": node.version,
        "feature_max": node.feature_max,
    }


def partition_row(state: PartitionState) -> dict[str, Any]:
    """A partition; `behind` names the copies that lack something only."""
    behind = {
        str(node): SILENT if lacks < 0 else lacks for node, lacks in state.behind.items() if lacks
    }
    return {
        "topic": state.topic,
        "partition": state.partition,
        "state": state.state,
        "moving": state.moving,
        "leader": state.leader or None,
        "replicas": state.replicas,
        "members": state.members,
        "behind": behind,
        "copying": state.learners,
        "term": state.term,
        "group": state.group,
    }


def copy_row(plan: RecoverPartitionReply, copy: CopyFound) -> dict[str, Any]:
    """A copy that is left of a partition without a majority."""
    fate = "goes on" if copy.node == plan.node else "given up" if plan.node else "to be chosen"
    return {
        "node": copy.node,
        "answered": copy.answered,
        "end_offset": copy.end_offset if copy.answered else None,
        "last_term": copy.last_term if copy.answered else None,
        "last_index": copy.last_index if copy.answered else None,
        "fate": fate if copy.answered else f"{fate}, {SILENT}",
    }


def problems(status: ClusterStatusReply) -> list[Problem]:
    """What is not as it should be; empty: the cluster is well."""
    if not status.cluster:
        words = "this broker is in no cluster yet; where there is none: penstock cluster init"
        return [_problem("not formed", words)]
    found = []
    if status.metadata.leader not in {node.id for node in status.nodes if node.alive}:
        found.append(_problem("no metadata leader", "a majority of its voters must be up"))
    found += [
        _problem("not joined", f"the broker at {address} was to join, and has not yet")
        for address in status.awaited
    ]
    found += [problem for node in status.nodes for problem in _of_node(node, status.node)]
    found += _of_voters(status)
    away = status.leaderless - status.bereft
    if away:
        words = f"{count_of(away, 'partition')} can't be written or read"
        found.append(_problem("no leader", words, count=away))
    if status.bereft:
        words = f"{count_of(status.bereft, 'partition')}: most copies lost: {RECOVER}"
        found.append(_problem("no majority", words, count=status.bereft))
    if status.under_replicated:
        counted = count_of(status.under_replicated, "partition")
        words = f"{counted} with a copy missing, away or far behind"
        found.append(_problem("copies missing", words, count=status.under_replicated))
    return found


def _of_voters(status: ClusterStatusReply) -> Iterator[Problem]:
    """The metadata lacks a copy that it counts on, or could have: the next loss may be its last."""
    members = {node.id for node in status.nodes if node.state in ("active", "draining")}
    voters = status.metadata.voters
    gone = [voter for voter in voters if voter not in members]
    if gone:
        words = f"of the metadata: {gone} of {voters} are gone; lose no other broker"
        yield _problem("few voters", words, count=len(gone))
    elif len(voters) < VOTERS_MIN <= len(members):
        words = f"of the metadata: {len(voters)} of {VOTERS_MIN}; lose no broker now"
        yield _problem("few voters", words, count=VOTERS_MIN - len(voters))


def _of_node(node: NodeStatus, here: int) -> Iterator[Problem]:
    place = f"node {node.id} at {node.address}"
    if not node.alive and node.state in ("active", "draining"):
        yield _problem("broker away", f"{place} is not heard of", node=node.id)
    if node.diverged:
        words = f"{place} parted from the majority: replace it"
        yield _problem("diverged", words, node=node.id)
    elif node.parted_at:
        words = f"nodes {node.id} and {here} made different metadata; none has a majority"
        yield _problem("disagreement", words, node=node.id)
    if node.full:
        yield _problem("disk full", f"{place} refuses publishes", node=node.id)
    if node.stuck:
        words = f"{count_of(node.stuck, 'replica')} of node {node.id} can't go anywhere"
        words += ": add a broker"
        yield _problem("drain stuck", words, node=node.id, count=node.stuck)


def bereft_lines(bereft: Sequence[Bereft]) -> Iterator[str]:
    """The partitions that a removed broker leaves without a majority, in words."""
    for lost in bereft[:BEREFT_SHOWN]:
        place = f"{lost.topic}/{lost.partition}"
        away = [str(node) for node in lost.others if node not in lost.alive]
        if not lost.others:
            yield f"{place} loses its only copy"
        elif len(lost.others) == 1:
            yield f"{place} has no majority any more: the other copy is on node {lost.others[0]}"
        else:
            yield f"{place} has no majority until node {' or '.join(away)} is back"
    if bereft[BEREFT_SHOWN:]:
        yield f"{count_of(len(bereft) - BEREFT_SHOWN, 'more partition')} without a majority"


def versions(status: ClusterStatusReply) -> str:
    """What the brokers run, in words."""
    found = sorted({node.version for node in status.nodes if node.version})
    return ", ".join(found) + (" (an upgrade is under way)" if len(found) > 1 else "")


def _problem(
    what: str, detail: str, *, node: int | None = None, count: int | None = None
) -> Problem:
    return {"problem": what, "detail": detail, "node": node, "count": count}


def find_node(client: Client, text: str) -> int:
    """The id of a broker that was named by its id, its address, or its host if that is its alone.

    Raises:
        Failure: there is none.
    """
    return pick_node(status_of(client), text)


def status_of(client: Client) -> ClusterStatusReply:
    """How the cluster is.

    Raises:
        ClusterUnformed: there is none yet.
    """
    status = client.admin.cluster_status()
    if not status.cluster:
        raise ClusterUnformed()
    return status


def pick_node(status: ClusterStatusReply, text: str) -> int:
    """As `find_node`, in a status that was asked for already."""
    for node in status.nodes:
        if text in (str(node.id), node.address):
            return node.id
    of_host = [node.id for node in status.nodes if node.host == text]
    if len(of_host) == 1:
        return of_host[0]
    what = f"{count_of(len(of_host), 'broker')} on host {text}: name one by its id"
    raise Failure(
        what if of_host else f"there is no node {text}",
        code=Exit.USAGE if of_host else Exit.NOT_FOUND,
        hint="`penstock node list` shows those there are.",
    )


def of_node(states: Sequence[PartitionState], node: int) -> list[PartitionState]:
    """The partitions that a broker has to do with."""
    return [s for s in states if node in {*s.replicas, *s.members, *s.learners}]
