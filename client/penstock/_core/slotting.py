"""Which slot columns a topic's batches carry, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.protocol.partitioning import NO_SLOT, key_slots, tenant_slots

KEY_SLOTS = "key_slots"
TENANT_SEPARATOR = "tenant_separator"


class Slotting(NamedTuple):
    """The columns to write.

    Attributes:
        keys: whether key slots are wanted.
        separator: what ends the tenant's part of a key; empty: no tenant slots.
    """

    keys: bool
    separator: bytes

    def columns(
        self, keys: Sequence[bytes | None] | None, count: int
    ) -> tuple[list[int] | None, list[int] | None]:
        """The key slots and the tenant slots of records with these keys."""
        if keys is None:
            nothing = [NO_SLOT] * count
            return nothing if self.keys else None, nothing if self.separator else None
        return (
            key_slots(keys) if self.keys else None,
            tenant_slots(keys, self.separator) if self.separator else None,
        )


NO_SLOTS = Slotting(keys=False, separator=b"")


def slotting_of(config: Mapping[str, object]) -> Slotting:
    """What a topic's configuration asks for."""
    separator = config.get(TENANT_SEPARATOR, "none")
    wanted = isinstance(separator, str) and separator != "none"
    if config.get(KEY_SLOTS, "none") == "none" and not wanted:
        return NO_SLOTS
    return Slotting(
        keys=config.get(KEY_SLOTS, "none") != "none",
        separator=str(separator).encode() if wanted else b"",
    )
