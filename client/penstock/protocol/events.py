"""What a connection yields and is asked to send: the same classes in both directions.

A client sends `Request`, `Publish` and `Fetch` and receives `Reply`, `Published`, `Fetched` and
`Failed`; a broker the other way round, and `Malformed` for a request that it should refuse with a
`Failed`. Correlation ids are the client's choice, one per request in flight.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from penstock.errors import PenstockError
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import ACKS_QUORUM
from penstock.protocol.messages import Message


class Pause(Enum):
    """Not an event: why there is none."""

    NEED_DATA = 1


NEED_DATA = Pause.NEED_DATA


class Event(Struct, frozen=True, gc=False):
    """Base of all events."""


class Request(Event, frozen=True, gc=False):
    """A request other than publish and fetch."""

    correlation: int
    message: Message


class Publish(Event, frozen=True, gc=False):
    """A publish of one batch; the batch is not checked yet."""

    correlation: int
    group: int
    batch: Buffer
    acks: int = ACKS_QUORUM
    timeout_ms: int = 0


class Fetch(Event, frozen=True, gc=False):
    """A long-polling read of a partition."""

    correlation: int
    group: int
    offset: int
    max_bytes: int
    min_bytes: int = 1
    max_wait_ms: int = 0
    flags: int = 0
    """`FETCH_ANY_REPLICA`, `FETCH_LINEARIZABLE`."""


class Malformed(Event, frozen=True, gc=True):
    """A request that can't be read; the connection lives on.

    Tracked by the garbage collector, as `Failed`: an error can be part of a cycle, by way of its
    traceback and a frame that holds the event.
    """

    correlation: int
    type: int
    error: PenstockError


class Reply(Event, frozen=True, gc=False):
    """The answer to a `Request`."""

    correlation: int
    message: Message


class Published(Event, frozen=True, gc=False):
    """The answer to a `Publish`: it is as durable as its acks asked for."""

    correlation: int
    base_offset: int
    append_ts_us: int
    duplicate: bool = False
    """Whether these records were there already, from an earlier attempt."""
    group: int = 0


class Fetched(Event, frozen=True, gc=False):
    """The answer to a `Fetch`: whole batches, the first maybe from below the wanted offset."""

    correlation: int
    high_watermark: int
    log_start_offset: int
    batches: Buffer
    group: int = 0


class Failed(Event, frozen=True, gc=True):
    """An error in answer to a request; with type 0 the reason why the broker closes."""

    correlation: int
    type: int
    error: PenstockError


class Closed(Event, frozen=True, gc=False):
    """The peer ended the connection between two frames."""
