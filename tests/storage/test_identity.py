"""The identity of a directory: absent, then there for ever."""

from __future__ import annotations

import pytest

from penstock.errors import CorruptData
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Identity, Store
from tests.storage.helpers import open_store, run_jobs


def claimed(files: MemoryFiles) -> Store:
    store = open_store(files)
    store.claim("cluster-1", 7)
    run_jobs(store)
    return store


def test_a_fresh_directory_belongs_to_no_cluster() -> None:
    assert open_store(MemoryFiles()).identity is None


def test_an_identity_is_known_once_it_is_durable_and_after_a_restart() -> None:
    files = MemoryFiles()
    store = open_store(files)
    store.claim("cluster-1", 7)
    assert store.identity is None
    run_jobs(store)
    assert store.identity == Identity("cluster-1", 7)
    store.close()
    assert open_store(files).identity == Identity("cluster-1", 7)


def test_a_claim_that_did_not_reach_its_name_is_forgotten() -> None:
    files = MemoryFiles()
    store = claimed(files)
    files.rename("identity", "identity.new")
    store.close()
    again = open_store(files)
    assert again.identity is None
    again.claim("c", 1)
    run_jobs(again)
    again.close()
    assert open_store(files).identity == Identity("c", 1)


@pytest.mark.parametrize("position", [0, 8, 13, 16, 23])
def test_a_damaged_identity_is_refused(position: int) -> None:
    files = MemoryFiles()
    claimed(files).close()
    files.open("identity").pwrite([b"\xff"], position)
    with pytest.raises(CorruptData, match="identity"):
        open_store(files)


def test_a_claim_on_a_full_disk_is_made_again_when_there_is_room() -> None:
    disk = SimDisk()
    store = open_store(disk)
    store.claim("cluster-1", 7)
    disk.capacity = disk.used()
    run_jobs(store)
    assert store.identity is None
    assert not store.accepting
    disk.capacity = 1 << 40
    store.tick()
    run_jobs(store)
    assert store.identity == Identity("cluster-1", 7)
    assert store.accepting
