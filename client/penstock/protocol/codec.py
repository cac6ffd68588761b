"""Messages to frames and back: CBOR maps, decoded strictly into the structs of `messages`.

Owns the decoder's options and the size limits of message bodies. Invariants: a body is bounded
before it is decoded; no tag, no indefinite length, no duplicate key, no simple value but false,
true and null, no trailing byte, and no nesting beyond `DEPTH_MAX` gets through; a message holds
only values of the types that its class declares, and where it declares `object`, plain data;
integers are such as MessagePack can hold too, so that every message can be proposed.

Left to itself the decoder compiles regular expressions, builds astronomic decimals and cyclic
lists for some tags, and ignores trailing bytes; so every tag it knows is mapped to a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, NoReturn, cast

import msgspec
from cbor2 import CBORDecoder, CBORError, dumps

from penstock.errors import (
    BadRequest,
    PenstockError,
    RecordTooLarge,
    RemoteProtocolError,
    from_wire,
)
from penstock.protocol import cluster as _cluster  # noqa: F401 - registers its messages
from penstock.protocol import sharing as _sharing  # noqa: F401 - registers its messages
from penstock.protocol.batch import Buffer
from penstock.protocol.frames import (
    FLAG_ERROR,
    FLAG_RESPONSE,
    FRAME_HEADER_BYTES,
    frame,
)
from penstock.protocol.messages import REPLIES, REQUESTS, TYPE_OF, ErrorBody, Message

REQUEST_BODY_BYTES_MAX: Final = 256 * 1024
REPLY_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
ERROR_BODY_BYTES_MAX: Final = 64 * 1024
ERROR_TEXT_MAX: Final = 2000
DEPTH_MAX: Final = 8
INTEGER_MIN: Final = -(2**63)
"""CBOR goes down to -2^64, but nothing else that a number may be written into does."""

_SCALARS: Final = frozenset((int, str, bytes, bool, float, type(None)))
_KNOWN_TAGS: Final = (
    *range(6), 24, 25, 28, 29, 30, 35, 36, 37, 43, 52, 54, 100,
    256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip


def encode_message(message: Message, correlation: int) -> bytes:
    """The frame of a request or a reply.

    Raises:
        BadRequest: a field holds what CBOR can't express.
        RecordTooLarge: the body is beyond the limit of its direction.
    """
    cls = type(message)
    number = TYPE_OF[cls]
    is_reply = REPLIES.get(number) is cls
    try:
        body = dumps(msgspec.to_builtins(message, builtin_types=(bytes,)))
    except (CBORError, ValueError, TypeError) as error:
        raise BadRequest(f"{cls.__name__} can't be encoded: {error}") from None
    limit = REPLY_BODY_BYTES_MAX if is_reply else REQUEST_BODY_BYTES_MAX
    if len(body) > limit:
        raise RecordTooLarge(f"{cls.__name__} has {len(body)} bytes; the limit is {limit}")
    return frame(number, FLAG_RESPONSE if is_reply else 0, correlation, body)


def encode_error(correlation: int, type_: int, error: PenstockError) -> bytes:
    """The frame that answers a request of that type with an error."""
    text = error.message[:ERROR_TEXT_MAX]
    text = text.encode(errors="replace").decode()
    body = _error_body(error.code, text, _plain_detail(error.detail))
    if len(body) > ERROR_BODY_BYTES_MAX:
        body = _error_body(error.code, text, {})
    return frame(type_, FLAG_RESPONSE | FLAG_ERROR, correlation, body)


def decode_request(type_: int, body: Buffer) -> Message:
    """Decode the body of a request.

    Raises:
        BadRequest: the type is unknown, or the body is malformed or does not fit the type.
    """
    cls = REQUESTS.get(type_)
    if cls is None:
        raise BadRequest(f"there is no request of type 0x{type_:02x}")
    return cast("Message", _decode(cls, body, REQUEST_BODY_BYTES_MAX))


def decode_reply(type_: int, body: Buffer) -> Message:
    """Decode the body of a reply that is not an error.

    Raises:
        RemoteProtocolError: the type is unknown, or the body is malformed or does not fit it.
    """
    cls = REPLIES.get(type_)
    if cls is None:
        raise RemoteProtocolError(f"there is no reply of type 0x{type_:02x}")
    return cast("Message", _decode_from_broker(cls, body, REPLY_BODY_BYTES_MAX))


def decode_error(body: Buffer) -> PenstockError:
    """Decode the body of an error reply into the error that it names.

    Raises:
        RemoteProtocolError: the body is malformed.
    """
    found = cast("ErrorBody", _decode_from_broker(ErrorBody, body, ERROR_BODY_BYTES_MAX))
    return from_wire(found.code, found.message, found.detail)


def _decode_from_broker(cls: type[msgspec.Struct], body: Buffer, limit: int) -> msgspec.Struct:
    try:
        return _decode(cls, body, limit)
    except BadRequest as error:
        raise RemoteProtocolError(error.message) from None


def _decode(cls: type[msgspec.Struct], body: Buffer, limit: int) -> msgspec.Struct:
    if len(body) > limit:
        raise BadRequest(f"{cls.__name__} has {len(body)} bytes; the limit is {limit}")
    try:
        plain = _load(body)
        return msgspec.convert(plain, cls)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{cls.__name__}: {error}") from None
    except (CBORError, ValueError, OverflowError) as error:
        raise BadRequest(f"{cls.__name__} is not well-formed CBOR: {error}") from None


def _load(body: Buffer) -> object:
    stream = BytesIO(body)
    decoder = CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_REFUSALS,
        max_depth=DEPTH_MAX,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    plain: object = decoder.decode()
    if stream.tell() != len(body):
        raise ValueError("bytes follow the message")
    _check_plain(plain)
    return plain


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not allowed")


_REFUSALS: Final[Mapping[int, Any]] = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def _check_plain(root: object) -> None:
    """Refuse what neither the options nor the declared types exclude; depth is bounded before."""
    if type(root) is not dict:
        raise ValueError("the message is not a map")
    containers: list[dict[object, object] | list[object]] = [root]
    while containers:
        container = containers.pop()
        if isinstance(container, dict):
            for key in container:
                if type(key) is not str and (type(key) is not int or key < INTEGER_MIN):
                    raise ValueError("a map key is neither text nor an integer of 64 bits")
        for item in container.values() if isinstance(container, dict) else container:
            if type(item) is int and item < INTEGER_MIN:
                raise ValueError("an integer is below -2^63")
            if type(item) in _SCALARS:
                continue
            if not isinstance(item, dict | list):
                raise ValueError(f"a value of type {type(item).__name__} is not allowed")
            containers.append(item)


def _error_body(code: int, text: str, detail: dict[str, object]) -> bytes:
    return dumps({"code": code, "message": text, "detail": detail})


def _plain_detail(detail: Mapping[str, object]) -> dict[str, object]:
    return {key: _plain(value) for key, value in detail.items()}


def _plain(value: object) -> object:
    if type(value) is int and not INTEGER_MIN <= value < 2**64:
        return str(value)
    if type(value) is str:
        return value.encode(errors="replace").decode()
    return value if type(value) in _SCALARS else type(value).__name__


assert FRAME_HEADER_BYTES + REPLY_BODY_BYTES_MAX < 2**32
