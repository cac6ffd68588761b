"""The follower's side of replication (Raft 5.3) and of heartbeats."""

from operator import itemgetter

from penstock_broker.raft.entry import CONFIG, Entry
from penstock_broker.raft.messages import Append, AppendResponse, Heartbeat, HeartbeatResponse
from penstock_broker.raft.outbox import send, send_after_persist
from penstock_broker.raft.state import RaftState

_kind = itemgetter(2)


def on_append(raft: RaftState, message: Append) -> None:
    """Take entries if they follow what is here, and say where the logs may agree if not."""
    raft.elapsed = 0
    raft.leader = message.sender
    log = raft.log
    index, term, entries = message.prev_index, message.prev_term, message.entries
    known = log.commit - index
    if known > 0:  # what is committed is the same in both logs (Raft 5.4.3): look past it
        if known >= len(entries):
            _accept(raft, message.sender, log.commit)
            return
        index, term, entries = log.commit, entries[known - 1].term, entries[known:]
        assert term == log.term_at(index), (
            f"committed entry {index} has term {log.term_at(index)} here, {term} at the leader"
        )
    if log.term_at(index) != term:
        hint_index, hint_term = log.last_at_most(index, term)
        answer = AppendResponse(
            raft.id, message.sender, raft.term, index, True, hint_index, hint_term
        )
        send_after_persist(raft, answer)
        return
    if entries:
        _extend(raft, index, entries)
    last = index + len(entries)
    commit = min(message.commit, last)
    if commit > log.commit:
        log.commit_to(commit)
    _accept(raft, message.sender, last)


def _accept(raft: RaftState, leader: int, index: int) -> None:
    send_after_persist(raft, AppendResponse(raft.id, leader, raft.term, index))


def _extend(raft: RaftState, index: int, entries: list[Entry]) -> None:
    """Make the log equal to `entries` after `index`; what conflicts goes (Raft 5.3)."""
    log = raft.log
    if index < log.last_index:
        entries = entries[log.matching(entries) :]
        if not entries:
            return
        keep = entries[0].index - 1
        if keep < log.last_index:
            log.truncate(keep)
            if raft.history.truncate(keep):
                raft.configuration = raft.history.current
    log.append(entries)
    if CONFIG in map(_kind, entries):
        raft.adopt_configurations(entries)


def hear_heartbeat(raft: RaftState, leader: int, commit: int) -> None:
    """The leader of this term lives, and has committed what it knows to be here."""
    raft.elapsed = 0
    raft.leader = leader
    if commit > raft.log.commit:
        raft.log.commit_to(commit)


def on_heartbeat(raft: RaftState, message: Heartbeat) -> None:
    """Hear, and answer the round."""
    hear_heartbeat(raft, message.sender, message.commit)
    send(raft, HeartbeatResponse(raft.id, message.sender, raft.term, message.round))
