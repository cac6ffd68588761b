"""What a leader proposes about shared groups: one `ShareOps` command carries those of a round.

Spans are flat lists `[first, count, first, count, ...]` of offsets, ascending and disjoint. Times
are microseconds. Every op is judged when it is applied, against the state of that moment: what no
longer holds is left out and told in the reply, so an op proposed under an earlier leader is safe.
Tags and the order of fields never change; fields may be added at the end, with defaults.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

Spans = list[int]

ACK: Final = 1
NACK: Final = 2
REJECT: Final = 3
RELEASE: Final = 4

OPS_MAX: Final = 20_000
"""Ops in one command."""
SPANS_MAX: Final = 20_000
"""Spans in one op."""
RECORDS_MAX: Final = 100_000
"""Records that one op may touch if each is looked at by itself (all but acks and releases)."""
LEASES_MAX: Final = 100_000
"""Leases of a group, and leases named by one op."""
REASON_CHARACTERS_MAX: Final = 200
ERROR_CHARACTERS_MAX: Final = 2_000


class Op(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all ops."""

    group: str


class Grant(Op, frozen=True, tag=1):
    """Leases to a member what of these spans is free, or delayed and ready.

    Offsets may lie at or beyond the group's `end`, up to the log's end; what is skipped on the way
    there becomes FREE in the window. Cut by `max_in_flight` and `window_max`, from the front.
    Reply: `Granted`; nothing granted, no lease.
    """

    lease: int
    """Unique: `term << 32 | counter`, never used before in this group."""
    member: str
    host: str
    spans: Spans
    deadline_us: int


class Settle(Op, frozen=True, tag=2):
    """A verdict of the holder of a lease. Reply: `Settled`."""

    lease: int
    verdict: int
    """ACK, NACK, REJECT or RELEASE."""
    spans: Spans
    ready_at_us: int = 0
    """NACK: when it may be retried; 0: as the retry policy says."""
    reason: str = ""
    error: str = ""
    member: str = ""
    """Who says so, for those who read the log; it decides nothing."""
    times: list[int] = []
    """NACK: when each of the spans may be retried, in place of `ready_at_us`; empty: as that says.
    Spans may then touch."""


class Renew(Op, frozen=True, tag=3):
    """Sets the deadline of leases of this member, earlier or later, within `hold_max_ms`.

    Reply: `Renewed`.
    """

    member: str
    leases: list[int]
    deadline_us: int


class Extend(Op, frozen=True, tag=4):
    """Sets the deadline of one lease; it may then be held that long whatever `hold_max_ms` says.

    Reply: `Renewed`.
    """

    lease: int
    deadline_us: int


class Expire(Op, frozen=True, tag=5):
    """Ends those of these leases whose deadline has passed at the entry's time. Reply: `Expired`.

    The leader keeps the records of one op below `RECORDS_MAX`: each is looked at by itself.
    """

    leases: list[int]


class Move(Op, frozen=True, tag=6):
    """Begins moves: fixes target and sequence number of MOVING records (timer: of due ones).

    A timer's `dead` is its own partition: what is moved there need not be due. It is carried
    forward to the end of the log, so that a record of the far future does not hold the log.

    Offsets ascending. A record whose move has begun to another target (one that is gone) begins
    anew. Reply: `Moving`.
    """

    offsets: list[int]
    target: int
    """Raft group id of the target partition."""


class Moved(Op, frozen=True, tag=7):
    """The target has the pending moves up to this sequence number. Reply: `Done`."""

    through_sequence: int
    base_offset: int
    """Offset in the target of the first pending move, the others follow; 2**64-1: unknown."""


class Drop(Op, frozen=True, tag=8):
    """Gives up MOVING records: their target can't be reached and the policy says drop.

    Moves that have begun too: the leader drops these only if the target is gone for ever.
    Reply: `Purged`.
    """

    spans: Spans
    reason: str


class Redrive(Op, frozen=True, tag=9):
    """Frees HELD records of a hold group. Reply: `Redriven`."""

    spans: Spans
    force: bool = False
    """Whatever `redrives_max` says."""


class Purge(Op, frozen=True, tag=10):
    """Settles HELD and DELAYED records without delivering them. Reply: `Purged`."""

    spans: Spans


class Overtake(Op, frozen=True, tag=11):
    """Retention is about to delete what lies below an offset: settle or move what is left there.

    The leader proposes it before `Trim`, over at most `RECORDS_MAX` records at once. With
    `overtaken = dead_letter` it trims when the moves are done. Reply: `Purged` (done at once).
    """

    end: int
    reason: str


class Outdate(Op, frozen=True, tag=12):
    """These FREE or DELAYED records are older than `max_age_ms`: give them up. Reply: `Purged`."""

    spans: Spans


ShareOp = (
    Grant | Settle | Renew | Extend | Expire | Move | Moved | Drop | Redrive | Purge | Overtake
    | Outdate
)  # fmt: skip
