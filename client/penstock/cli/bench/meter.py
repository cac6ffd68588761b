"""Counts the work of one client process, and says when it is enough."""

from __future__ import annotations

import time
from collections import Counter

from penstock.cli.bench.histogram import bucket_of
from penstock.cli.bench.spec import Load, Outcome


class Meter:
    """Records, latencies and CPU time between `start` and `outcome`; safe under threads.

    Each task takes a `Counter` of its own and hands it in when it is done.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.records = 0
        self.latency: Counter[int] = Counter()
        self.deadline = 0.0
        self._started = self._ended = 0.0
        self._cpu = 0.0

    def start(self, seconds: float) -> None:
        """Forget what was counted and begin again, for so many seconds."""
        self.records = 0
        self.latency.clear()
        self._cpu = time.process_time()
        self._started = self._ended = time.perf_counter()
        self.deadline = self._started + seconds

    def over(self) -> bool:
        """Is the time up, or is everything read?"""
        enough = self.load.records
        return time.perf_counter() >= self.deadline or bool(enough and self.records >= enough)

    def add(self, records: int) -> None:
        """Count records that are done now."""
        self.records += records
        self._ended = time.perf_counter()

    def took(self, seconds: float) -> None:
        """Count one latency."""
        self.latency[bucket_of(max(0, round(seconds * 1e6)))] += 1

    def outcome(self) -> Outcome:
        """What was measured: the time runs to the last record, not to the deadline."""
        return Outcome(
            records=self.records,
            seconds=self._ended - self._started,
            cpu_seconds=time.process_time() - self._cpu,
            latency=dict(self.latency),
        )
