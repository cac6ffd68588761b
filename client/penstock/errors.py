"""Every error a user of Penstock can meet, and the wire code of each.

    PenstockError
    ├── RetriableError               trying the same call again can succeed
    │   ├── NotLeader                another broker leads the partition
    │   ├── LeaderUnknown            an election is under way
    │   ├── Throttled                over a limit for the moment
    │   ├── StorageFull              the broker's disk is nearly full
    │   ├── OutOfSequence            an earlier batch of this producer has not arrived
    │   ├── TimedOut                 no answer in time; the outcome is unknown
    │   ├── ConnectionLost           the connection broke; the outcome is unknown
    │   ├── ShuttingDown             the broker is stopping
    │   ├── RebalanceInProgress      the group is moving partitions
    │   └── ClusterUnformed          the broker belongs to no cluster yet
    ├── RequestError                 the request is wrong; repeating it cannot help
    │   ├── BadRequest, InvalidName, InvalidConfig, LimitExceeded, UnsupportedVersion
    │   ├── TopicNotFound, TopicExists, PartitionNotFound, GroupNotFound, MemberUnknown
    │   ├── OffsetOutOfRange, Fenced, UnknownProducer, RecordTooLarge, CorruptBatch
    │   ├── GroupNotEmpty, PreconditionFailed, GroupExists, LeaseLost, ScheduleNotFound
    │   └── WrongCluster
    ├── ProtocolError                the byte stream broke the rules; the connection is closed
    │   ├── LocalProtocolError       this side did it
    │   └── RemoteProtocolError      the peer did it
    ├── StorageError                 the broker's disk or data is at fault
    │   ├── CorruptData              damaged bytes, named exactly; reads of them are refused
    │   ├── DataDirectoryLocked      another broker uses the data directory
    │   ├── UnsupportedFormat        the data directory was written by a newer version
    │   ├── StorageFailure           a write or sync failed: the broker stops
    │   ├── StaleDirectory           the data directory is an older copy: the broker stops
    │   └── MetadataDiverged         it made of the metadata what no majority made: it stops
    ├── ClientClosed                 the client object is closed
    ├── QueueFull                    a bounded buffer has no room now (`publish_nowait`)
    └── UnknownError                 a code this version does not know

Codes never change and are never reused; names may. A class's docstring is its default message, and
`hint` says what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class PenstockError(Exception):
    """Something went wrong in Penstock."""

    code: ClassVar[int] = 1
    retriable: ClassVar[bool] = False
    hint: ClassVar[str] = "See the message."

    def __init__(self, message: str = "", **detail: object) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.message = str(self.args[0])
        self.detail: dict[str, object] = dict(detail)

    def __str__(self) -> str:
        return self.message


class RetriableError(PenstockError):
    """The call may succeed when tried again."""

    code = 2
    retriable = True
    hint = "Try again after a short pause."


class NotLeader(RetriableError):
    """Another broker leads this partition."""

    code = 10
    hint = "Refresh the metadata and send the request to the leader."


class LeaderUnknown(RetriableError):
    """The partition has no leader at the moment."""

    code = 11
    hint = "An election is under way; if it lasts, `penstock cluster health` says why."


class Throttled(RetriableError):
    """A limit of the broker is reached for the moment."""

    code = 12
    hint = "Slow down, or raise the limit that the message names."


class StorageFull(RetriableError):
    """The broker's disk is nearly full: publishes are refused, acks and deletes are not."""

    code = 13
    hint = "Free disk space: shorten retention, delete topics, or grow the disk."


class OutOfSequence(RetriableError):
    """A batch of this producer arrived before an earlier one."""

    code = 14
    hint = "Resend the missing batch first; the client does this by itself."


class TimedOut(RetriableError):
    """No answer arrived in time; the outcome is unknown."""

    code = 15
    hint = "Check that the broker is reachable, or allow more time."


class ConnectionLost(RetriableError):
    """The connection to the broker broke; the outcome of requests in flight is unknown."""

    code = 16
    hint = "Check that the broker runs and that the address is right."


class ShuttingDown(RetriableError):
    """The broker is stopping."""

    code = 17
    hint = "Try another broker, or this one when it is back."


class RebalanceInProgress(RetriableError):
    """The group is moving partitions between its members."""

    code = 18
    hint = "Heartbeat, take the new assignment, then try again."


class ClusterUnformed(RetriableError):
    """This broker belongs to no cluster yet."""

    code = 19
    hint = "Form the cluster once with `penstock cluster init`; brokers that join it follow."


class RequestError(PenstockError):
    """The request can't be carried out as it stands."""

    code = 30
    hint = "Correct the request."


class BadRequest(RequestError):
    """The request is malformed."""

    code = 31


class InvalidName(RequestError):
    """A name is not allowed."""

    code = 32
    hint = "Use 1 to 200 of the characters a-z A-Z 0-9 . _ - and neither '.' nor '..'."


class InvalidConfig(RequestError):
    """A configuration value is not allowed."""

    code = 33


class LimitExceeded(RequestError):
    """A fixed limit would be exceeded."""

    code = 34
    hint = "The message names the limit."


class UnsupportedVersion(RequestError):
    """Client and broker have no protocol version in common."""

    code = 35
    hint = "Upgrade the older side."


class TopicNotFound(RequestError):
    """There is no such topic."""

    code = 40
    hint = "Create it with `penstock topic create NAME`, or check the spelling."


class TopicExists(RequestError):
    """A topic of that name exists already."""

    code = 41
    hint = "Say that it may exist (if_not_exists, --if-not-exists), or choose another name."


class PartitionNotFound(RequestError):
    """The topic has no such partition."""

    code = 42


class GroupNotFound(RequestError):
    """There is no such group."""

    code = 43


class MemberUnknown(RequestError):
    """The group does not know this member: its session ended."""

    code = 44
    hint = "Join again; the client does this by itself."


class OffsetOutOfRange(RequestError):
    """The offset is below the log start or beyond its end."""

    code = 45
    hint = "Seek to an offset between the log start and the log end."


class Fenced(RequestError):
    """A newer generation of this member or producer exists."""

    code = 46
    hint = "This instance lost its place: stop it, or let it join again."


class UnknownProducer(RequestError):
    """The broker no longer holds this producer's sequence; a duplicate can't be excluded."""

    code = 47
    hint = "Decide whether to publish again under a new producer id."


class RecordTooLarge(RequestError):
    """A record or batch is larger than its limit."""

    code = 48
    hint = "Make it smaller, or raise the topic's max_batch_bytes."


class CorruptBatch(RequestError):
    """A record batch is damaged or malformed; nothing of it was stored."""

    code = 49
    hint = "The bytes were damaged on their way or built wrongly; send the records again."


class GroupNotEmpty(RequestError):
    """The group still has members."""

    code = 50
    hint = "Stop its members first."


class PreconditionFailed(RequestError):
    """The state is not what the request expects."""

    code = 51


class GroupExists(RequestError):
    """A shared group of that name exists on the topic already."""

    code = 52
    hint = "Say that it may exist (if_not_exists, --if-not-exists), or choose another name."


class LeaseLost(RequestError):
    """The lease on a record is over; in a strict group it can't be settled any more."""

    code = 53
    hint = "The record is delivered again; make the work idempotent, or the lease longer."


class ScheduleNotFound(RequestError):
    """There is no such schedule."""

    code = 54


class WrongCluster(RequestError):
    """The broker belongs to another cluster, or is not the one that was meant."""

    code = 55
    hint = "Check the addresses, and that no data directory was copied."


class ProtocolError(PenstockError):
    """The byte stream broke the protocol; the connection is closed."""

    code = 60


class LocalProtocolError(ProtocolError):
    """This side tried to break the protocol."""

    code = 61


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""

    code = 62


class StorageError(PenstockError):
    """The broker's storage is at fault."""

    code = 70


class CorruptData(StorageError):
    """Stored bytes are damaged; reads of that range are refused."""

    code = 71
    hint = "Run `penstock log verify` on the data directory; the message names the damaged range."


class DataDirectoryLocked(StorageError):
    """Another broker uses this data directory."""

    code = 72
    hint = "Stop the other broker, or choose another --data directory."


class UnsupportedFormat(StorageError):
    """The data directory was written by a newer version of Penstock."""

    code = 73
    hint = "Start it with that version or a later one."


class StorageFailure(StorageError):
    """A write or sync failed; the broker stops so that nothing is acknowledged wrongly."""

    code = 74
    hint = "Check the disk, then start the broker again; it recovers from its log."


class StaleDirectory(StorageError):
    """The data directory is an older copy of what this broker had told the others."""

    code = 75
    hint = (
        "Start the broker on its newest directory; if that is lost, wipe this one: "
        "the broker joins as a new node, and its replicas are made anew."
    )


class MetadataDiverged(StorageError):
    """The broker made something else of the cluster's metadata than the majority; it stops."""

    code = 76
    hint = (
        "Start it once more, with the version that the others run. If it ends again, put its data "
        "directory aside and start it on an empty one: it joins as a new node, and its replicas "
        "are made anew (see 'A broker diverged' in broker/OPERATIONS.md)."
    )


class ClientClosed(PenstockError):
    """The client is closed."""

    code = 80
    hint = "Open a new client."


class QueueFull(PenstockError):
    """A bounded buffer of the client has no room now."""

    code = 81
    hint = "Await earlier publishes, or use the awaiting form."


class UnknownError(PenstockError):
    """The broker answered with an error that this version does not know."""

    code = 99


def _tree(root: type[PenstockError]) -> list[type[PenstockError]]:
    found = [root]
    for child in root.__subclasses__():
        found.extend(_tree(child))
    return found


BY_CODE: Mapping[int, type[PenstockError]] = {cls.code: cls for cls in _tree(PenstockError)}
"""Wire code -> class."""


def from_wire(code: int, message: str, detail: Mapping[str, object] | None = None) -> PenstockError:
    """Build the error that a reply names; an unknown code becomes `UnknownError`."""
    cls = BY_CODE.get(code, UnknownError)
    error = cls(message)
    error.detail = dict(detail or {})
    if cls is UnknownError:
        error.detail["code"] = code
    return error
