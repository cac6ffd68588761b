"""Which partition a key belongs to, and its slot: the same in every client, for ever.

Both come from one CRC-32C of the key. The partition takes it times an odd constant (2**32 divided
by the golden ratio), modulo 2**32, and scales that to the partition count by its high bits
(Knuth, TAOCP 6.4, multiplicative hashing); the slot is the low 16 bits of the checksum itself, or 1
where these are 0.
A checksum alone is linear: keys that differ in a few bits only would crowd into few partitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.errors import BadRequest
from penstock.protocol.checksum import crc32c

_GOLDEN: Final = 0x9E37_79B1
_MASK: Final = 0xFFFF_FFFF
NO_SLOT: Final = 0


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`: 0 to `partitions` - 1.

    Raises:
        BadRequest: there are no partitions to choose from.
    """
    if partitions < 1:
        raise BadRequest(f"there are {partitions} partitions to choose from")
    return ((crc32c(key) * _GOLDEN & _MASK) * partitions) >> 32


def partitions_for_keys(keys: Iterable[bytes], partitions: int) -> list[int]:
    """`partition_for_key` of many keys.

    Raises:
        BadRequest: there are no partitions to choose from.
    """
    if partitions < 1:
        raise BadRequest(f"there are {partitions} partitions to choose from")
    return [((each * _GOLDEN & _MASK) * partitions) >> 32 for each in map(crc32c, keys)]


def key_slot(key: bytes) -> int:
    """The 16-bit slot of a key: records of one slot keep their order within a partition.

    Never `NO_SLOT`, which stands for a record without a key.
    """
    return crc32c(key) & 0xFFFF or 1


def key_slots(keys: Iterable[bytes | None]) -> list[int]:
    """The key-slot column of records with these keys."""
    return [NO_SLOT if key is None else crc32c(key) & 0xFFFF or 1 for key in keys]


def tenant_slots(keys: Iterable[bytes | None], separator: bytes) -> list[int]:
    """The tenant-slot column: a tenant is a key's part before the first separator, or all of it."""
    return [
        NO_SLOT if key is None else crc32c(key.partition(separator)[0]) & 0xFFFF or 1
        for key in keys
    ]
