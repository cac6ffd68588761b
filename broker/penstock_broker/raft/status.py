"""A node's view of its group, for people and for placement decisions."""

from dataclasses import dataclass

from penstock_broker.raft.configuration import Configuration
from penstock_broker.raft.progress import Flow
from penstock_broker.raft.state import RaftState, Role


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """How far a leader knows one member to be."""

    id: int
    match: int
    next: int
    flow: Flow
    active: bool


@dataclass(frozen=True, slots=True)
class Status:
    """Where a node stands; `members` is empty on all but the leader."""

    id: int
    role: Role
    term: int
    vote: int
    leader: int
    base_index: int
    handed_index: int
    commit_index: int
    durable_index: int
    last_index: int
    configuration: Configuration
    configuration_index: int
    transferee: int
    members: tuple[MemberStatus, ...]


def status_of(raft: RaftState) -> Status:
    """Take the view."""
    log = raft.log
    members = tuple(
        MemberStatus(node, at.match, at.next, at.flow, at.active) for node, at in raft.peers
    )
    return Status(
        id=raft.id,
        role=raft.role,
        term=raft.term,
        vote=raft.vote,
        leader=raft.leader,
        base_index=log.base_index,
        handed_index=log.handed,
        commit_index=log.commit,
        durable_index=log.durable,
        last_index=log.last_index,
        configuration=raft.configuration,
        configuration_index=raft.history.index,
        transferee=raft.transferee,
        members=members,
    )
