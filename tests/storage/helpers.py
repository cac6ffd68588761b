"""Batches, entries and small configurations for storage tests."""

from __future__ import annotations

from penstock.protocol import batch
from penstock_broker.storage import StorageConfig, Store, StoredEntry
from penstock_broker.storage.files import Files

UUID = bytes(range(16))
SMALL = StorageConfig(
    wal_file_bytes=64 * 1024,
    flush_bytes_max=16 * 1024,
    segment_bytes=8 * 1024,
    index_interval_bytes=512,
    tail_bytes_max=16 * 1024,
    write_bytes=1024,
    reserve_bytes=0,
)


def data_batch(
    index: int,
    offset: int,
    body: bytes = b"payload",
    *,
    term: int = 1,
    count: int = 1,
    time: int = 0,
) -> bytearray:
    buffer = batch.build(body, count=count, raw_len=len(body))
    batch.stamp(buffer, batch.Kind.DATA, index, term, 1, offset, time or index)
    return buffer


def control_batch(index: int, body: bytes = b"", *, term: int = 1) -> bytearray:
    buffer = batch.control_batch(body)
    batch.stamp(buffer, batch.Kind.CONTROL, index, term, 1, 0, index)
    return buffer


def data_entry(index: int, offset: int, body: bytes = b"payload", *, term: int = 1) -> StoredEntry:
    return StoredEntry(index, term, 1, data_batch(index, offset, body, term=term))


def control_entry(index: int, body: bytes = b"", *, term: int = 1) -> StoredEntry:
    return StoredEntry(index, term, 2, control_batch(index, body, term=term))


def open_store(files: Files, config: StorageConfig = SMALL) -> Store:
    return Store.open(files, config, fresh_uuid=UUID)


def flush(store: Store) -> list[tuple[int, int, int]]:
    """Flush until nothing is pending."""
    durable = []
    while (job := store.take_flush()) is not None:
        job.run()
        durable += store.done(job)
    return durable


def run_jobs(store: Store) -> None:
    """Do all background work that is due."""
    while (job := store.take_job()) is not None:
        job.run()
        store.done(job)


def append_data(store: Store, gid: int, count: int, body: bytes = b"payload") -> None:
    """Append, flush and commit some single-record batches."""
    log = store.create_log(gid)
    for _ in range(count):
        index = store.wal.group(gid).next_index or 1
        entry = data_entry(index, log.end_offset, body)
        store.append(gid, [entry], None, index)
        flush(store)
        log.append(entry.data, batch.parse_header(entry.data))


def read_all(store: Store, gid: int, max_bytes: int = 4096) -> list[tuple[int, bytes]]:
    """(offset, body) of every batch of a log, from RAM or from files."""
    log = store.log(gid)
    found: list[tuple[int, bytes]] = []
    offset = log.start_offset
    while offset < log.end_offset:
        read = log.read(offset, max_bytes)
        if hasattr(read, "buffers"):
            buffers = read.buffers
        else:
            data = read.file.pread(read.length, read.position)
            buffers = log.finish_read(read, data, offset, max_bytes)
        for buffer in buffers:
            for at, header in batch.iterate(buffer):
                body = bytes(buffer[at + batch.HEADER_BYTES : at + header.length])
                found.append((header.base_offset, body))
                offset = header.base_offset + header.record_count
    return found


def checkpoint(store: Store, gids: list[int], blob: bytes = b"state") -> None:
    """Cut a checkpoint of groups whose log is wholly applied, and do all that follows."""
    states = []
    for gid in gids:
        index, term = store.wal.group(gid).durable
        states.append((gid, index, term, blob))
    store.checkpoint(states)
    settle(store)


def settle(store: Store) -> None:
    """Run jobs and flushes until nothing is left to do."""
    while (job := store.take_job() or store.take_flush()) is not None:
        job.run()
        store.done(job)
