"""The leader's rounds of heartbeats: to be heard, to hear, and to prove that it still leads.

By default the core sends its own messages. With `external_heartbeats` the layer above packs the
heartbeats of all groups into one frame per peer: it asks each leader what to say (`collect`), and
brings back who answered which round (`acknowledge`).
"""

from penstock_broker.raft import snapshots, transfer
from penstock_broker.raft.entry import NOBODY
from penstock_broker.raft.messages import Heartbeat, HeartbeatResponse
from penstock_broker.raft.outbox import send
from penstock_broker.raft.progress import Flow
from penstock_broker.raft.quorum import Outcome, quorum_outcome, quorum_value
from penstock_broker.raft.roles import become_follower
from penstock_broker.raft.state import RaftState, Role


def tick(raft: RaftState) -> None:
    """One tick of a leader that is not alone."""
    options = raft.options
    raft.elapsed += 1
    if raft.transferee != NOBODY:
        transfer.tick(raft)
        if raft.role is not Role.LEADER:
            return
    if raft.elapsed >= options.election_ticks:
        raft.elapsed = 0
        snapshots.look_after(raft)
        if options.check_quorum and not _hears_quorum(raft):
            become_follower(raft, raft.term, NOBODY)
            return
    if options.external_heartbeats:
        return
    raft.heartbeat_elapsed += 1
    if raft.heartbeat_elapsed >= options.heartbeat_ticks:
        broadcast(raft)


def _hears_quorum(raft: RaftState) -> bool:
    """Did a quorum answer since the last time this was asked (thesis 6.2)?"""
    heard = {node: True for node, progress in raft.peers if progress.active}
    heard[raft.id] = True
    for _, progress in raft.peers:
        progress.active = False
    configuration = raft.configuration
    outcome = quorum_outcome(configuration.voters, configuration.outgoing, heard)
    return outcome is Outcome.WON


def broadcast(raft: RaftState) -> None:
    """Send one round of heartbeats."""
    raft.heartbeat_elapsed = 0
    number = raft.reads.round + 1
    for node, commit in collect(raft, number):
        send(raft, Heartbeat(raft.id, node, raft.term, commit, number))


def collect(raft: RaftState, number: int) -> list[tuple[int, int]]:
    """Begin round `number`; return (member, commit) for each heartbeat in it.

    A member is told of no commit past what it has acknowledged: its log may differ beyond.
    """
    if raft.role is not Role.LEADER:
        return []
    commit, reads = raft.log.commit, raft.reads
    if reads.waiting:
        reads.begin(number, commit, raft.has_committed_in_term())
    else:
        assert number >= reads.round, f"round {number} after round {reads.round}"
        reads.round = number
    return [(node, min(progress.match, commit)) for node, progress in raft.peers]


def serve_reads(raft: RaftState) -> None:
    """Begin what waiting reads need: nothing if this voter decides alone, else a round."""
    if raft.configuration.is_sole_voter(raft.id):
        raft.reads.begin(raft.reads.round, raft.log.commit, may_read=True)
        raft.reads.finish(raft.reads.round)
    elif not raft.options.external_heartbeats and not raft.reads.rounds:
        broadcast(raft)


def on_heartbeat_response(raft: RaftState, message: HeartbeatResponse) -> None:
    """A member answered a round in this term."""
    acknowledge(raft, message.sender, message.round)


def confirmed_round(raft: RaftState) -> int:
    """The newest round that a quorum answered, while this node leads."""
    incoming = [at.acked_round for at in raft.incoming]
    return quorum_value(incoming, [at.acked_round for at in raft.outgoing])


def acknowledge(raft: RaftState, node: int, number: int) -> bool:
    """A member answered round `number`: it is there, so whatever it lacks may be sent again.

    True if there is something to do now.
    """
    progress = raft.progress.get(node)
    if progress is None:
        return False
    progress.active = True
    if number > progress.acked_round:
        progress.acked_round = number
    if raft.reads.rounds:
        raft.reads.finish(confirmed_round(raft))
    if progress.match < raft.log.last_index or progress.flow is Flow.PROBE:
        progress.paused = False
        progress.nudge = True
        raft.send_wanted = True
    return raft.send_wanted or bool(raft.reads.done)
