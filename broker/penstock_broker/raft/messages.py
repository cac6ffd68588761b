"""What nodes of one group say to each other. The layer above adds the group and the bytes.

Every message names its sender, its receiver and a term. A message whose receiver is its sender
is the node's own vote: it goes back into `step` once it is durable.
"""

from typing import NamedTuple

from penstock_broker.raft.entry import Entry, Snapshot


class VoteRequest(NamedTuple):
    """Asks for a vote (Raft 5.2); `pre` asks whether it would be granted (thesis 9.6).

    `transfer` says that the old leader asked for this election, so loyalty to it is no reason
    to refuse (thesis 3.10).
    """

    sender: int
    to: int
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


class VoteResponse(NamedTuple):
    """A granted answer carries the term asked for, a refusal the term of the voter."""

    sender: int
    to: int
    term: int
    granted: bool
    pre: bool = False


class Append(NamedTuple):
    """Entries that follow (`prev_index`, `prev_term`), and how far the log is committed (5.3)."""

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    entries: list[Entry]
    commit: int


class AppendResponse(NamedTuple):
    """Accepted: the log is durable and equal up to `index`.

    Rejected: nothing matched at `index`; the sender's log may match at (`hint_index`,
    `hint_term`) or before. A stale leader is rejected with `index` 0.
    """

    sender: int
    to: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    rejected: bool = False
    hint_index: int = 0
    hint_term: int = 0


class Heartbeat(NamedTuple):
    """The leader lives; `commit` never exceeds what this receiver has acknowledged."""

    sender: int
    to: int
    term: int
    commit: int
    round: int


class HeartbeatResponse(NamedTuple):
    """Answers one round of heartbeats; proves that the leader led when that round began."""

    sender: int
    to: int
    term: int
    round: int


class InstallSnapshot(NamedTuple):
    """Replaces the log of a follower that needs entries which the leader has no more (7)."""

    sender: int
    to: int
    term: int
    snapshot: Snapshot


class TimeoutNow(NamedTuple):
    """Asks a follower to campaign at once (thesis 3.10)."""

    sender: int
    to: int
    term: int


Message = (
    VoteRequest
    | VoteResponse
    | Append
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | InstallSnapshot
    | TimeoutNow
)

LEADER_MESSAGES = frozenset((Append, Heartbeat, InstallSnapshot))
"""Only the leader of a term sends these: whoever gets one knows the leader."""
