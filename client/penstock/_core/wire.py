"""One connection to a broker, from the first attempt to its end; never reused.

A reconnect makes a new `Wire`, so nothing of an old connection can reach a new one. Every request
on it is a `Call`, found again by its correlation id and told exactly once how it ended: `answered`,
`refused` or `lost`. Invariants: after `lost` there is no pending call and nothing to send; a call's
answer that comes after its deadline is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final, Protocol

from penstock._core.inbox import Inbox
from penstock.errors import ConnectionLost, PenstockError, ProtocolError, RemoteProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import decode_error
from penstock.protocol.frames import FLAG_ERROR, FLAG_RESPONSE, FRAME_HEADER_BYTES, Frame

CORRELATION_MAX: Final = 0xFFFF_FFFF


class WireState(Enum):
    """Where a connection is in its life; it only moves downwards."""

    OPENING = 1
    GREETING = 2
    READY = 3
    LOST = 4


class Call(Protocol):
    """One request that waits for its reply.

    Attributes:
        deadline: monotonic time after which the answer is not wanted any more.
    """

    deadline: float

    def answered(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        """The reply is the frame in the buffer; it may be kept only if owned."""

    def refused(self, error: PenstockError) -> None:
        """The reply is an error."""

    def lost(self, error: PenstockError) -> None:
        """The connection ended first; the outcome is unknown."""

    def expired(self) -> None:
        """The deadline passed first; the outcome is unknown."""


class Wire:
    """A connection as the core sees it; the driver does what `state` and `closing` ask for."""

    __slots__ = (
        "_correlation",
        "_inbox",
        "_on_change",
        "_on_output",
        "_out",
        "backlog",
        "batch_bytes_max",
        "calls",
        "closing",
        "credit",
        "doubtful",
        "error",
        "handle",
        "host",
        "last_heard",
        "node",
        "port",
        "queued",
        "state",
        "unanswered",
    )

    def __init__(
        self,
        host: str,
        port: int,
        on_output: Callable[[Wire], None],
        on_change: Callable[[Wire], None],
    ) -> None:
        self.host = host
        self.port = port
        self.state = WireState.OPENING
        self.closing = False
        """The driver is to close the transport; it will not be used again."""
        self.error: PenstockError | None = None
        self.handle: object = None
        """The driver's own, untouched here."""
        self.node = 0
        self.credit = 0
        self.batch_bytes_max = 0
        self.unanswered = 0
        """Published bytes that are not answered yet."""
        self.backlog = 0
        """Bytes that the driver holds because the transport takes no more now."""
        self.calls: dict[int, Call] = {}
        self.last_heard = 0.0
        self.doubtful = False
        """Whether the broker owes an answer that a healthy one would have given by now."""
        self.queued = False
        """Whether the output is announced to the driver already."""
        self._correlation = 0
        self._inbox = Inbox()
        self._out: list[Buffer] = []
        self._on_output = on_output
        self._on_change = on_change

    # ----- for the driver

    def opened(self) -> None:
        """The transport is connected."""
        if self.state is WireState.OPENING:
            self.state = WireState.GREETING
            self._on_change(self)

    def space(self) -> memoryview:
        """Where the next received bytes belong."""
        return self._inbox.space()

    def received(self, count: int, now: float) -> None:
        """`count` bytes were written to `space()`; 0: the peer closed its side."""
        if self.state is WireState.LOST:
            return
        if not count:
            self.lost(ConnectionLost(f"the broker at {self.address} closed the connection"))
            return
        self.last_heard = now
        try:
            for buffer, frames, owned in self._inbox.filled(count):
                for frame in frames:
                    self._dispatch(buffer, frame, owned)
        except ProtocolError as error:
            self.lost(error)

    def lost(self, error: PenstockError) -> None:
        """The transport is gone, or is to be given up; every call is told."""
        if self.state is WireState.LOST:
            return
        self.state = WireState.LOST
        self.closing = True
        self.error = error
        self._out = []
        calls, self.calls = self.calls, {}
        self.unanswered = 0
        for call in calls.values():
            call.lost(error)
        self._on_change(self)

    def take_output(self) -> list[Buffer]:
        """The bytes to send now, in order."""
        self.queued = False
        out, self._out = self._out, []
        return out

    # ----- for the core

    @property
    def address(self) -> str:
        """The address in words."""
        return f"{self.host}:{self.port}"

    @property
    def ready(self) -> bool:
        """Whether requests may be sent."""
        return self.state is WireState.READY

    def has_credit(self, size: int) -> bool:
        """Whether a batch may be published without the broker ceasing to read."""
        waiting = max(self.unanswered, self.backlog)
        return waiting + size <= self.credit or not waiting

    def expect(self, call: Call) -> int:
        """Register a call and give it its correlation id."""
        correlation = self._correlation = self._correlation % CORRELATION_MAX + 1
        self.calls[correlation] = call
        return correlation

    def send(self, *buffers: Buffer) -> None:
        """Queue bytes."""
        self._out.extend(buffers)
        if not self.queued:
            self.queued = True
            self._on_output(self)

    def expire(self, now: float, silence: float) -> float:
        """Drop calls whose time is over; returns the earliest deadline that remains.

        A connection on which a call expired and nothing at all was heard for `silence` seconds is
        given up: its peer is gone without a word.
        """
        late = [number for number, call in self.calls.items() if call.deadline <= now]
        for number in late:
            self.calls.pop(number).expired()
        if late and now - self.last_heard >= silence:
            self.lost(ConnectionLost(f"the broker at {self.address} does not answer"))
        return min((call.deadline for call in self.calls.values()), default=inf)

    def _dispatch(self, buffer: bytearray, frame: Frame, owned: bool) -> None:
        if not frame.flags & FLAG_RESPONSE:
            raise RemoteProtocolError("a broker sent a request")
        call = self.calls.pop(frame.correlation, None)
        try:
            self._answer(call, buffer, frame, owned)
        except ProtocolError:
            if call is not None:
                self.calls[frame.correlation] = call  # told with all others that are lost
            raise

    def _answer(self, call: Call | None, buffer: bytearray, frame: Frame, owned: bool) -> None:
        if frame.flags & FLAG_ERROR:
            body = memoryview(buffer)[frame.start + FRAME_HEADER_BYTES : frame.end]
            error = decode_error(body)
            if call is not None:
                call.refused(error)
            elif not frame.correlation:
                # The broker says why it is about to close the connection.
                self.lost(error)
        elif call is not None:
            call.answered(buffer, frame, owned)
