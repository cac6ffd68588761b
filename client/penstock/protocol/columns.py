"""The columns inside a batch's payload: all values, all keys, all timestamps, and so on.

Each column is `u8 id, 3 zero bytes, u32 byte length, data`, in ascending order of id, each at most
once, filling the payload exactly; unknown ids are skipped. Values, keys and headers are one
MessagePack array; timestamps and offsets are u32 arrays. Invariant: an array's header is compared
with the record count before anything is decoded, so that no hostile count allocates.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from penstock.errors import CorruptBatch
from penstock.protocol.batch import RECORDS_MAX, Buffer

VALUES: Final = 1
KEYS: Final = 2
TIMESTAMPS: Final = 3
HEADERS: Final = 4
OFFSETS: Final = 5

COLUMN: Final = struct.Struct("<B3xI")
_CHECKED_COLUMN: Final = struct.Struct("<B3sI")
_BIG_ENDIAN: Final = sys.byteorder == "big"

T = TypeVar("T")
_encoder: Final = Encoder()
BYTES_DECODER: Final = Decoder(list[bytes | None])
HEADERS_DECODER: Final = Decoder(list[dict[str, bytes] | None])
ArrayDecoder: TypeAlias = Decoder[list[T]]


def append_array(
    buffer: bytearray,
    column: int,
    items: Sequence[bytes | None] | Sequence[Mapping[str, bytes] | None],
) -> None:
    """Append a MessagePack column to a payload under construction."""
    data = _encoder.encode(items)
    buffer += COLUMN.pack(column, len(data))
    buffer += data


def append_u32(buffer: bytearray, column: int, items: Sequence[int]) -> None:
    """Append a u32 column.

    Raises:
        OverflowError: an item does not fit.
    """
    data = _pack("I", items)
    buffer += COLUMN.pack(column, len(data))
    buffer += data


def pack_u16(items: Sequence[int]) -> bytes:
    """The bytes of a u16 array, as in the key-slot column."""
    return _pack("H", items)


def _pack(typecode: str, items: Sequence[int]) -> bytes:
    data = array(typecode, items)
    if _BIG_ENDIAN:  # pragma: no cover - the wire is little endian, few machines are not
        data.byteswap()
    return data.tobytes()


def split(payload: Buffer) -> dict[int, memoryview]:
    """Find the columns of a raw payload: id -> data.

    Raises:
        CorruptBatch: the columns do not fill the payload exactly, or their order is wrong.
    """
    view = memoryview(payload)
    found: dict[int, memoryview] = {}
    at, end, last = 0, len(view), 0
    while at < end:
        if at + COLUMN.size > end:
            raise CorruptBatch("a column header is cut short")
        column, zeros, size = _CHECKED_COLUMN.unpack_from(view, at)
        at += COLUMN.size
        if column <= last or zeros != b"\0\0\0" or size > end - at:
            raise CorruptBatch(f"the column header before byte {at} of the payload is wrong")
        found[column] = view[at : at + size]
        at += size
        last = column
    return found


def decode_array(data: memoryview, count: int, decoder: ArrayDecoder[T]) -> list[T]:
    """Decode a MessagePack column of exactly `count` items.

    Raises:
        CorruptBatch: another count, other types than declared, or damaged bytes.
    """
    header = _array_header(count)
    if bytes(data[: len(header)]) != header:
        raise CorruptBatch("a column's item count differs from the batch's record count")
    try:
        return decoder.decode(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise CorruptBatch(f"a column is malformed: {error}") from None


def decode_u32(data: memoryview, count: int) -> array[int]:
    """Decode a u32 column of exactly `count` items.

    Raises:
        CorruptBatch: the length is another one.
    """
    return _unpack("I", data, count)


def decode_u16(data: memoryview, count: int) -> array[int]:
    """Decode a u16 array of exactly `count` items.

    Raises:
        CorruptBatch: the length is another one.
    """
    return _unpack("H", data, count)


def _unpack(typecode: str, data: memoryview, count: int) -> array[int]:
    items = array(typecode)
    if len(data) != count * items.itemsize:
        raise CorruptBatch("a column's length differs from the batch's record count")
    items.frombytes(data)
    if _BIG_ENDIAN:  # pragma: no cover - the wire is little endian, few machines are not
        items.byteswap()
    return items


def _array_header(count: int) -> bytes:
    """The header as the encoder writes it; a batch never has more items than fit in 16 bits."""
    if count < 16:
        return bytes((0x90 | count,))
    if count > RECORDS_MAX:
        raise CorruptBatch(f"a batch has at most {RECORDS_MAX} records")
    return b"\xdc" + count.to_bytes(2, "big")
