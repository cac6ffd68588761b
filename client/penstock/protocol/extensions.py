"""Extension fields of a batch: rare facts about a whole batch, each `u8 type, u8 length, data`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.errors import BadRequest, CorruptBatch

EXTENSION_BYTES_MAX: Final = 1024
DEDUP_ID_BYTES_MAX: Final = 64

EXT_DEDUP_ID: Final = 1
EXT_DELIVER_AT: Final = 2
EXT_SPAN: Final = 3
EXT_TRACE_ID: Final = 4
EXT_SCHEDULE: Final = 5

SCHEDULE_NAME_BYTES_MAX: Final = 200
_DUE_BYTES: Final = 8

_ANY: Final = range(256)
_SIZES: Final = {
    EXT_DEDUP_ID: range(1, DEDUP_ID_BYTES_MAX + 1),
    EXT_DELIVER_AT: range(8, 9),
    EXT_SPAN: range(4, 5),
    EXT_TRACE_ID: range(16, 17),
    EXT_SCHEDULE: range(_DUE_BYTES + 1, _DUE_BYTES + SCHEDULE_NAME_BYTES_MAX + 1),
}


def parse_extensions(area: bytes) -> dict[int, bytes]:
    """Decode the extension area: type -> data; unknown types are kept.

    Raises:
        CorruptBatch: a field is repeated, has a wrong size, or reaches beyond the area.
    """
    found: dict[int, bytes] = {}
    at, end = 0, len(area)
    while at < end:
        if at + 2 > end or at + 2 + area[at + 1] > end:
            raise CorruptBatch("an extension field reaches beyond the extension area")
        type_, size = area[at], area[at + 1]
        if type_ in found or size not in _SIZES.get(type_, _ANY):
            raise CorruptBatch(f"extension field {type_} is repeated or has a wrong size")
        found[type_] = area[at + 2 : at + 2 + size]
        at += 2 + size
    return found


def pack_extensions(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Encode extension fields.

    Raises:
        BadRequest: a field has a size that its type does not allow.
    """
    packed = bytearray()
    for type_, data in fields:
        if len(data) not in _SIZES.get(type_, _ANY):
            raise BadRequest(f"extension field {type_} can't have {len(data)} bytes")
        packed += bytes((type_, len(data)))
        packed += data
    return bytes(packed)


def pack_schedule(name: str, due_us: int) -> bytes:
    """The data of `EXT_SCHEDULE`: which recurring schedule a batch is a firing of, and which one.

    Raises:
        BadRequest: the time does not fit.
    """
    try:
        return due_us.to_bytes(_DUE_BYTES, "little") + name.encode()
    except OverflowError:
        raise BadRequest("a schedule is due at a time in us since 1970") from None


def read_schedule(data: bytes) -> tuple[str, int]:
    """The name of the schedule and the time that the firing is for, in us since 1970.

    Raises:
        CorruptBatch: the name is not text.
    """
    try:
        return data[_DUE_BYTES:].decode(), int.from_bytes(data[:_DUE_BYTES], "little")
    except UnicodeDecodeError:
        raise CorruptBatch("the name of a schedule is not valid text") from None
