"""Records as programs write them: JSON of a given size, distinct, and as compressible as that is.

Pure: the same seed gives the same records.
"""

from __future__ import annotations

import random
import struct
from typing import Final

import msgspec

POOL_BYTES: Final = 4 << 20
POOL_RECORDS_MIN: Final = 512
POOL_RECORDS_MAX: Final = 8_192
_STAMP: Final = struct.Struct("<d")

_WORDS: Final = (
    *("order", "shipment", "invoice", "payment", "customer", "parcel", "warehouse", "address"),
    *("delivered", "pending", "refund", "express", "standard", "signature", "neighbour", "gift"),
    *("morning", "evening", "fragile", "voucher", "discount", "balance", "account", "currency"),
    *("weight", "volume", "carrier", "route", "station", "platform", "confirmed", "cancelled"),
)
# Every fifth is a number: prose alone would compress too well.
_MIXED: Final = _WORDS * 8 + tuple(str(number * 1543 % 100_000) for number in range(64))
_STATES: Final = ("created", "paid", "packed", "shipped", "delivered", "returned")


def make_values(size: int, seed: int = 1) -> list[bytes]:
    """A pool of distinct values, each exactly `size` bytes long.

    The pool is larger than any batch, so that no batch holds a value twice and compresses better
    than real records would.
    """
    source = random.Random(seed)
    count = min(POOL_RECORDS_MAX, max(POOL_RECORDS_MIN, POOL_BYTES // size))
    return [_value(source, number, size) for number in range(count)]


def _value(source: random.Random, number: int, size: int) -> bytes:
    head = {
        "id": f"{source.getrandbits(48):012x}",
        "customer": f"customer-{source.randrange(50_000)}",
        "state": source.choice(_STATES),
        "total": source.randrange(100, 500_000) / 100,
        "at": f"2026-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}T"
        f"{source.randrange(24):02}:{source.randrange(60):02}:{source.randrange(60):02}Z",
        "n": number,
    }
    text = msgspec.json.encode(head)
    note_frame = len(b',"note":""')
    if len(text) + note_frame > size:
        return _short(source, size)
    return text[:-1] + b',"note":"' + _words(source, size - len(text) - note_frame) + b'"}'


def _words(source: random.Random, length: int) -> bytes:
    text = " ".join(source.choices(_MIXED, k=length // 3 + 1))
    return text[:length].encode()


def _short(source: random.Random, size: int) -> bytes:
    text = b'{"id":"%012x","s":"' % source.getrandbits(48)
    if len(text) + 2 > size:
        return (b"%012x" % source.getrandbits(48)).ljust(size, b"0")[:size]
    return text + _words(source, size - len(text) - 2) + b'"}'


def slice_of(values: list[bytes], at: int, count: int) -> list[bytes]:
    """So many values of the pool from a place on, going round."""
    at %= len(values)
    part = values[at : at + count]
    while len(part) < count:
        part += values[: count - len(part)]
    return part


def stamp(value: bytes, due: float) -> bytes:
    """The value with a time in its first bytes."""
    return _STAMP.pack(due) + value[_STAMP.size :]


def stamped_at(value: bytes | None) -> float:
    """The time that `stamp` put in."""
    assert value is not None
    due: float = _STAMP.unpack_from(value)[0]
    return due
