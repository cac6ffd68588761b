"""Which replica a subscription reads, and how sure its answers are.

Every read is of committed records. `leader` asks who leads; `linearizable` has the leader make sure
that it still leads, so that an answer is no older than the question; `nearest` asks the replica
that comes first among the servers that the client was given, which may be some way behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from penstock._core.scheduler import Operation
from penstock.errors import BadRequest
from penstock.protocol.frames import FETCH_ANY_REPLICA, FETCH_LINEARIZABLE

if TYPE_CHECKING:
    from penstock._core.metadata import Metadata
    from penstock._core.pool import Pool
    from penstock._core.wire import Wire

Read = Literal["leader", "linearizable", "nearest"]
MetadataRead = Literal["nearest", "linearizable"]

_FLAGS: Final = {"leader": 0, "linearizable": FETCH_LINEARIZABLE, "nearest": FETCH_ANY_REPLICA}


def flags_of(read: str) -> int:
    """What a request says of who may answer it.

    Raises:
        BadRequest: there is no such kind of read.
    """
    flags = _FLAGS.get(read)
    if flags is None:
        raise BadRequest(f"read is one of {', '.join(get_args(Read))}, not {read!r}")
    return flags


def is_linearizable(read: str) -> bool:
    """Whether a broker makes sure of its metadata before it answers.

    Raises:
        BadRequest: there is no such kind of read.
    """
    if read not in get_args(MetadataRead):
        kinds = ", ".join(get_args(MetadataRead))
        raise BadRequest(f"read is one of {kinds} for metadata, not {read!r}")
    return read == "linearizable"


class Source:
    """Where the fetches of a subscription go."""

    __slots__ = ("_metadata", "_pool", "flags", "nearest")

    def __init__(self, read: Read, metadata: Metadata, pool: Pool) -> None:
        self.flags = flags_of(read)
        self.nearest = read == "nearest"
        self._metadata = metadata
        self._pool = pool

    def wire(self, topic: str, partition: int, leader_only: bool) -> Operation[Wire]:
        """A connection to the replica to ask.

        Raises:
            TopicNotFound: there is no such topic.
        """
        if self.nearest and not leader_only:
            replicas = self._metadata.partition(topic, partition).replicas
            wire = self._pool.wire_to_nearest(replicas)
            if wire is not None:
                return wire
        wire = yield from self._metadata.leader_wire(topic, partition)
        return wire
