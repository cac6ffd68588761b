"""The leader's side of replication: feeding members, and deciding what is committed (Raft 5.3).

Appends are made when `ready` is called, not when something is proposed: all that came together
in one round goes out in one append per member. They leave before the leader's own sync
(thesis 10.2.1); the leader counts itself only for what its disk has reported.
"""

from penstock_broker.raft import membership, snapshots, trace
from penstock_broker.raft.entry import Entry
from penstock_broker.raft.messages import Append, AppendResponse
from penstock_broker.raft.outbox import send
from penstock_broker.raft.progress import Flow, Progress
from penstock_broker.raft.quorum import quorum_value
from penstock_broker.raft.state import RaftState

Batch = tuple[list[Entry], int]


def send_appends(raft: RaftState) -> None:
    """Give every member what it may have now."""
    raft.send_wanted = False
    batches: dict[int, Batch] = {}  # members at the same place share one list of entries
    for node, progress in raft.peers:
        if progress.flow is Flow.REPLICATE:
            _stream(raft, node, progress, batches)
        elif progress.flow is Flow.PROBE and not progress.paused:
            _send(raft, node, progress, _batch_at(raft, progress.next, batches))


def _stream(raft: RaftState, node: int, progress: Progress, batches: dict[int, Batch]) -> None:
    options, log = raft.options, raft.log
    while progress.next <= log.last_index:
        if progress.is_full(options.window_messages_max, options.window_bytes_max):
            break
        if not _send(raft, node, progress, _batch_at(raft, progress.next, batches)):
            return
    tells = options.eager_commit or raft.departing
    if progress.nudge or (tells and progress.sent_commit < min(log.commit, progress.next - 1)):
        _send(raft, node, progress, ([], 0))


def _batch_at(raft: RaftState, first: int, batches: dict[int, Batch]) -> Batch:
    batch = batches.get(first)
    if batch is None:
        options = raft.options
        batch = ([], 0)
        if first > raft.log.base_index:
            batch = raft.log.slice_bounded(
                first, options.append_entries_max, options.append_bytes_max
            )
        batches[first] = batch
    return batch


def _send(raft: RaftState, node: int, progress: Progress, batch: Batch) -> bool:
    """Send an append, or ask for a snapshot if what comes before it is gone; True if sent."""
    log, prev_index = raft.log, progress.next - 1
    prev_term = log.term_at(prev_index)
    if prev_term < 0:
        snapshots.request(raft, node, progress)
        return False
    entries, size = batch
    last = prev_index + len(entries)
    commit = min(log.commit, last)
    send(raft, Append(raft.id, node, raft.term, prev_index, prev_term, entries, commit))
    progress.sent(last, size, commit)
    return True


def on_append_response(raft: RaftState, message: AppendResponse) -> None:
    """Learn how far a member is."""
    progress = raft.progress.get(message.sender)
    if progress is None:
        return
    progress.active = True
    log = raft.log
    if message.rejected:
        hint = message.hint_index
        if message.hint_term:
            hint, _ = log.last_at_most(hint, message.hint_term)
        if progress.reject(message.index, hint):
            raft.send_wanted = True
        return
    assert message.index <= log.last_index, (
        f"member {message.sender} acknowledged {message.index}, the log ends at {log.last_index}"
    )
    if progress.acknowledge(message.index):
        _advance(raft, message.sender, progress)


def _advance(raft: RaftState, node: int, progress: Progress) -> None:
    raft.commit_wanted = raft.send_wanted = True
    found = progress.flow is Flow.PROBE
    if found or (progress.flow is Flow.SNAPSHOT and progress.match >= raft.log.base_index):
        progress.become_replicate()
    if node == raft.transferee:
        raft.transfer_wanted = True


def advance_commit(raft: RaftState) -> None:
    """Commit what a quorum holds, if it is of this term: by counting only that (Raft 5.4.2)."""
    raft.commit_wanted = False
    outgoing = [at.match for at in raft.outgoing] if raft.outgoing else ()
    index = quorum_value([at.match for at in raft.incoming], outgoing)
    log = raft.log
    if index <= log.commit or log.term_at(index) != raft.term:
        return
    before = log.commit
    log.commit_to(index)
    raft.send_wanted = bool(raft.peers)
    if raft.trace is not None:
        trace.node_event(raft, "Commit")
    if raft.change_open:
        membership.after_commit(raft, before)
