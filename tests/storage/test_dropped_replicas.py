"""Replicas that go elsewhere, and come back."""

from __future__ import annotations

import pytest

from penstock.protocol.batch import parse_header
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Store
from tests.storage.helpers import control_entry, data_batch, data_entry, flush, open_store, settle


def fill(store: Store, gid: int, first: int, count: int, *, term: int = 1) -> None:
    """Log and apply batches."""
    for index in range(first, first + count):
        store.append(gid, [data_entry(index, index - 1, term=term)], (term, 2, index), index)
        flush(store)
        buffer = data_batch(index, index - 1, term=term)
        store.create_log(gid).append(buffer, parse_header(buffer))


def test_a_dropped_replica_keeps_term_and_vote_alone() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 100)
    store.checkpoint([(5, 90, 1, b"state")])
    settle(store)
    assert files.list("partitions") == ["5"]
    store.drop_replica(5, 100, 1, at_us=1_000_000)
    assert store.dropping(5)
    settle(store)
    assert not store.dropping(5)
    assert files.list("partitions") == []
    for _ in range(3):
        group = store.recovered[5]
        assert (group.hard_state, group.applied_index, group.blob) == ((1, 2, 0), 0, None)
        assert group.entries == []
        assert 5 not in store.logs
        store.close()
        store = open_store(files)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_replica_that_came_back_is_recovered(checkpoint: bool) -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 100)
    store.drop_replica(5, 100, 1, at_us=1_000_000)
    settle(store)
    store.recovered.pop(5)
    fill(store, 5, 1, 30, term=4)
    if checkpoint:
        store.checkpoint([(5, 20, 4, b"second")])
    settle(store)
    store.close()
    again = open_store(files)
    group = again.recovered[5]
    assert group.hard_state[:2] == (4, 2)
    assert group.applied_index == (20 if checkpoint else 0)
    assert group.blob == (b"second" if checkpoint else None)
    assert [(e.index, e.term) for e in group.entries] == [
        (index, 4) for index in range(21 if checkpoint else 1, 31)
    ]


def test_a_stop_before_the_drop_is_durable_leaves_all_as_it_was() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 20)
    store.drop_replica(5, 100, 1, at_us=1_000_000)
    store.close()
    again = open_store(files)
    assert len(again.recovered[5].entries) == 20


def test_the_wal_goes_on_after_a_drop() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 100)
    store.drop_replica(5, 100, 1, at_us=1_000_000)
    settle(store)
    for index in range(1, 400):
        store.append(7, [control_entry(index, b"x" * 500)], (1, 1, index), index)
        flush(store)
        if store.checkpoint_due():
            store.checkpoint([(7, index, 1, b"state")])
        settle(store)
    assert len(store.wal.sealed) <= 2
    store.close()
    assert open_store(files).recovered[5].hard_state == (1, 2, 0)


def test_a_dropped_replica_of_a_deleted_topic_goes_altogether() -> None:
    files = MemoryFiles()
    store = open_store(files)
    fill(store, 5, 1, 20)
    store.drop_replica(5, 100, 1, at_us=1_000_000)
    store.delete_log(5)
    settle(store)
    store.close()
    again = open_store(files)
    assert 5 not in again.recovered
    assert files.list("partitions") == []


def test_it_is_dropped_again_after_it_came_back() -> None:
    files = MemoryFiles()
    store = open_store(files)
    for life in range(1, 4):
        fill(store, 5, 1, 30, term=life)
        store.checkpoint([(5, 10, life, b"%d" % life)])
        settle(store)
        store.drop_replica(5, 100, 1, at_us=1_000_000)
        settle(store)
        store.recovered.pop(5)
    store.close()
    assert open_store(files).recovered[5].hard_state == (3, 2, 0)


def test_what_earlier_lives_promised_stays() -> None:
    files = MemoryFiles()
    store = open_store(files)
    for life, last in ((1, 30), (2, 10), (3, 20)):
        fill(store, 5, 1, last, term=life)
        store.checkpoint([(5, last, life, b"%d" % life)])
        settle(store)
        store.drop_replica(5, last, life, at_us=1_000_000)
        assert store.recovered[5].promised == (life, last)
        settle(store)
        store.close()
        store = open_store(files)
        assert store.recovered[5].promised == (life, last)
    fill(store, 5, 1, 3, term=3)
    store.checkpoint([(5, 3, 3, b"last")])
    settle(store)
    store.drop_replica(5, 3, 3, at_us=1_000_000)
    assert store.recovered[5].promised == (3, 20)
