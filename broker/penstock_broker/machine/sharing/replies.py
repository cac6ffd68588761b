"""What is answered to ops: one reply for each, in the same order."""

from __future__ import annotations

from msgspec import Struct

from penstock_broker.machine.commands import Refused
from penstock_broker.machine.sharing.ops import Spans


class Granted(Struct, frozen=True):
    """What was leased; empty: nothing, and there is no such lease."""

    spans: Spans


class Settled(Struct, frozen=True):
    """What a verdict did."""

    accepted: int
    """Records whose state changed."""
    late: int
    """Of these, acks that came after the lease was over."""
    duplicates: int
    """Acks of records that were done already."""
    lost: Spans
    """Records that the lease does not hold any more: the verdict has no effect."""


class Renewed(Struct, frozen=True):
    """Leases that are over, or another member's."""

    lost: list[int]


class Expired(Struct, frozen=True):
    """How many leases ended, and how many records they held."""

    leases: int
    records: int


class Moving(Struct, frozen=True):
    """Moves that began: sequence numbers are dense, from the first on, in the order of offsets."""

    first_sequence: int
    offsets: list[int]


class Redriven(Struct, frozen=True):
    """What a redrive did."""

    count: int
    looping: Spans
    """Refused: they were redriven `redrives_max` times."""
    absent: Spans
    """They are not HELD (any more)."""


class Purged(Struct, frozen=True):
    """Which records were settled by this."""

    count: int
    spans: Spans


class Done(Struct, frozen=True):
    """Carried out."""


class SharedConfigured(Struct, frozen=True):
    """Replies to `ConfigureShared`."""

    revision: int
    created: bool


OpReply = (
    Refused | Granted | Settled | Renewed | Expired | Moving | Redriven | Purged | Done
)  # fmt: skip


class ShareReplies(Struct, frozen=True):
    """Replies to `ShareOps`."""

    replies: list[OpReply]
