"""Leases: who holds which records, until when."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from penstock_broker.machine.sharing.ops import Spans

NO_LIMIT_US: Final = (1 << 63) - 1


class Lease(Struct, array_like=True, forbid_unknown_fields=True):
    """Records that a member holds. Only `apply` writes it.

    It exists as long as it holds a record; which of its spans it still holds is said by the owners
    in the window (`SharedGroup.held_by`).
    """

    id: int
    serial: int
    """What stands in `Window.owner` for it; never 0."""
    member: str
    host: str
    granted_us: int
    deadline_us: int
    """From then on the leader may end it (`Expire`)."""
    hold_until_us: int
    """Renewals don't go beyond; `NO_LIMIT_US`: no limit."""
    left: int
    """Records that it still holds."""
    spans: Spans
    """What was granted."""
