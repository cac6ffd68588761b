"""Elections: standing, voting, counting (Raft 5.2, 5.4.1; pre-vote: thesis 9.6).

A candidate's requests leave only when its term and its own vote are durable. Else it could ask,
crash, forget, and win the same term again with another log. Its own vote comes back through
`step` for the same reason: a sole voter leads only what its disk knows.
"""

from penstock_broker.raft.entry import NOBODY
from penstock_broker.raft.messages import (
    LEADER_MESSAGES,
    AppendResponse,
    Message,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.raft.outbox import send, send_after_persist
from penstock_broker.raft.quorum import Outcome, quorum_outcome
from penstock_broker.raft.roles import (
    become_candidate,
    become_follower,
    become_leader,
    become_pre_candidate,
)
from penstock_broker.raft.state import RaftState, Role


def campaign(raft: RaftState, *, transfer: bool = False) -> None:
    """Stand for election, if this node may; after a transfer nobody needs to be asked before."""
    if raft.role is Role.LEADER:
        return
    if not raft.is_promotable():
        raft.leader = NOBODY  # silence for an election time: whoever led is gone
        return
    alone = raft.configuration.is_sole_voter(raft.id)
    if raft.options.pre_vote and not transfer and not alone:
        _ask_before(raft)
    else:
        _stand(raft, transfer=transfer)


def _ask_before(raft: RaftState) -> None:
    become_pre_candidate(raft)
    raft.votes[raft.id] = True
    log = raft.log
    for node in raft.configuration.electors:
        if node != raft.id:
            request = VoteRequest(
                raft.id, node, raft.term + 1, log.last_index, log.last_term, pre=True
            )
            send(raft, request)


def _stand(raft: RaftState, *, transfer: bool) -> None:
    become_candidate(raft)
    term, log = raft.term, raft.log
    for node in raft.configuration.electors:
        if node == raft.id:
            send_after_persist(raft, VoteResponse(node, node, term, granted=True))
        else:
            request = VoteRequest(
                raft.id, node, term, log.last_index, log.last_term, transfer=transfer
            )
            send_after_persist(raft, request)


def on_vote_request(raft: RaftState, message: VoteRequest) -> None:
    """Vote for whoever asks first in a term with a log as good as ours (Raft 5.2, 5.4.1).

    Learners vote too: they may have been made voters by entries that they lack. Who lost its log
    on purpose, and is a member again, votes as if it still had it.
    """
    log = raft.log
    free = raft.vote == message.sender or (raft.vote == NOBODY and raft.leader == NOBODY)
    if message.pre and message.term > raft.term:
        free = True
    needed = max((log.last_term, log.last_index), raft.promised)
    granted = free and (message.last_term, message.last_index) >= needed
    term = message.term if granted else raft.term
    answer = VoteResponse(raft.id, message.sender, term, granted, message.pre)
    if message.pre:
        send(raft, answer)
        return
    if granted:
        raft.elapsed = 0
        raft.vote = message.sender
    send_after_persist(raft, answer)


def on_vote_response(raft: RaftState, message: VoteResponse) -> None:
    """Count an answer, and act when the outcome is known."""
    asking = raft.role is Role.PRE_CANDIDATE
    if message.pre is not asking:
        return
    raft.votes.setdefault(message.sender, message.granted)
    configuration = raft.configuration
    outcome = quorum_outcome(configuration.voters, configuration.outgoing, raft.votes)
    if outcome is Outcome.LOST:
        become_follower(raft, raft.term, NOBODY)
    elif outcome is Outcome.WON:
        if asking:
            _stand(raft, transfer=False)
        else:
            become_leader(raft)


def _is_loyal(raft: RaftState) -> bool:
    """True within an election time of hearing from a leader (thesis 4.2.3)."""
    return (
        raft.options.check_quorum
        and raft.leader != NOBODY
        and raft.elapsed < raft.options.election_ticks
    )


def settle_term(raft: RaftState, message: Message) -> bool:
    """Bring the terms of node and message together (Raft 5.1); False to ignore the message."""
    if message.term < raft.term:
        _answer_stale(raft, message)
        return False
    if isinstance(message, VoteRequest):
        if not message.transfer and _is_loyal(raft):
            return False
        if message.pre:
            return True  # only asks about a later term
    elif isinstance(message, VoteResponse) and message.pre and message.granted:
        return True  # carries the term that was asked about
    leader = message.sender if type(message) in LEADER_MESSAGES else NOBODY
    become_follower(raft, message.term, leader)
    return True


def _answer_stale(raft: RaftState, message: Message) -> None:
    """Tell the sender about the newer term: it may depend on it to step down or to catch up."""
    if isinstance(message, VoteRequest):
        refusal = VoteResponse(raft.id, message.sender, raft.term, False, message.pre)
        send_after_persist(raft, refusal)
    elif type(message) in LEADER_MESSAGES:
        answer = AppendResponse(raft.id, message.sender, raft.term, 0, rejected=True)
        send_after_persist(raft, answer)
