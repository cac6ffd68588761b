"""Queueing messages: what may leave at once, and what must wait for the disk."""

from penstock_broker.raft import trace
from penstock_broker.raft.messages import Message
from penstock_broker.raft.state import RaftState


def send(raft: RaftState, message: Message) -> None:
    """Queue a message that promises nothing about this node's disk."""
    raft.messages.append(message)
    if raft.trace is not None:
        trace.sent(raft, message)


def send_after_persist(raft: RaftState, message: Message) -> None:
    """Queue a message that leaves when all that was handed out by then is durable."""
    raft.after_persist.append(message)
    if raft.trace is not None:
        trace.sent(raft, message)
