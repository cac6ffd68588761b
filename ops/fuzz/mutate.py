"""Mutations of byte strings: small, stacked, and fond of the numbers that formats trip over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    *(0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 95, 96, 97, 127, 128, 255, 256, 257),
    *(2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
BYTES_MAX = 6_000


def flip(data: bytearray, rng: Random) -> None:
    """Turn one bit over."""
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace(data: bytearray, rng: Random) -> None:
    """Set one byte."""
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def write_number(data: bytearray, rng: Random) -> None:
    """Overwrite 2, 4 or 8 bytes with a number."""
    size = rng.choice((2, 4, 8))
    if len(data) < size:
        return
    number = rng.choice((*NUMBERS, len(data), len(data) - 1, len(data) + 1))
    at = rng.randrange(len(data) - size + 1)
    wrapped = number % (1 << 8 * size)
    data[at : at + size] = (
        wrapped.to_bytes(size, "little") if rng.random() < 0.5 else wrapped.to_bytes(size, "big")
    )


def insert(data: bytearray, rng: Random) -> None:
    """Put a few bytes in."""
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 1, 2, 4, 8, 20)))


def delete(data: bytearray, rng: Random) -> None:
    """Take a slice out."""
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.choice((1, 1, 2, 4, 8, 50))]


def repeat(data: bytearray, rng: Random) -> None:
    """Put a slice in again."""
    if data:
        at = rng.randrange(len(data))
        piece = data[at : at + rng.randrange(1, 64)]
        data[at:at] = piece * rng.choice((1, 1, 2, 8))


def truncate(data: bytearray, rng: Random) -> None:
    """Cut the end off."""
    if data:
        del data[rng.randrange(len(data)) :]


MUTATIONS: Sequence[Callable[[bytearray, Random], None]] = (
    *(flip, flip, replace, replace, write_number, write_number),
    *(insert, delete, repeat, truncate),
)


def mutated(corpus: Sequence[bytes], rng: Random) -> bytearray:
    """A mutation of something from the corpus, sometimes of two things joined."""
    data = bytearray(rng.choice(corpus))
    if rng.random() < 0.1:
        other = rng.choice(corpus)
        data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        rng.choice(MUTATIONS)(data, rng)
    del data[BYTES_MAX:]
    return data
