"""What has gone wrong in other systems' logs, played on purpose; tests/README.md lists all."""

from __future__ import annotations

import pytest

from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import StorageConfig
from tests.storage.helpers import (
    SMALL,
    append_data,
    checkpoint,
    control_entry,
    data_entry,
    flush,
    open_store,
    read_all,
    run_jobs,
    settle,
)

FEW = StorageConfig(wal_file_bytes=32 * 1024, flush_bytes_max=4096, reserve_bytes=0)


def test_a_gap_is_noticed_though_all_files_of_the_log_before_it_are_gone() -> None:
    """Ra 581: what had been logged last was known from the log's files alone; then those went."""
    files = MemoryFiles()
    store = open_store(files, FEW)
    append_data(store, 1, 5)
    for number in range(20):  # another group fills file after file
        store.append(2, [control_entry(number + 1, b"x" * 3000)], None, number + 1)
        flush(store)
        checkpoint(store, [1, 2])
    store.close()
    again = open_store(files, FEW)
    assert not again.recovered[1].entries
    with pytest.raises(AssertionError, match="no gap"):
        again.append(1, [data_entry(7, 6)], None, 6)
    append_data(again, 1, 1)
    assert [offset for offset, _ in read_all(again, 1)] == list(range(6))


def test_a_disk_that_is_full_again_and_again_leaves_no_hole_in_a_segment() -> None:
    """Ra 578: entries whose write failed for want of room were taken for written."""
    files = SimDisk()
    store = open_store(files, SMALL)
    for step in range(30):
        append_data(store, 1, 4, b"%d" % step + b"z" * 300)
        if step == 10:
            checkpoint(store, [1])
        files.capacity = files.used() + (step % 5) * 400 if step % 3 else 1 << 40
        run_jobs(store)
        store.tick()
    before = read_all(store, 1)
    files.capacity = 1 << 40
    store.tick()
    checkpoint(store, [1])
    assert [offset for offset, _ in before] == list(range(120))
    assert read_all(store, 1) == before
    store.close()
    assert read_all(open_store(files, SMALL), 1) == before


def test_entries_that_were_replaced_several_log_files_later_do_not_come_back() -> None:
    """Ra 589: each file was read by itself, and what a later one replaced was missed."""
    files = MemoryFiles()
    store = open_store(files, FEW)
    for index in range(1, 31):
        store.append(1, [control_entry(index, b"x" * 3000)], (1, 1, 0), 0)
        flush(store)
    settle(store)
    store.append(1, [control_entry(12, term=2)], (2, 1, 0), 0)
    flush(store)
    for index in range(13, 30):
        store.append(1, [control_entry(index, b"x" * 3000, term=2)], None, 0)
        flush(store)
    settle(store)
    store.append(1, [control_entry(20, term=3)], (3, 2, 0), 0)
    flush(store)
    assert len(store.wal.sealed) >= 4
    for _ in range(2):
        store.close()
        store = open_store(files, FEW)
        found = [(entry.index, entry.term) for entry in store.recovered[1].entries]
        assert [index for index, _ in found] == list(range(1, 21))
        assert [term for _, term in found] == [1] * 11 + [2] * 8 + [3]
        assert store.recovered[1].hard_state[:2] == (3, 2)
