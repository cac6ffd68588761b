"""The transitions between roles.

Legal moves:

follower       -> pre-candidate, candidate
pre-candidate  -> candidate, follower
candidate      -> leader, follower, and candidate or pre-candidate again
leader         -> follower

Besides, whoever does not lead becomes a candidate of any later term to go on alone (`survival`).
"""

from penstock_broker.raft import trace
from penstock_broker.raft.entry import NOBODY, NOOP
from penstock_broker.raft.state import RaftState, Role


def restart_timer(raft: RaftState) -> None:
    """Wait again, for a new random time; alone there is nobody to wait for."""
    ticks = raft.options.election_ticks
    raft.elapsed = 0
    if raft.configuration.is_sole_voter(raft.id):
        raft.timeout = 1
    else:
        raft.timeout = ticks + raft.randomness.randrange(ticks)


def _begin(raft: RaftState, term: int, role: Role, leader: int) -> None:
    assert term >= raft.term, f"term {term} after term {raft.term}"
    if raft.role is Role.LEADER:
        raft.stop_leading()
    if term != raft.term:
        raft.term = term
        raft.vote = NOBODY
    raft.role = role
    raft.leader = leader
    raft.votes = {}
    restart_timer(raft)


def become_follower(raft: RaftState, term: int, leader: int) -> None:
    """Follow `leader`, or wait for one."""
    _begin(raft, term, Role.FOLLOWER, leader)
    trace.node_event(raft, "BecomeFollower")


def become_pre_candidate(raft: RaftState) -> None:
    """Ask whether an election would succeed; term and vote stay."""
    assert raft.role is not Role.LEADER, f"leader {raft.id} of term {raft.term} stands again"
    _begin(raft, raft.term, Role.PRE_CANDIDATE, NOBODY)


def become_candidate(raft: RaftState) -> None:
    """Stand in a new term, voting for oneself."""
    assert raft.role is not Role.LEADER, f"leader {raft.id} of term {raft.term} stands again"
    _begin(raft, raft.term + 1, Role.CANDIDATE, NOBODY)
    raft.vote = raft.id
    trace.node_event(raft, "BecomeCandidate")


def become_alone(raft: RaftState, term: int) -> None:
    """Be the only candidate of a term that nobody else has seen."""
    assert raft.role is not Role.LEADER, f"leader {raft.id} of term {raft.term} goes on alone"
    assert term > raft.term, f"{raft.id} goes on alone in term {term} after term {raft.term}"
    _begin(raft, term, Role.CANDIDATE, NOBODY)
    raft.vote = raft.id
    trace.node_event(raft, "BecomeCandidate")


def become_leader(raft: RaftState) -> None:
    """Lead, and open the term with an empty entry, to learn what is committed (Raft 8)."""
    assert raft.role is Role.CANDIDATE, f"{raft.role.name} {raft.id} leads term {raft.term}"
    assert raft.vote == raft.id, f"{raft.id} leads term {raft.term}, having voted {raft.vote}"
    _begin(raft, raft.term, Role.LEADER, raft.id)
    raft.start_leading()
    trace.node_event(raft, "BecomeLeader")
    raft.term_start = raft.append_own([(NOOP, b"")])
    trace.replicated(raft, raft.term_start)
