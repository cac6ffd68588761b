"""Snapshots: for a member that needs entries which the leader has no more (Raft 7).

The core never holds a snapshot. It asks for one (`Ready.snapshot_requests`), the layers above cut
and carry it as they like, and `Ready.snapshot` hands it to those above the receiver.
"""

from penstock_broker.raft.entry import Snapshot
from penstock_broker.raft.errors import NotLeader, Refused
from penstock_broker.raft.messages import Append, AppendResponse, InstallSnapshot
from penstock_broker.raft.outbox import send, send_after_persist
from penstock_broker.raft.progress import Flow, Progress
from penstock_broker.raft.state import RaftState, Role


def request(raft: RaftState, node: int, progress: Progress) -> None:
    """Ask for a snapshot for a member that is there to take it."""
    if progress.active:
        progress.become_snapshot()
        raft.snapshot_requests.append(node)


def supply(raft: RaftState, node: int, index: int, data: object) -> bool:
    """Send the state after `index`; False if the member needs it no more."""
    if raft.role is not Role.LEADER:
        raise NotLeader(raft.leader)
    log = raft.log
    if not log.base_index <= index <= log.handed:
        raise Refused(f"snapshot at {index} outside of {log.base_index}..{log.handed}")
    progress = raft.progress.get(node)
    if progress is None or progress.flow is not Flow.SNAPSHOT:
        return False
    progress.periods_waited = 0
    progress.next = index + 1
    snapshot = Snapshot(index, log.term_at(index), raft.history.at(index), data)
    send(raft, InstallSnapshot(raft.id, node, raft.term, snapshot))
    return True


def fail(raft: RaftState, node: int) -> None:
    """Give up on a snapshot: the member is probed again, and asked for again if need be."""
    progress = raft.progress.get(node)
    if progress is not None and progress.flow is Flow.SNAPSHOT:
        progress.become_probe()
        raft.send_wanted = True


def unreachable(raft: RaftState, node: int) -> None:
    """A member is gone for now: it is probed, and given a snapshot, once it answers again.

    If it lives it misses this leader as well, and is free to elect another.
    """
    progress = raft.progress.get(node)
    if progress is not None and node != raft.id:
        progress.become_probe()
        progress.active = False
        progress.acked_round = 0


def log_dropped(raft: RaftState, node: int) -> bool:
    """A member dropped its log after it had acknowledged some of it: it is fed from the start.

    It was removed, and is a member again, but heard of it in that order only now. It votes as if it
    had its log (`promised`), so what was committed with its help stays committed.
    """
    progress = raft.progress.get(node)
    if raft.role is not Role.LEADER or progress is None or node == raft.id or not progress.match:
        return False
    progress.begin_anew(raft.log.last_index + 1)
    raft.send_wanted = True
    return True


def look_after(raft: RaftState) -> None:
    """Called once an election time: a snapshot may be lost on its way, or word that it is there.

    Who has it says so again; who has not refuses the question, which means nothing.
    """
    for node, progress in raft.peers:
        if progress.flow is Flow.SNAPSHOT:
            progress.periods_waited += 1
            if progress.periods_waited > raft.options.snapshot_periods:
                fail(raft, node)
            elif progress.active:
                _ask(raft, node, progress)


def _ask(raft: RaftState, node: int, progress: Progress) -> None:
    index = progress.next - 1
    term = raft.log.term_at(index)
    if index > progress.match and term >= 0:
        send(raft, Append(raft.id, node, raft.term, index, term, [], index))


def on_install_snapshot(raft: RaftState, message: InstallSnapshot) -> None:
    """Take a snapshot that is ahead of what is committed here (Raft figure 13)."""
    raft.elapsed = 0
    raft.leader = message.sender
    index, term, configuration, _ = snapshot = message.snapshot
    log = raft.log
    if index > log.commit:
        if log.term_at(index) == term:
            log.commit_to(index)
        else:
            log.restore(index, term)
            raft.history = type(raft.history)(index, configuration)
            raft.configuration = configuration
            raft.snapshot = snapshot
    send_after_persist(raft, AppendResponse(raft.id, message.sender, raft.term, log.commit))
