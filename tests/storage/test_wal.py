import pytest

from penstock.errors import CorruptData, LimitExceeded, StorageFailure
from penstock_broker.simulation.disk import DiskFaults, SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.simulation.storage_mutations import mutated
from penstock_broker.storage import StorageConfig
from penstock_broker.storage.wal_format import FIRST_FLUSH, FLUSH, pack_run, seal_flush
from tests.storage.helpers import SMALL, append_data, control_entry, flush, open_store, settle

TINY = StorageConfig(wal_file_bytes=32 * 1024, flush_bytes_max=4096, reserve_bytes=0)


def entries(first: int, count: int, size: int = 10, term: int = 1):
    return [control_entry(first + at, b"x" * size, term=term) for at in range(count)]


def recovered(files, gid: int):
    return [(one.index, one.term) for one in open_store(files, TINY).recovered[gid].entries]


def test_one_flush_is_under_way_at_a_time():
    store = open_store(MemoryFiles())
    store.append(1, entries(1, 1), None, 0)
    job = store.take_flush()
    store.append(1, entries(2, 1), None, 0)
    assert store.take_flush() is None
    job.run()
    assert store.done(job) == [(1, 1, 1)]
    assert flush(store) == [(1, 2, 1)]


class CountedFile:
    """A file that counts its calls."""

    def __init__(self, file, calls: list[str]) -> None:
        self._file = file
        self._calls = calls

    def __getattr__(self, name: str):
        self._calls.append(name)
        return getattr(self._file, name)


def test_a_flush_is_one_write_and_one_sync():
    store = open_store(MemoryFiles())
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    calls: list[str] = []
    store.wal.current.handle = CountedFile(store.wal.current.handle, calls)
    store.append(1, entries(2, 40), None, 0)
    store.append(2, entries(1, 2, 5000), None, 0)
    flush(store)
    assert calls == ["pwrite", "sync"]


def test_a_busy_store_leaves_its_unfilled_file_for_a_filled_one():
    store = open_store(MemoryFiles(), StorageConfig(wal_file_bytes=4 << 20))
    seen = []
    for number in range(1, 10):
        store.append(1, entries(number, 1, 100_000), None, number)
        flush(store)
        seen.append((store.wal.current.number, store.wal.current.filled))
        settle(store)
    assert seen[:3] == [(1, False)] * 3
    assert seen[-5:] == [(2, True)] * 5
    assert all(spare.filled for spare in store.wal.spares)


def test_a_fat_group_does_not_starve_the_others():
    store = open_store(MemoryFiles(), TINY)
    store.append(1, entries(1, 200, 100), None, 0)
    store.append(2, entries(1, 1), None, 0)
    first, second = store.take_flush(), None
    assert [run.gid for run in first.runs] == [1]
    first.run()
    store.done(first)
    second = store.take_flush()
    assert second.runs[0].gid == 2


def test_a_group_larger_than_a_flush_is_split_and_comes_back_whole():
    files = MemoryFiles()
    store = open_store(files, TINY)
    store.append(1, entries(1, 100, 100), None, 0)
    assert flush(store)[-1] == (1, 100, 1)
    store.close()
    assert recovered(files, 1) == [(index, 1) for index in range(1, 101)]


def test_an_entry_larger_than_a_flush_goes_alone():
    files = MemoryFiles()
    store = open_store(files, TINY)
    store.append(1, entries(1, 3, 6000), None, 0)
    assert [index for _, index, _ in flush(store)] == [1, 2, 3]
    store.close()
    assert len(recovered(files, 1)) == 3


def test_an_entry_larger_than_a_file_is_refused_and_nothing_is_queued():
    store = open_store(MemoryFiles(), TINY)
    with pytest.raises(LimitExceeded):
        store.append(1, entries(1, 2, 32 * 1024), None, 0)
    assert store.take_flush() is None


def test_a_truncation_of_pending_entries_leaves_no_trace():
    files = MemoryFiles()
    store = open_store(files, TINY)
    store.append(1, entries(1, 5), None, 0)
    store.append(1, entries(3, 2, term=2), None, 0)
    store.append(1, entries(1, 1, term=3), (3, 0, 0), 0)
    flush(store)
    store.close()
    assert recovered(files, 1) == [(1, 3)]


def test_a_truncation_of_flushed_entries_holds_after_a_restart():
    files = MemoryFiles()
    store = open_store(files, TINY)
    store.append(1, entries(1, 5), None, 0)
    flush(store)
    store.append(1, entries(3, 1, term=2), (2, 0, 0), 0)
    assert flush(store) == [(1, 3, 2)]
    store.close()
    assert recovered(files, 1) == [(1, 1), (2, 1), (3, 2)]


def test_a_commit_index_alone_is_not_worth_a_flush_but_travels_with_the_next():
    files = MemoryFiles()
    store = open_store(files, TINY)
    store.append(1, entries(1, 2), None, 0)
    flush(store)
    store.append(1, [], None, 2)
    assert store.take_flush() is None
    store.append(1, entries(3, 1), None, 2)
    flush(store)
    store.close()
    assert open_store(files, TINY).recovered[1].hard_state[2] == 2


def test_flushes_never_share_a_block():
    store = open_store(MemoryFiles(), TINY)
    for index in range(1, 5):
        store.append(1, entries(index, 1), None, 0)
        job = store.take_flush()
        assert job.position == FIRST_FLUSH + (index - 1) * 4096
        job.run()
        store.done(job)


def test_an_idle_wal_is_sealed_once():
    store = open_store(MemoryFiles(), TINY)
    store.tick()
    assert store.take_flush() is None
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    store.tick()
    seal = store.take_flush()
    assert seal.runs == []
    seal.run()
    assert store.done(seal) == []
    store.tick()
    assert store.take_flush() is None


def test_damage_of_a_sealed_tail_is_named_not_cut():
    files = SimDisk()
    store = open_store(files, TINY)
    store.append(1, entries(1, 1), None, 0)
    job = store.take_flush()
    job.run()
    store.done(job)
    store.tick()
    flush(store)
    store.close()
    files.flip("wal/000000000001.wal", job.position + FLUSH.size + 70, 3)
    with pytest.raises(CorruptData) as caught:
        open_store(files, TINY)
    assert caught.value.detail["position"] == job.position
    assert caught.value.detail["length"] == 4096


def test_a_torn_tail_is_dropped_and_told():
    files = SimDisk()
    store = open_store(files, TINY)
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    store.append(1, entries(2, 1), None, 0)
    job = store.take_flush()
    job.run()
    store.close()
    files.flip("wal/000000000001.wal", job.position + FLUSH.size + 70, 3)
    assert recovered(files, 1) == [(1, 1)]


@pytest.mark.parametrize("foreign", [False, True])
def test_a_flush_of_another_use_of_the_file_does_not_count(foreign):
    """Not even a whole one with the sequence that is due, as a restored copy could bring."""
    files = SimDisk()
    store = open_store(files, TINY)
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    file = store.wal.current
    data = control_entry(2).data
    payload = pack_run(1, 0, (1, 0, 0), 2, 1, len(data), 0) + data
    chain = (2, 1, store.wal.previous_crc)
    header, _ = seal_flush([payload], len(payload), file.nonce ^ foreign, chain, 1)
    file.handle.pwrite([header, payload], file.position)
    store.close()
    assert recovered(files, 1) == [(1, 1)] + [(2, 1)] * (not foreign)


def test_a_write_error_stops_the_broker():
    files = SimDisk()
    store = open_store(files, TINY)
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    store.append(1, entries(2, 1), None, 0)
    job = store.take_flush()
    files.faults = DiskFaults(write_error=1.0)
    with pytest.raises(StorageFailure):
        job.run()


def test_a_sync_error_stops_the_broker_and_is_not_tried_again():
    files = SimDisk()
    store = open_store(files, TINY)
    store.append(1, entries(1, 1), None, 0)
    flush(store)
    store.append(1, entries(2, 1), None, 0)
    job = store.take_flush()
    files.faults = DiskFaults(sync_error=1.0)
    with pytest.raises(StorageFailure, match="sync of wal"):
        job.run()
    assert files.injected["sync"] == 1


def test_a_full_disk_delays_a_flush_that_needs_a_file_and_loses_nothing():
    files = SimDisk()
    store = open_store(files, TINY)
    files.capacity = files.used() + 1000
    store.append(1, entries(1, 3), (1, 1, 0), 0)
    job = store.take_flush()
    job.run()
    assert store.done(job) == []
    assert not store.accepting
    assert store.take_flush() is None
    store.append(1, entries(2, 1, term=2), (2, 0, 0), 0)
    store.tick()
    flush(store)  # still full
    files.capacity = 1 << 40
    store.tick()
    assert flush(store)[-1] == (1, 2, 2)
    assert store.accepting
    store.close()
    assert recovered(files, 1) == [(1, 1), (2, 2)]


def test_commits_in_flight_finish_on_a_full_disk():
    files = SimDisk()
    store = open_store(files)
    append_data(store, 1, 1)
    files.capacity = files.used()
    append_data(store, 1, 10)
    assert store.log(1).end_offset == 11


def test_segment_writes_wait_for_space():
    files = SimDisk()
    store = open_store(files, SMALL)
    append_data(store, 1, 30, b"z" * 100)
    files.capacity = files.used() + 100
    job = store.take_job()
    while job is not None and job.name != "segment write":
        job.run()
        store.done(job)
        job = store.take_job()
    job.run()
    store.done(job)
    assert job.full
    assert not store.accepting
    assert store.take_job() is None
    files.capacity = 1 << 40
    store.tick()
    settle(store)
    assert store.accepting
    assert store.log(1).tail.written > 0


def test_publishes_are_refused_while_space_is_short():
    files = SimDisk()
    config = StorageConfig(wal_file_bytes=32 * 1024, reserve_bytes=1000)
    store = open_store(files, config)
    files.capacity = files.used() + 999
    store.tick()
    assert not store.accepting
    files.capacity = files.used() + 1500
    store.tick()
    assert not store.accepting  # no flapping: it ends with twice as much
    files.capacity = files.used() + 2000
    store.tick()
    assert store.accepting


def void_entry_above_the_applied_index():
    files = MemoryFiles()
    store = open_store(files)
    store.append(2, entries(1, 3), (1, 1, 0), 0)
    flush(store)
    store.append(2, entries(2, 1, term=2), (2, 1, 2), 2)
    flush(store)
    for _ in range(40):
        append_data(store, 1, 20, b"y" * 50)
        if store.checkpoint_due():
            store.checkpoint([(1, *store.wal.group(1).durable, b""), (2, 2, 2, b"")])
            settle(store)
    store.close()
    return open_store(files).recovered[2].entries


def test_a_void_entry_above_the_applied_index_does_not_come_back():
    assert void_entry_above_the_applied_index() == []


def test_it_would_come_back_if_cuts_were_forgotten():
    with mutated("truncation-forgotten"):
        assert [one.index for one in void_entry_above_the_applied_index()] == [3]
