"""What a node has to do next: the contract between the pure core and whoever drives it.

The driver, for each `Ready`, in this order:

1. sends `messages`;
2. has `hard_state`, then `snapshot`, then `entries` written, in this order, so that a torn write
   never leaves entries of a term that the hard state does not know; and has them synced, at once or
   together with other groups (if neither `must_sync` nor `messages_after_persist` asks for it,
   the sync may be left out). Several rounds may be on their way; they reach the disk in the
   order in which they were handed out;
3. installs `snapshot` into the machine, if any, then applies `committed`;
4. answers the reads in `read_states` once their index is applied;
5. when all that was handed out up to this `Ready` is durable: calls `persisted` with the last
   index and its term, then lets `messages_after_persist` go. One that is addressed to the node
   itself goes into `step`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from penstock_broker.raft.entry import Entry, HardState, Snapshot
from penstock_broker.raft.messages import Message
from penstock_broker.raft.reads import ReadState
from penstock_broker.raft.state import Role


class SoftState(NamedTuple):
    """What others like to know and nobody needs to keep."""

    role: Role
    leader: int


class Ready(NamedTuple):
    """One round of work; see the module for what to do with it, and in which order.

    Attributes:
        entries: To persist. They replace whatever the disk holds from the first index on.
        hard_state: To persist, if it changed. A changed commit alone does not call for a sync.
        must_sync: True if `entries`, `snapshot`, or a new term or vote are to be persisted.
        snapshot: To install: it replaces log and machine.
        committed: To apply, in order.
        messages: May leave at once.
        messages_after_persist: Leave when everything handed out so far is durable.
        read_states: Reads that may be answered.
        snapshot_requests: Members that need a snapshot (`Raft.send_snapshot`).
        soft_state: Role and leader, if changed.
    """

    entries: Sequence[Entry]
    hard_state: HardState | None
    must_sync: bool
    snapshot: Snapshot | None
    committed: Sequence[Entry]
    messages: Sequence[Message]
    messages_after_persist: Sequence[Message]
    read_states: Sequence[ReadState]
    snapshot_requests: Sequence[int]
    soft_state: SoftState | None
