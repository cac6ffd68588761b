"""When the records of a batch want to be delivered."""

from __future__ import annotations

import struct
from typing import Final

from penstock.errors import CorruptBatch
from penstock.protocol.batch import HEADER_BYTES, Buffer
from penstock.protocol.extensions import EXT_DELIVER_AT, parse_extensions
from penstock_broker.machine.sharing.lease import NO_LIMIT_US

_TIME: Final = struct.Struct("<Q")


def deliver_at_of(batch: Buffer, ext_len: int) -> int:
    """The time that a batch carries (microseconds); 0: it does not say, so at once."""
    if not ext_len:
        return 0
    try:
        found = parse_extensions(bytes(memoryview(batch)[HEADER_BYTES : HEADER_BYTES + ext_len]))
    except CorruptBatch:
        return 0  # committed is committed; every replica sees the same bytes
    time_us = found.get(EXT_DELIVER_AT)
    return 0 if time_us is None else min(_TIME.unpack(time_us)[0], NO_LIMIT_US)
