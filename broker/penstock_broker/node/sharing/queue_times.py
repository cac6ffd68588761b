"""How long records wait between being appended and being settled: a fixed histogram per group.

Soft state of the partition's leader: it begins anew with the lead. A bucket is a quarter of an
octave wide, so a percentile is right within a fifth.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Final

from penstock_broker.machine.effects import Effect, RecordsSettled, SharedRemoved
from penstock_broker.node.sharing.ages import tail_ages
from penstock_broker.node.sharing.spans import pairs, without

if TYPE_CHECKING:
    from penstock_broker.node.partition import PartitionGroup

PER_OCTAVE: Final = 4
BUCKETS: Final = 40 * PER_OCTAVE
"""From 1 ms to some 35 years."""
PERCENTILES: Final = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


class Histogram:
    """Durations in logarithmic buckets, milliseconds."""

    __slots__ = ("_buckets", "_count", "_max_us")

    def __init__(self) -> None:
        self._buckets = [0] * BUCKETS
        self._count = 0
        self._max_us = 0

    def add(self, duration_us: int, count: int) -> None:
        """Count records that took so long."""
        bucket = 0
        if duration_us > 1000:
            bucket = min(int(log2(duration_us / 1000) * PER_OCTAVE) + 1, BUCKETS - 1)
        self._buckets[bucket] += count
        self._count += count
        if duration_us > self._max_us:
            self._max_us = duration_us

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 (upper ends of buckets) and max, in ms; empty: nothing was counted."""
        if not self._count:
            return {}
        largest = self._max_us / 1000
        found: dict[str, float] = {}
        for name, share in PERCENTILES.items():
            rank, seen = share * self._count, 0
            for bucket, count in enumerate(self._buckets):
                seen += count
                if seen >= rank:
                    found[name] = round(min(2 ** (bucket / PER_OCTAVE), largest), 3)
                    break
        return {**found, "max": round(largest, 3)}


class QueueTimes:
    """The histograms of one partition's groups; a part of its `SharedPartition`."""

    __slots__ = ("_histograms", "_partition")

    def __init__(self, partition: PartitionGroup) -> None:
        self._partition = partition
        self._histograms: dict[str, Histogram] = {}

    def of(self, group: str) -> dict[str, float]:
        """Percentiles of a group, in milliseconds."""
        histogram = self._histograms.get(group)
        return histogram.percentiles() if histogram is not None else {}

    def on_leading(self) -> None:
        self._histograms.clear()

    def on_lost_leadership(self) -> None:
        self._histograms.clear()

    def on_effects(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, RecordsSettled):
                if effect.done:
                    self._count(effect.group, effect.done)
            elif isinstance(effect, SharedRemoved):
                self._histograms.pop(effect.group, None)

    def _count(self, group: str, done: Sequence[int]) -> None:
        histogram = self._histograms.get(group)
        if histogram is None:
            histogram = self._histograms[group] = Histogram()
        log, now_us = self._partition.log, self._partition.node.wall_us
        spans = sorted(pairs(done))
        end = spans[-1][0] + spans[-1][1]
        if spans[0][0] < log.start_offset or end > log.end_offset:
            spans = without(spans, [(0, log.start_offset), (log.end_offset, end)])
        for age_us, records in tail_ages(log, spans, now_us):
            histogram.add(age_us, records)

    def tick(self) -> None:
        """Nothing depends on time here."""

    @property
    def next_us(self) -> int | None:
        return None
