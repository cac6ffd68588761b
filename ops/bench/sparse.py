"""Makes the log of a partition large without the bytes: batches of zeros, kept as holes.

A batch whose body is all zeros is a valid one, so only headers are written and the rest of each
segment is a hole. The broker must be stopped; it takes up the log as if a snapshot had come.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from penstock.protocol.batch import HEADER_BYTES, Kind, build, parse_header, stamp
from penstock_broker.runtime.files import RealFile, RealFiles
from penstock_broker.storage import Job, StorageConfig, Store
from penstock_broker.storage.files import Buffer

BATCH_BYTES: Final = 1024 * 1024 - 4096
RECORDS: Final = 1000


class HollowFile(RealFile):
    """A segment: of each batch the header is written."""

    def pwrite(self, buffers: Sequence[Buffer], position: int) -> None:
        """Write the headers; what lies between them stays a hole."""
        for buffer in buffers:
            os.pwrite(self._descriptor, memoryview(buffer)[:HEADER_BYTES], position)
            position += len(buffer)
        os.ftruncate(self._descriptor, max(position, self.size()))


class HollowFiles(RealFiles):
    """A data directory whose segments are hollow."""

    def open(self, path: str, *, create: bool = False) -> RealFile:
        """As usual, but segments are hollow."""
        file = super().open(path, create=create)
        if not path.endswith(".log"):
            return file
        return HollowFile(os.dup(file._descriptor))


def grow(data: Path, group: int, log_bytes: int) -> None:
    """Let the log of a group in a stopped broker's directory have at least so many bytes."""
    config = StorageConfig(write_bytes=1)  # each batch is written before its buffer is used again
    store = Store.open(HollowFiles(data), config, fresh_uuid=bytes(16))
    try:
        log, found = store.log(group), store.recovered[group]
        assert found.blob is not None, "the broker was stopped in good order"
        term = found.applied_term
        batch = build(bytes(BATCH_BYTES), count=RECORDS, raw_len=BATCH_BYTES)
        index = max(log.last_index, found.applied_index)
        while log.size_bytes < log_bytes:
            index += 1
            stamp(batch, Kind.DATA, index, term, 1, log.end_offset, log.last_append_ts_us)
            log.append(batch, parse_header(batch))
            _run(store.take_job(), store)
        store.install(group, index, term, found.blob)
        while (job := store.take_job() or store.take_flush()) is not None:
            _run(job, store)
    finally:
        store.close()


def _run(job: Job | None, store: Store) -> None:
    if job is not None:
        job.run()
        store.done(job)
