"""Handing the lead over (thesis 3.10): bring one member up to date, then let it stand at once.

Meanwhile nothing is proposed. After an election time without success the leader goes on: in a term
of its own if the other was told to stand. That word may be on its way for any time, and whoever
acts on it needs no leave; it stands in the term that is taken then.
"""

from penstock_broker.raft.election import campaign
from penstock_broker.raft.entry import NOBODY
from penstock_broker.raft.errors import NotLeader, Refused
from penstock_broker.raft.messages import TimeoutNow
from penstock_broker.raft.outbox import send
from penstock_broker.raft.roles import become_follower
from penstock_broker.raft.state import RaftState, Role


def begin(raft: RaftState, to: int) -> None:
    """Start to hand over to the voter `to`."""
    if raft.role is not Role.LEADER:
        raise NotLeader(raft.leader)
    if to == raft.id or to not in raft.configuration.voters:
        raise Refused(f"{to} is not another voter of {raft.configuration.voters}")
    raft.transferee = to
    raft.transfer_elapsed = 0
    raft.transfer_told = False
    raft.send_wanted = raft.transfer_wanted = True


def let_stand(raft: RaftState) -> None:
    """Let the successor stand if its log is complete; asked when that may have become so."""
    raft.transfer_wanted = False
    progress = raft.progress.get(raft.transferee)
    if progress is not None and progress.match == raft.log.last_index:
        raft.transfer_told = True
        send(raft, TimeoutNow(raft.id, raft.transferee, raft.term))


def tick(raft: RaftState) -> None:
    """Go on leading when the hand-over takes longer than an election."""
    raft.transfer_elapsed += 1
    if raft.transfer_elapsed >= raft.options.election_ticks:
        raft.transferee = NOBODY
        if raft.transfer_told:
            become_follower(raft, raft.term, NOBODY)
            campaign(raft, transfer=True)


def on_timeout_now(raft: RaftState, _: TimeoutNow) -> None:
    """The leader wants to be replaced by this node."""
    if raft.is_promotable():
        campaign(raft, transfer=True)
