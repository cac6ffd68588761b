"""Latencies in buckets of 1.6 % width: small, mergeable, exact enough for percentiles. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

_FRACTION_BITS: Final = 6


def bucket_of(value: int) -> int:
    """The bucket of a value from 0 up; below 64 each value has its own."""
    shift = max(0, value.bit_length() - _FRACTION_BITS - 1)
    return (shift << _FRACTION_BITS) + (value >> shift)


def lowest_of(bucket: int) -> int:
    """The lowest value of a bucket."""
    shift = max(0, (bucket >> _FRACTION_BITS) - 1)
    return (bucket - (shift << _FRACTION_BITS)) << shift


def middle_of(bucket: int) -> int:
    """The middle of a bucket: what its values are taken for."""
    return (lowest_of(bucket) + lowest_of(bucket + 1) - 1) // 2


def count(values: Iterable[int]) -> Counter[int]:
    """Bucket -> how many of the values lie in it."""
    return Counter(map(bucket_of, values))


def merge(histograms: Iterable[Mapping[int, int]]) -> Counter[int]:
    """The sum of several histograms."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return total


def percentile(histogram: Mapping[int, int], share: float) -> int | None:
    """The value that a share (0 to 1) of all lie at or below; None when there are none."""
    wanted = share * sum(histogram.values())
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= wanted:
            return middle_of(bucket)
    return None
