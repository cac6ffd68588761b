"""One request with its retries: the right node, fresh metadata, pauses, and a time limit."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, TypeVar

from penstock._core.metadata import Metadata, leader_hint
from penstock._core.options import Options
from penstock._core.pool import UNFORMED_SECONDS, Pool
from penstock._core.scheduler import Operation, Scheduler
from penstock._core.wire import Wire
from penstock.errors import (
    ClusterUnformed,
    ConnectionLost,
    LeaderUnknown,
    NotLeader,
    RemoteProtocolError,
    RetriableError,
    TimedOut,
)
from penstock.protocol.messages import Message

M = TypeVar("M", bound=Message)

LOOK_PAUSE: Final = 0.1
"""Seconds between two looks, while some leader is missing."""
NODE_PATIENCE: Final = 1.0
"""Seconds to wait for one node before any other is asked for the way."""


class Requests:
    """Sends messages and retries what may be retried."""

    def __init__(
        self, scheduler: Scheduler, pool: Pool, metadata: Metadata, options: Options
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._metadata = metadata
        self._options = options
        self._homes: dict[str, int] = {}

    def look(
        self, request: Message, expected: type[M], complete: Callable[[M], bool], seconds: float
    ) -> Operation[M]:
        """Ask again and again until all is told, for so many seconds; return what was told last."""
        begun = self._scheduler.now
        while True:
            reply = yield from self.call(request, expected)
            if complete(reply) or self._scheduler.now - begun >= seconds:
                return reply
            yield self._scheduler.sleep(LOOK_PAUSE)

    def call(
        self,
        request: Message,
        expected: type[M],
        *,
        node: int = 0,
        safe: bool = True,
        home: str = "",
        timeout: float | None = None,
        patience: float | None = None,
    ) -> Operation[M]:
        """Send a request and return its reply.

        Args:
            request: what to ask.
            expected: the reply's class.
            node: whom to ask; 0: any broker. A broker that knows better is followed.
            home: what the answering broker is remembered under, for the next request.
            safe: whether it may be sent again when the outcome of the first time is unknown.
            timeout: seconds for all attempts together.
            patience: seconds to go on while no leader is known, if these are fewer.

        Raises:
            RetriableError: it went on until the time was over.
            RequestError: the broker refused.
        """
        begun = self._scheduler.now
        deadline = begun + (timeout or self._options.request_timeout)
        attempt = 0
        node = node or self._homes.get(home, 0)
        while True:
            wire = yield from self._wire(node, deadline)
            try:
                reply = yield self._pool.request(wire, request, deadline)
            except (ConnectionLost, TimedOut) as error:
                if not safe or self._scheduler.now >= deadline:
                    error.detail["outcome"] = "unknown"
                    raise
                last: RetriableError = error
                node = 0  # any other broker passes it on
            except NotLeader as error:
                node = leader_hint(error)
                last = error
            except RetriableError as error:
                node = 0
                last = error
                deadline = min(deadline, self._patience(wire, error, begun, patience))
            else:
                if not isinstance(reply, expected):
                    raise RemoteProtocolError(f"expected {expected.__name__} as the reply")
                if home:
                    self._homes[home] = wire.node
                return reply
            attempt += 1
            # Who names the leader saves the pause, unless two brokers name each other.
            pause = 0.0 if node and attempt == 1 else self._pool.backoff(attempt)
            if self._scheduler.now + pause >= deadline:
                raise last
            yield self._scheduler.sleep(pause)

    def _patience(
        self, wire: Wire, error: RetriableError, begun: float, patience: float | None
    ) -> float:
        """Until when to go on after a refusal, at the most."""
        if isinstance(error, LeaderUnknown) and patience is not None:
            return begun + patience
        if not isinstance(error, ClusterUnformed):
            return inf
        self._pool.shun(wire, error)
        return begun + UNFORMED_SECONDS

    def _wire(self, node: int, deadline: float) -> Operation[Wire]:
        """A ready connection to the node; to any other if that one can't be reached soon."""
        patience = self._scheduler.now + NODE_PATIENCE
        if node and not self._pool.knows(node):
            self._metadata.refresh()
            yield self._metadata.bell.wait(min(deadline, patience))
        while True:
            wire = self._pool.wire_to(node) if node else None
            if wire is None and (not node or self._scheduler.now >= patience):
                wire = self._pool.any_wire()
            if wire is not None:
                return wire
            if self._scheduler.now >= deadline:
                raise self._pool.no_connection()
            until = min(deadline, patience) if node and self._scheduler.now < patience else deadline
            yield self._pool.bell.wait(until)
