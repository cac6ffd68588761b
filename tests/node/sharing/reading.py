"""What the tests of this folder share: reading a partition back in full."""

from __future__ import annotations

from penstock.protocol.records import Record, read_batches
from penstock_broker.storage import Cold
from tests.node.harness import Harness


def records_of(node: Harness, gid: int) -> list[Record]:
    """All records of a partition."""
    log = node.node.partitions[gid].log
    found: list[Record] = []
    offset = log.start_offset
    while offset < log.end_offset:
        place = log.read(offset, 1 << 20)
        if isinstance(place, Cold):
            data = place.file.pread(place.length, place.position)
            buffers = log.finish_read(place, data, offset, 1 << 20)
        else:
            buffers = place.buffers
        for buffer in buffers:
            for batch in read_batches(buffer, from_offset=offset):
                found += batch
                offset = batch.next_offset
    return found
