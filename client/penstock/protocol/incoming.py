"""Whole frames to events, for both sides; which events are expected is the connection's affair."""

from __future__ import annotations

from typing import Final

from penstock.errors import PenstockError, RemoteProtocolError
from penstock.protocol.codec import (
    ERROR_BODY_BYTES_MAX,
    REPLY_BODY_BYTES_MAX,
    REQUEST_BODY_BYTES_MAX,
    decode_error,
    decode_reply,
    decode_request,
)
from penstock.protocol.events import (
    Event,
    Failed,
    Fetch,
    Fetched,
    Malformed,
    Publish,
    Published,
    Reply,
    Request,
)
from penstock.protocol.frames import (
    FETCH,
    FETCH_REPLY,
    FETCH_REQUEST_BYTES,
    FLAG_DUPLICATE,
    FLAG_ERROR,
    FLAG_RESPONSE,
    FRAME_HEADER_BYTES,
    PUBLISH,
    PUBLISH_REPLY,
    PUBLISH_REQUEST_BYTES,
    REPLY_BYTES,
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    read_fetch,
    read_publish,
)

_REQUEST_MAX: Final = {PUBLISH: REQUEST_BYTES_MAX, FETCH: FETCH_REQUEST_BYTES}
_REPLY_MAX: Final = {PUBLISH: REPLY_BYTES, FETCH: REPLY_BYTES_MAX}


def request_bytes_max(type_: int, flags: int) -> int:
    """How long a frame from a client may be.

    Raises:
        RemoteProtocolError: a request has flags.
    """
    if flags:
        raise RemoteProtocolError("a request has no flags")
    return _REQUEST_MAX.get(type_, FRAME_HEADER_BYTES + REQUEST_BODY_BYTES_MAX)


def reply_bytes_max(type_: int, flags: int) -> int:
    """How long a frame from a broker may be.

    Raises:
        RemoteProtocolError: the flags can't be.
    """
    if flags == FLAG_RESPONSE | FLAG_ERROR:
        return FRAME_HEADER_BYTES + ERROR_BODY_BYTES_MAX
    if flags == FLAG_RESPONSE | FLAG_DUPLICATE and type_ == PUBLISH:
        return REPLY_BYTES
    if flags != FLAG_RESPONSE:
        raise RemoteProtocolError(f"a frame from a broker can't have the flags {flags}")
    return _REPLY_MAX.get(type_, FRAME_HEADER_BYTES + REPLY_BODY_BYTES_MAX)


def request_event(type_: int, correlation: int, group: int, frame: memoryview) -> Event:
    """The event of a whole request frame; `Malformed` where it makes no sense."""
    try:
        if type_ == PUBLISH:
            acks, timeout_ms = read_publish(frame, 0, len(frame))
            return Publish(correlation, group, frame[PUBLISH_REQUEST_BYTES:], acks, timeout_ms)
        if type_ == FETCH:
            return Fetch(correlation, group, *read_fetch(frame, 0, len(frame)))
        return Request(correlation, decode_request(type_, frame[FRAME_HEADER_BYTES:]))
    except PenstockError as error:
        # The frames of a traceback would keep the received bytes alive with the event.
        error.__traceback__ = error.__context__ = None
        return Malformed(correlation, type_, error)


def reply_event(type_: int, flags: int, correlation: int, group: int, frame: memoryview) -> Event:
    """The event of a whole reply frame.

    Raises:
        RemoteProtocolError: the frame makes no sense.
    """
    if flags & FLAG_ERROR:
        return Failed(correlation, type_, decode_error(frame[FRAME_HEADER_BYTES:]))
    if type_ not in (PUBLISH, FETCH):
        return Reply(correlation, decode_reply(type_, frame[FRAME_HEADER_BYTES:]))
    if len(frame) < REPLY_BYTES:
        raise RemoteProtocolError("a publish or fetch reply is too short")
    if type_ == PUBLISH:
        base_offset, append_ts_us = PUBLISH_REPLY.unpack_from(frame)[6:]
        duplicate = bool(flags & FLAG_DUPLICATE)
        return Published(correlation, base_offset, append_ts_us, duplicate, group)
    high_watermark, log_start_offset = FETCH_REPLY.unpack_from(frame)[6:]
    return Fetched(correlation, high_watermark, log_start_offset, frame[REPLY_BYTES:], group)
