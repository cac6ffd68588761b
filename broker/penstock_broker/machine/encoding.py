"""The disk form of commands and snapshots: one version byte, then strict MessagePack.

Strict means that nothing but the declared types is admitted and that unknown fields are refused: a
replica that skipped a field it does not know would compute another state than its peers.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from penstock.errors import CorruptData, UnsupportedFormat

_T = TypeVar("_T")

_encoder: Final = msgspec.msgpack.Encoder()


def encode(version: int, value: object) -> bytes:
    """The bytes of a command or snapshot."""
    return bytes((version,)) + _encoder.encode(value)


def decode(version: int, decoder: msgspec.msgpack.Decoder[_T], body: bytes, what: str) -> _T:
    """Read what `encode` wrote.

    Raises:
        UnsupportedFormat: another version wrote it.
        CorruptData: it is not in that version's form.
    """
    if body[:1] != bytes((version,)):
        found = body[0] if body else None
        raise UnsupportedFormat(f"{what} has version {found}; this broker reads {version}")
    try:
        return decoder.decode(memoryview(body)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"{what} is malformed: {error}") from error


def decoder_of(type_: Any) -> msgspec.msgpack.Decoder[Any]:  # noqa: ANN401 - unions have no type
    """A strict decoder of a struct or of a union of structs."""
    return msgspec.msgpack.Decoder(type_, strict=True)
