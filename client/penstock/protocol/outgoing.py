"""Events to frames, for both sides, as lists of buffers: batches are not copied."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from penstock.errors import LocalProtocolError
from penstock.protocol.batch import Buffer
from penstock.protocol.codec import encode_error, encode_message
from penstock.protocol.events import (
    Event,
    Failed,
    Fetch,
    Fetched,
    Publish,
    Published,
    Reply,
    Request,
)
from penstock.protocol.frames import (
    FETCH,
    FETCH_REPLY,
    FLAG_DUPLICATE,
    FLAG_RESPONSE,
    PUBLISH,
    PUBLISH_REPLY,
    REPLY_BYTES,
    fetch_request,
    publish_head,
)
from penstock.protocol.messages import REPLIES, REQUESTS, TYPE_OF, Message


def frame_type(event: Event) -> int:
    """The type of the frame that carries an event.

    Raises:
        LocalProtocolError: no frame does.
    """
    match event:
        case Publish() | Published():
            return PUBLISH
        case Fetch() | Fetched():
            return FETCH
        case Request(message=message):
            return _message_type(message, REQUESTS)
        case Reply(message=message):
            return _message_type(message, REPLIES)
        case Failed(type=type_):
            return type_
        case _:
            raise LocalProtocolError(f"a {type(event).__name__} can't be sent")


def buffers(event: Event) -> list[Buffer]:
    """The frame that carries an event.

    Raises:
        BadRequest: a message has a field that can't be encoded, or a number has no room.
        RecordTooLarge: a message is too long.
    """
    match event:
        case Publish(correlation, group, batch, acks, timeout_ms):
            return [publish_head(correlation, group, acks, timeout_ms, len(batch)), batch]
        case Fetch(correlation, group, offset, max_bytes, min_bytes, wait, flags):
            return [fetch_request(correlation, group, offset, max_bytes, min_bytes, wait, flags)]
        case Published():
            return [_published(event)]
        case Fetched():
            return [_fetched_head(event), event.batches]
        case Failed(correlation, type_, error):
            return [encode_error(correlation, type_, error)]
        case Request(correlation, message) | Reply(correlation, message):
            return [encode_message(message, correlation)]
        case _:
            raise LocalProtocolError(f"a {type(event).__name__} can't be sent")


def _published(event: Published) -> bytes:
    flags = FLAG_RESPONSE | FLAG_DUPLICATE if event.duplicate else FLAG_RESPONSE
    return PUBLISH_REPLY.pack(
        REPLY_BYTES,
        PUBLISH,
        flags,
        0,
        event.correlation,
        event.group,
        event.base_offset,
        event.append_ts_us,
    )


def _fetched_head(event: Fetched) -> bytes:
    return FETCH_REPLY.pack(
        REPLY_BYTES + len(event.batches),
        FETCH,
        FLAG_RESPONSE,
        0,
        event.correlation,
        event.group,
        event.high_watermark,
        event.log_start_offset,
    )


def _message_type(message: Message, registry: Mapping[int, type[Struct]]) -> int:
    cls = type(message)
    number = TYPE_OF.get(cls, -1)
    if registry.get(number) is not cls:
        raise LocalProtocolError(f"a {cls.__name__} does not travel in that direction")
    return number
