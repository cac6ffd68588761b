"""Brokers that say nothing any more: stopped, cut off, or gone without closing the connection.

A connection with unanswered calls on which nothing is heard gets a question that every broker
answers at once. While that stays unanswered too the others are asked who leads; the connection is
given up as soon as its broker leads nothing that is used here, or after `LOST_SECONDS`, so that
what was sent on it is sent to somebody else. Invariants: only time in which this client could have
heard something counts; a broker that is alone is never given up, since nobody could replace it.
"""

from __future__ import annotations

from typing import Final

from penstock._core.metadata import Metadata
from penstock._core.pool import Pool
from penstock._core.scheduler import Operation, Process, Scheduler
from penstock._core.wire import Wire
from penstock.errors import ConnectionLost
from penstock.protocol.messages import Metadata as MetadataRequest

LOOK_SECONDS: Final = 0.25
ASK_SECONDS: Final = 0.75
"""Silence after which a broker is asked, if it owes an answer to a publish."""
ASK_PATIENT_SECONDS: Final = 2.0
"""If it may only be waiting for records itself."""
ANSWER_SECONDS: Final = 0.5
"""How long a healthy broker takes for the answer, at the most."""
LOST_SECONDS: Final = 2.5
"""Silence after the question for which a connection is given up in any case."""


class _Quiet:
    """How long nothing was heard on a wire."""

    __slots__ = ("asked", "heard_at", "seconds")

    def __init__(self) -> None:
        self.heard_at = -1.0
        self.seconds = 0.0
        self.asked: float | None = None
        """Silence when the question was sent."""


class Silence:
    """Looks at all wires of a client a few times a second, once it knows of several brokers."""

    def __init__(
        self, scheduler: Scheduler, pool: Pool, metadata: Metadata, request_timeout: float
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._metadata = metadata
        self._timeout = request_timeout
        self._quiet: dict[Wire, _Quiet] = {}
        self._looked_at = 0.0
        self._process: Process[None] | None = None
        metadata.on_refresh.append(self._refreshed)

    def _refreshed(self) -> None:
        for wire in [wire for wire in self._quiet if wire.doubtful]:
            if not self._metadata.is_led_by(wire.node):
                self._give_up(wire)
        if self._process is None and self._pool.several:
            self._process = self._scheduler.spawn(self._run(), essential=True)

    def _run(self) -> Operation[None]:
        self._looked_at = self._scheduler.now
        while True:
            yield self._scheduler.sleep(LOOK_SECONDS)
            now = self._scheduler.now
            # A program that did not let us run has not listened either.
            passed = min(now - self._looked_at, 2 * LOOK_SECONDS)
            self._looked_at = now
            before, self._quiet = self._quiet, {}
            for wire in list(self._pool.wires):
                if wire.ready and wire.calls:
                    quiet = self._quiet[wire] = before.get(wire) or _Quiet()
                    self._look(wire, quiet, passed)
                else:
                    self._trust(wire)

    def _look(self, wire: Wire, quiet: _Quiet, passed: float) -> None:
        if wire.last_heard != quiet.heard_at:
            quiet.heard_at, quiet.seconds, quiet.asked = wire.last_heard, 0.0, None
            self._trust(wire)
            return
        quiet.seconds += passed
        if quiet.asked is None:
            if quiet.seconds >= (ASK_SECONDS if wire.unanswered else ASK_PATIENT_SECONDS):
                quiet.asked = quiet.seconds
                deadline = self._scheduler.now + self._timeout
                self._pool.request(wire, MetadataRequest(topics=[]), deadline)
        elif quiet.seconds - quiet.asked >= LOST_SECONDS:
            self._give_up(wire)
        elif quiet.seconds - quiet.asked >= ANSWER_SECONDS:
            wire.doubtful = True
            self._pool.reach_out()
            self._metadata.refresh()

    def _trust(self, wire: Wire) -> None:
        if wire.doubtful:
            wire.doubtful = False
            self._pool.bell.ring()

    def _give_up(self, wire: Wire) -> None:
        if self._pool.several:
            wire.lost(ConnectionLost(f"the broker at {wire.address} does not answer"))
