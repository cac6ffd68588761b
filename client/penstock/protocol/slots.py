"""The slot columns of a batch: 16 bits of a hash per record, readable without its payload.

By the key slots a broker keeps keys in order, by the tenant slots it shares and limits fairly.
"""

from __future__ import annotations

from array import array

from penstock.errors import CorruptBatch
from penstock.protocol import columns
from penstock.protocol.batch import (
    FLAG_KEY_SLOTS,
    FLAG_TENANT_SLOTS,
    FLAGS_SLOTS,
    HEADER_BYTES,
    BatchHeader,
    Buffer,
    payload_start,
)


def read_slots(buffer: Buffer, header: BatchHeader) -> tuple[array[int] | None, array[int] | None]:
    """The key slots and the tenant slots of a batch's records; None: it has no such column.

    Raises:
        CorruptBatch: the columns exceed the batch.
    """
    if not header.flags & FLAGS_SLOTS:
        return None, None
    if payload_start(header) > len(buffer):
        raise CorruptBatch("key slots or tenant slots exceed the batch")
    view, count = memoryview(buffer), header.record_count
    at = HEADER_BYTES + header.ext_len
    keys = tenants = None
    if header.flags & FLAG_KEY_SLOTS:
        keys = columns.decode_u16(view[at : at + 2 * count], count)
        at += 2 * count
    if header.flags & FLAG_TENANT_SLOTS:
        tenants = columns.decode_u16(view[at : at + 2 * count], count)
    return keys, tenants
