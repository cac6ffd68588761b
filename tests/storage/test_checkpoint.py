import pytest

from penstock.errors import CorruptData
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage.entries import StoredEntry
from tests.storage.helpers import (
    append_data,
    checkpoint,
    control_entry,
    data_entry,
    flush,
    open_store,
    read_all,
    settle,
)


def fill(store, gid: int = 1, count: int = 600) -> None:
    append_data(store, gid, count, b"y" * 50)


def test_a_checkpoint_is_due_when_a_wal_file_is_full():
    store = open_store(MemoryFiles())
    append_data(store, 1, 3)
    assert store.checkpoint_due() == []
    fill(store, count=20)
    assert store.checkpoint_due() == [1]


def test_wal_files_are_recycled_behind_checkpoints():
    files = MemoryFiles()
    store = open_store(files)
    for _ in range(40):
        fill(store, count=20)
        for gid in store.checkpoint_due():
            checkpoint(store, [gid])
        settle(store)
    assert len(files.list("wal")) <= 4
    store.close()
    again = open_store(files)
    assert read_all(again, 1)[-1][0] >= 780
    assert again.recovered[1].blob == b"state"


def test_after_a_requested_checkpoint_nothing_is_replayed():
    files = MemoryFiles()
    store = open_store(files)
    append_data(store, 1, 30)
    store.append(2, [control_entry(1), control_entry(2)], (5, 1, 2), 2)
    flush(store)
    assert store.request_checkpoint() == [1, 2]
    checkpoint(store, [1, 2])
    assert store.request_checkpoint() == []
    store.close()
    again = open_store(files)
    assert again.recovered[2].entries == []
    assert again.recovered[2].hard_state == (5, 1, 2)
    assert again.recovered[2].applied_index == 2
    assert len(read_all(again, 1)) == 30
    assert again.request_checkpoint() == []


def test_uncommitted_entries_outlive_their_wal_file():
    files = MemoryFiles()
    store = open_store(files)
    store.append(2, [control_entry(1, b"one"), control_entry(2, b"two")], (1, 1, 0), 1)
    for _ in range(40):
        fill(store, count=20)
        due = store.checkpoint_due()
        if due:
            states = [(1, *store.wal.group(1).durable, b"state")]
            store.checkpoint([*states, (2, 1, 1, b"two-state")])
            settle(store)
    assert store.wal.sealed == []
    store.close()
    again = open_store(files)
    assert [bytes(entry.data[96:]) for entry in again.recovered[2].entries] == [b"two"]


def test_void_entries_do_not_come_back_by_being_logged_again():
    files = MemoryFiles()
    store = open_store(files)
    store.append(2, [control_entry(1), control_entry(2), control_entry(3)], (1, 1, 0), 0)
    flush(store)
    store.append(2, [control_entry(2, b"new", term=2)], (2, 1, 0), 0)
    for _ in range(40):
        fill(store, count=20)
        if store.checkpoint_due():
            store.checkpoint([(1, *store.wal.group(1).durable, b""), (2, 0, 0, b"")])
            settle(store)
    store.close()
    entries = open_store(files).recovered[2].entries
    assert [(entry.index, entry.term) for entry in entries] == [(1, 1), (2, 2)]


def test_a_deleted_group_stays_deleted():
    files = MemoryFiles()
    store = open_store(files)
    fill(store, count=40)
    store.delete_log(1)
    settle(store)
    assert files.list("partitions") == []
    store.close()
    again = open_store(files)
    assert again.recovered == {}
    assert again.logs == {}


def test_log_files_of_a_deleted_group_go_also_after_a_restart():
    files = MemoryFiles()
    store = open_store(files)
    store.append(1, [control_entry(1)], (1, 1, 0), 1)
    store.append(2, [control_entry(1)], (1, 1, 0), 1)
    flush(store)
    store.delete_log(2)
    settle(store)
    for _ in range(3):
        store.close()
        store = open_store(files)
        assert store.checkpoint_due() in ([], [1])
        store.append(1, [control_entry(store.wal.group(1).next_index)], None, 1)
        flush(store)
        store.checkpoint([(1, *store.wal.group(1).durable, b"state")])
        settle(store)
    assert store.wal.sealed == []


def test_an_installed_snapshot_voids_the_log_before_it():
    files = MemoryFiles()
    store = open_store(files)
    store.append(3, [control_entry(1), control_entry(2), control_entry(3)], (1, 1, 0), 0)
    flush(store)
    store.install(3, 2, 5, b"snapshot")
    store.append(3, [control_entry(3, b"after", term=5)], (5, 0, 3), 3)
    assert flush(store) == []
    job = store.take_job()
    while job is not None:
        job.run()
        durable = store.done(job)
        if durable:
            assert durable == [(3, 2, 5)]
        job = store.take_job()
    assert flush(store)[-1] == (3, 3, 5)
    store.close()
    group = open_store(files).recovered[3]
    assert (group.applied_index, group.applied_term, group.blob) == (2, 5, b"snapshot")
    assert [(entry.index, entry.term) for entry in group.entries] == [(3, 5)]


def test_what_a_start_found_in_a_checkpoint_is_vouched_for_from_then_on():
    """A stop came between it and the flush that would have said so."""
    files = SimDisk()
    store = open_store(files)
    store.append(3, [control_entry(1), control_entry(2)], (1, 1, 0), 0)
    flush(store)
    checkpoint(store, [3])
    before = store.control.length
    store.install(3, 9, 5, b"snapshot")
    store.take_job().run()
    store.close()  # before a flush could vouch for it
    store = open_store(files)
    assert store.recovered[3].applied_index == 9
    flush(store)
    store.close()
    files.flip("checkpoint/000000000001.ckpt", before + 100, 3)
    with pytest.raises(CorruptData) as caught:
        open_store(files)
    assert caught.value.detail["file"] == "checkpoint/000000000001.ckpt"


def test_a_group_due_without_a_state_keeps_its_entries():
    files = MemoryFiles()
    store = open_store(files)
    store.append(9, [control_entry(1, b"kept")], (1, 0, 0), 0)
    for _ in range(20):
        fill(store, count=20)
        if store.checkpoint_due():
            store.checkpoint([(1, *store.wal.group(1).durable, b"")])
            settle(store)
    store.close()
    assert bytes(open_store(files).recovered[9].entries[0].data[96:]) == b"kept"


def test_the_checkpoint_file_is_rewritten_when_most_of_it_is_out_of_date():
    files = MemoryFiles()
    store = open_store(files)
    append_data(store, 1, 1)
    for number in range(40):
        append_data(store, 1, 1)
        checkpoint(store, [1], bytes([number]) * 300_000)
    assert len(files.list("checkpoint")) == 1
    assert files.list("checkpoint") != ["000000000001.ckpt"]
    store.close()
    assert open_store(files).recovered[1].blob == bytes([39]) * 300_000


def test_a_trim_removes_whole_segments_once_a_checkpoint_is_beyond_them():
    files = MemoryFiles()
    store = open_store(files)
    fill(store, count=300)
    checkpoint(store, [1])
    log = store.log(1)
    before = log.segment_count
    log.trim(200)
    settle(store)
    assert log.segment_count < before
    assert log.bases[0] <= 200
    assert [offset for offset, _ in read_all(store, 1)][-1] == 299
    append_data(store, 1, 1)
    checkpoint(store, [1])
    store.close()
    again = open_store(files)
    assert again.log(1).start_offset == 200
    assert again.log(1).damages == []


@pytest.mark.parametrize("size", [200_000])
def test_an_entry_larger_than_a_wal_file_is_refused(size):
    from penstock.errors import LimitExceeded

    store = open_store(MemoryFiles())
    with pytest.raises(LimitExceeded):
        store.append(1, [data_entry(1, 0, b"z" * size)], None, 0)


def test_a_new_hard_state_alone_is_flushed():
    files = MemoryFiles()
    store = open_store(files)
    store.append(1, [], (4, 2, 0), 0)
    assert flush(store) == [(1, 0, 0)]
    store.close()
    assert open_store(files).recovered[1].hard_state == (4, 2, 0)


def test_an_entry_is_any_object_with_index_term_kind_and_data():
    assert StoredEntry(1, 2, 3, bytearray()).index == 1
