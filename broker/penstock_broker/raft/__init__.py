"""Consensus in one group: Raft, without clock, network or disk.

Owns terms, votes, the log's order, what is committed, and who takes part. Must not know what an
entry means, how it is stored, how messages travel, which group it is or how many there are: it
imports nothing of the other parts.

    raft = Raft(1, randomness=random.Random(7), configuration=Configuration.of([1, 2, 3]))
    raft.tick()                     # time
    raft.step(message)              # messages
    raft.propose([(1, b"data")])    # on the leader
    ready = raft.ready()            # what to persist, send, apply
    raft.persisted(index, term)     # what has reached the disk

`ready.py` says what the driver must do in which order.
"""

from penstock_broker.raft.configuration import Configuration
from penstock_broker.raft.entry import CONFIG, NOBODY, NOOP, Data, Entry, HardState, Snapshot
from penstock_broker.raft.errors import NotLeader, RaftError, Refused
from penstock_broker.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from penstock_broker.raft.node import Raft
from penstock_broker.raft.progress import Flow
from penstock_broker.raft.reads import ReadState
from penstock_broker.raft.ready import Ready, SoftState
from penstock_broker.raft.rounds import Beat, acknowledged, tell, tick
from penstock_broker.raft.state import Options, Randomness, Role, Trace
from penstock_broker.raft.status import MemberStatus, Status
from penstock_broker.raft.trace import json_lines

__all__ = [
    "CONFIG",
    "NOBODY",
    "NOOP",
    "Append",
    "AppendResponse",
    "Beat",
    "Configuration",
    "Data",
    "Entry",
    "Flow",
    "HardState",
    "Heartbeat",
    "HeartbeatResponse",
    "InstallSnapshot",
    "MemberStatus",
    "Message",
    "NotLeader",
    "Options",
    "Raft",
    "RaftError",
    "Randomness",
    "ReadState",
    "Ready",
    "Refused",
    "Role",
    "Snapshot",
    "SoftState",
    "Status",
    "TimeoutNow",
    "Trace",
    "VoteRequest",
    "VoteResponse",
    "acknowledged",
    "json_lines",
    "tell",
    "tick",
]
