from penstock_broker.runtime.files import RealFiles
from penstock_broker.simulation.memory_files import MemoryFiles
from tests.storage.helpers import append_data, control_entry, flush, open_store, read_all, run_jobs


def test_an_empty_directory_becomes_a_node():
    files = MemoryFiles()
    store = open_store(files)
    uuid = store.node_uuid
    store.close()
    again = open_store(files)
    assert again.node_uuid == uuid
    assert again.recovered == {}


def test_flushed_entries_come_back_after_a_restart():
    files = MemoryFiles()
    store = open_store(files)
    store.append(7, [control_entry(1, b"a"), control_entry(2, b"b")], (3, 9, 0), 0)
    assert flush(store) == [(7, 2, 1)]
    store.append(7, [control_entry(3, b"c")], None, 2)
    assert flush(store) == [(7, 3, 1)]
    store.close()
    group = open_store(files).recovered[7]
    assert [entry.index for entry in group.entries] == [1, 2, 3]
    assert bytes(group.entries[2].data[96:]) == b"c"
    assert group.hard_state == (3, 9, 2)


def test_unflushed_entries_are_gone_after_a_restart():
    files = MemoryFiles()
    store = open_store(files)
    store.append(7, [control_entry(1)], None, 0)
    store.close()
    assert open_store(files).recovered == {}


def test_records_are_read_from_ram_from_segments_and_after_a_restart(tmp_path):
    for files in (MemoryFiles(), RealFiles(tmp_path)):
        store = open_store(files)
        append_data(store, 1, 150, b"x" * 100)
        expected = [(offset, b"x" * 100) for offset in range(150)]
        assert read_all(store, 1) == expected
        run_jobs(store)
        assert read_all(store, 1) == expected
        assert store.log(1).segment_count > 2
        store.close()
        again = open_store(files)
        log = again.create_log(1)
        for entry in again.recovered[1].entries:
            from penstock.protocol.batch import parse_header

            log.append(entry.data, parse_header(entry.data))
        assert read_all(again, 1) == expected
        again.close()
