"""Looks whether the disk answers and has room, and the rounds stay short, by the machine's clock.

It says so once per stall, and counts. A disk that does not answer for seconds blocks every
acknowledgment that this broker gives, and one that is full every publish, so the leads are handed
to brokers whose disks do better.
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
FULL_SECONDS: Final = 1.0
"""After which leads are handed over because the disk is full."""
AGAIN_SECONDS: Final = 2.0
"""Not more often than that; no lead goes to a disk that is known to be full as well."""
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
        self._full_since: float | None = None
        self._full_seen = -FULL_SECONDS
        """When it was full last: what can't be written is tried again now and then."""
        self._full_told = -AGAIN_SECONDS
        """When leads were handed over last because the disk was full."""
        self._accepting = True
        self.disk_stalls = 0
        self.slow_rounds = 0

    def round_took(self, seconds: float) -> None:
        """A long round is over; nothing else was served meanwhile."""
        self.slow_rounds += 1
        log.warning("a round took long", extra={"seconds": round(seconds, 3)})

    def look(self) -> None:
        """A few times a second: how long has the disk been silent, or full?"""
        self._look_for_room(time.monotonic())
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
        due = silent > HAND_OVER_SECONDS and self._handed_over != since
        if due and self._hand_over("the disk does not answer"):
            self._handed_over = since

    def look_for_backlog(self) -> None:
        """Once a second: say so when publishes begin to be refused, and when they are taken."""
        accepting = self._node.store.accepting
        if accepting == self._accepting:
            return
        self._accepting = accepting
        if accepting:
            log.info("publishes are accepted again")
        else:
            log.warning("publishes are refused: the disk is nearly full, or can't keep up")

    def _look_for_room(self, now: float) -> None:
        if not self._node.store.full:
            if now - self._full_seen >= FULL_SECONDS:
                self._full_since = None
            return
        self._full_seen = now
        self._full_since = now if self._full_since is None else self._full_since
        due = now - self._full_since >= FULL_SECONDS and now - self._full_told >= AGAIN_SECONDS
        if due and self._hand_over("the disk is nearly full"):
            self._full_told = now

    def _hand_over(self, reason: str) -> bool:
        """Give the leads away; False: nobody can take any, or it is under way."""
        hand_over = self._node.hand_over
        if not self._node.membership.started or hand_over.under_way or not hand_over.possible:
            return False
        log.warning("leads are handed over: " + reason)
        hand_over.begin()
        return True
