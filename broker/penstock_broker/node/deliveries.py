"""Batches that a broker publishes itself into a partition: who is to be told of their outcome.

Invariants: in a partition they end in log order, and with the lead all of them end before another
can be made. For one that is led elsewhere each producer has one batch on its way at a time: if that
fails, those behind it fail with it, so that none is ever stored before one it comes after.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock.errors import (
    BadRequest,
    LeaderUnknown,
    NotLeader,
    PenstockError,
    Throttled,
    TopicNotFound,
)
from penstock.protocol.batch import HEADER_BYTES, parse_header
from penstock.protocol.frames import FLAG_RESPONSE, FRAME_HEADER, FRAME_HEADER_BYTES
from penstock_broker.raft import NOBODY

if TYPE_CHECKING:
    from penstock_broker.node.node import Node
    from penstock_broker.node.session import Session

DELIVER: Final = 0xF5
"""Type of the frame, inside a RELAY, that publishes for another node: the group in its header, from
where on the batch may skip, the batch. The reply: base offset."""
QUEUE_MAX: Final = 64
"""Batches of one producer that wait for one partition led elsewhere."""

_SKIPS: Final = struct.Struct("<q")
_REPLY: Final = struct.Struct("<IBBHIIQ")

Done = Callable[[int, PenstockError | None], None]
"""Base offset (`UNKNOWN_OFFSET`: it is too long ago), or the error that left the outcome open."""


def deliver(node: Node, gid: int, batch: bytearray, done: Done, skips_from: int = -1) -> None:
    """Publish into a partition wherever it is led; see `PartitionGroup.deliver`.

    What is refused elsewhere is told to `done`, not raised.

    Raises:
        TopicNotFound: the partition is deleted.
        NotLeader, LeaderUnknown: nobody leads it at the moment.
        PenstockError: it does not take the batch.
    """
    partition = node.partitions.get(gid)
    if partition is not None and partition.leading and not node.abroad.waits(gid, batch):
        partition.deliver(batch, done, skips_from)
    elif node.groups.metadata.machine.is_deleted(gid):
        raise TopicNotFound("the target of a move was deleted")
    else:
        node.abroad.add(gid, batch, done, skips_from)


class Abroad:
    """What this node publishes into partitions that are led elsewhere."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._queues: dict[tuple[int, int], deque[tuple[bytearray, Done, int]]] = {}
        """By group and producer; the first of each is on its way."""

    def waits(self, gid: int, batch: bytearray) -> bool:
        """Whether others of the batch's producer must come before it."""
        return bool(self._queues) and (gid, parse_header(batch).producer_id) in self._queues

    def add(self, gid: int, batch: bytearray, done: Done, skips_from: int) -> None:
        """Send a batch behind those before it.

        Raises:
            LeaderUnknown: nobody leads the partition.
            Throttled: too many wait.
        """
        key = gid, parse_header(batch).producer_id
        queue = self._queues.get(key)
        if queue is None:
            if self._node.groups.leader_of(gid)[1] == NOBODY:
                raise LeaderUnknown("the target has no leader at the moment")
            self._queues[key] = deque([(batch, done, skips_from)])
            self._send(key)
        elif len(queue) >= QUEUE_MAX:
            raise Throttled(f"{QUEUE_MAX} batches wait for a partition that is led elsewhere")
        else:
            queue.append((batch, done, skips_from))

    def _send(self, key: tuple[int, int]) -> None:
        batch, _, skips_from = self._queues[key][0]
        length = FRAME_HEADER_BYTES + _SKIPS.size + len(batch)
        made = bytearray(FRAME_HEADER.pack(length, DELIVER, 0, 0, 0, key[0]))
        made += _SKIPS.pack(skips_from)
        made += batch
        leader = self._node.groups.leader_of(key[0])[1]
        self._node.relay.ask_frame(leader, made, lambda reply: self._ended(key, reply))

    def _ended(self, key: tuple[int, int], reply: object) -> None:
        queue = self._queues[key]
        if isinstance(reply, bytes) and len(reply) == _REPLY.size:
            _, done, _ = queue.popleft()
            if queue:
                self._send(key)
            else:
                del self._queues[key]
            done(_REPLY.unpack(reply)[6], None)
            return
        error = reply if isinstance(reply, PenstockError) else BadRequest("the reply is malformed")
        del self._queues[key]
        for _, done, _ in queue:
            done(0, error)


def answer(node: Node, session: Session, correlation: int, gid: int, body: memoryview) -> None:
    """Another node publishes into a partition that is led here; `body` is the whole frame."""

    def done(offset: int, error: PenstockError | None) -> None:
        if error is not None:
            node.reply_error(session, correlation, DELIVER, error)
        else:
            head = (_REPLY.size, DELIVER, FLAG_RESPONSE, 0, correlation, gid)
            node.emit(session, _REPLY.pack(*head, offset))

    try:
        start = FRAME_HEADER_BYTES + _SKIPS.size
        if len(body) < start + HEADER_BYTES:
            raise BadRequest("there is no batch to deliver")
        partition = node.partitions.get(gid)
        if partition is None:
            raise NotLeader("the target of a move is not led from here")
        (skips_from,) = _SKIPS.unpack_from(body, FRAME_HEADER_BYTES)
        partition.deliver(bytearray(body[start:]), done, skips_from)
    except PenstockError as error:
        node.reply_error(session, correlation, DELIVER, error)


class Deliveries:
    """What one partition's leader appended for other parts of the broker."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: deque[tuple[int, int, Done]] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, index: int, offset: int, done: Done) -> None:
        """Remember whom to tell when an entry is applied; indexes never go down."""
        self._flights.append((index, offset, done))

    def applied(self, index: int) -> None:
        """Entries up to this one are committed."""
        flights = self._flights
        while flights and flights[0][0] <= index:
            _, offset, done = flights.popleft()
            done(offset, None)

    def refuse(self, error: PenstockError) -> None:
        """The lead is lost, or the partition is gone."""
        flights, self._flights = self._flights, deque()
        for _, _, done in flights:
            done(0, error)
