"""Changing who takes part (Raft 6, thesis 4).

A change of at most one voter is one entry. Any other goes through a joint configuration, which
the leader leaves by itself as soon as it is committed. One change at a time, and none before the
leader has committed in its own term: a change made in an older term could still be undone.
"""

from penstock_broker.raft import trace
from penstock_broker.raft.configuration import Configuration
from penstock_broker.raft.entry import CONFIG, NOBODY
from penstock_broker.raft.errors import NotLeader, Refused
from penstock_broker.raft.messages import TimeoutNow
from penstock_broker.raft.outbox import send
from penstock_broker.raft.roles import become_follower
from penstock_broker.raft.state import RaftState, Role


def propose(raft: RaftState, voters: list[int], learners: list[int]) -> int:
    """Append the next configuration towards the wanted members; return its index."""
    if raft.role is not Role.LEADER:
        raise NotLeader(raft.leader)
    current = raft.configuration
    if raft.transferee != NOBODY:
        raise Refused(f"the lead is on its way to {raft.transferee}")
    if not raft.has_committed_in_term():
        raise Refused(f"nothing is committed in term {raft.term} yet")
    if raft.history.index > raft.log.commit:
        raise Refused(f"the change at {raft.history.index} is not committed yet")
    assert not current.is_joint, f"{current} is committed, and the leader has not left it"
    try:
        target = current.changed_to(voters, learners)
    except ValueError as error:
        raise Refused(str(error)) from error
    if target == current:
        raise Refused("the group has these members already")
    return _append(raft, target)


def _append(raft: RaftState, configuration: Configuration) -> int:
    before = raft.configuration
    index = raft.append_own([(CONFIG, configuration.encode())])
    raft.history.push(index, configuration)
    raft.configuration = configuration
    trace.configuration_proposed(raft, before)
    trace.replicated(raft, index)
    raft.follow_configuration()
    return index


def after_commit(raft: RaftState, before: int) -> None:
    """Leave a joint configuration that is committed; see whether this leader is to go.

    The commit moved on from `before`.
    """
    if raft.history.index > raft.log.commit:
        return
    raft.change_open = False
    configuration = raft.configuration
    if raft.history.index > before:
        trace.configuration_committed(raft)
    if configuration.is_joint:
        _append(raft, configuration.left())
    elif raft.id not in configuration.voters:
        raft.departing = True


def depart(raft: RaftState) -> None:
    """Step down, no member any more (thesis 4.2.2), and let the best of the others stand at once.

    It was sent the commit before, so the group need not wait for silence.
    """
    voters = set(raft.configuration.voters)
    candidates = [(at.match, -node) for node, at in raft.peers if node in voters]
    successor = -max(candidates)[1]
    send(raft, TimeoutNow(raft.id, successor, raft.term))
    become_follower(raft, raft.term, NOBODY)
