"""Looks whether the disk answers and the rounds stay short, by the machine's own clock.

It says so once per stall, and counts. A disk that does not answer for seconds blocks every
acknowledgment that this broker gives, so the leads are handed to brokers whose disks do.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from penstock_broker.node.node import Node
from penstock_broker.runtime.worker import Worker

STALL_SECONDS: Final = 2.0
"""After which a flush that is under way is told of."""
HAND_OVER_SECONDS: Final = 5.0
"""After which the leads are handed over, if anybody can take them."""
SLOW_ROUND_SECONDS: Final = 0.5

log = logging.getLogger("penstock.broker.watchdog")


class Watchdog:
    """Watches the committer and the rounds of one reactor."""

    def __init__(self, node: Node, committer: Worker) -> None:
        self._node = node
        self._committer = committer
        self._told_of: float | None = None
        """Beginning of the stall that was told of."""
        self._handed_over: float | None = None
        """Beginning of the stall for which leads were handed over."""
        self.disk_stalls = 0
        self.slow_rounds = 0

    def round_took(self, seconds: float) -> None:
        """A long round is over; nothing else was served meanwhile."""
        self.slow_rounds += 1
        log.warning("a round took long", extra={"seconds": round(seconds, 3)})

    def look(self) -> None:
        """A few times a second: how long has the disk been silent?"""
        since = self._committer.since
        if since is None:
            if self._told_of is not None:
                log.info("the disk answers again")
            self._told_of = None
            return
        silent = time.monotonic() - since
        if silent > STALL_SECONDS and self._told_of != since:
            self._told_of = since
            self.disk_stalls += 1
            log.warning("the disk does not answer", extra={"seconds": round(silent, 1)})
        if silent > HAND_OVER_SECONDS and self._handed_over != since:
            self._hand_over(since)

    def _hand_over(self, since: float) -> None:
        hand_over = self._node.hand_over
        if self._node.membership.started and hand_over.possible and not hand_over.under_way:
            self._handed_over = since
            log.warning("leads are handed over: the disk does not answer")
            hand_over.begin()
