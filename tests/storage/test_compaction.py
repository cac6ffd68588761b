from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.protocol import batch
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.disk import Crash, SimDisk
from penstock_broker.simulation.memory_files import MemoryFiles
from penstock_broker.storage import Cold, StorageConfig
from penstock_broker.storage.compaction import CompactJob
from tests.storage.helpers import settle
from tests.storage.tables import TABLE, Settings, Table, fold

KEEP_TOMBSTONES = Settings(delete_retention_ms=1 << 40)


def filled(
    files: object = None,
    count: int = 200,
    keys: int = 5,
    size: int = 100,
    config: StorageConfig = TABLE,
) -> Table:
    """A table whose keys were written again and again."""
    table = Table(files or MemoryFiles(), config)  # type: ignore[arg-type]  # any Files
    for number in range(count):
        table.put((b"k%d" % (number % keys), b"%d" % number + b"x" * size))
    return table


def test_only_the_newest_record_of_a_key_stays():
    table = filled()
    before = table.segment_bytes()
    table.compact()
    table.check()
    counts = Counter(item.key for item in table.compacted)
    assert set(counts.values()) == {1}
    assert len(counts) == 5
    assert table.segment_bytes() < before / 4


def test_small_records_become_fewer_bytes_too():
    table = filled(count=400, size=0)
    before = table.segment_bytes()
    table.compact()
    table.check()
    assert table.segment_bytes() < before / 4


def test_records_without_a_key_stay():
    table = Table(MemoryFiles())
    for number in range(100):
        table.put((None, b"event %d" % number), (b"k", b"x" * 100))
    table.compact()
    table.check()
    assert len([item for item in table.compacted if item.key is None]) > 80


def test_nothing_is_compacted_unless_the_topic_says_so():
    table = Table(MemoryFiles(), settings=Settings(cleanup="delete"))
    for number in range(100):
        table.put((b"k", b"%d" % number + b"x" * 100))
    table.compact()
    assert table.stored() == table.items


def test_records_keep_offset_time_headers_and_bytes():
    table = Table(MemoryFiles())
    for number in range(60):
        table.put(
            (b"k%d" % (number % 3), b"%d" % number + b"x" * 300),
            (b"once%d" % number, b"y"),
            codec=1,
        )
    table.compact()
    table.check()
    assert len([item for item in table.compacted if item.value == b"y"]) > 30
    assert len(table.compacted) < 70


def test_a_tombstone_goes_after_its_time_and_nothing_comes_back():
    table = Table(MemoryFiles(), settings=Settings(delete_retention_ms=50))
    for number in range(20):
        table.put((b"gone", b"%d" % number))
        table.put((b"kept", b"%d" % number))
    table.put((b"gone", None))
    for number in range(100):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.compact()
    table.check()
    assert b"gone" not in {item.key for item in table.stored()}


def test_a_young_tombstone_stays():
    table = Table(MemoryFiles(), settings=KEEP_TOMBSTONES)
    table.put((b"gone", b"value"))
    table.put((b"gone", None))
    for number in range(100):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.compact()
    table.check()
    assert [item.value for item in table.compacted if item.key == b"gone"] == [None]


def test_a_deleted_key_does_not_come_back_in_a_later_pass():
    table = Table(MemoryFiles(), settings=Settings(delete_retention_ms=80))
    table.put((b"gone", b"value"))
    for round_ in range(6):
        for number in range(60):
            table.put((b"filler%d" % (number % 4), b"x" * 50 + b"%d" % round_))
        if round_ == 1:
            table.put((b"gone", None))
        table.compact()
        table.check()
    assert b"gone" not in {item.key for item in table.stored()}


def test_every_offset_can_be_read_from():
    table = filled(keys=3)
    table.compact()
    stored = table.stored()
    for offset in range(table.log.end_offset):
        assert table.stored(offset) == [item for item in stored if item.offset >= offset]


def test_times_are_found_in_a_compacted_log():
    table = filled(keys=3)
    table.compact()
    for probe in range(0, table.time_us + 2000, 700):
        expected = next((i.offset for i in table.stored() if i.time_us >= probe), None)
        offset = table.log.offset_at(probe)
        found = table.stored(offset)
        if expected is None:
            assert not [item for item in found if item.time_us >= probe]
        else:
            assert offset <= expected
            assert found[0].offset == expected or found[0].time_us < probe


def test_a_compacted_log_survives_a_restart_with_and_without_its_indexes():
    table = filled()
    table.compact()
    stored, size = table.stored(), table.log.size_bytes
    table.reopen()
    assert table.stored() == stored
    assert table.log.size_bytes == size
    for name in table.files.list("partitions/1"):
        if name.endswith(".idx"):
            table.files.remove(f"partitions/1/{name}")
    table.reopen()
    assert table.stored() == stored
    table.check()


def test_compacting_again_changes_nothing_and_ends():
    table = filled()
    table.compact()
    stored, passes = table.stored(), table.store.compactor.passes
    table.work(50)
    assert table.stored() == stored
    assert table.store.compactor.passes == passes
    table.reopen()
    table.work(50)
    assert table.stored() == stored
    assert table.store.compactor.passes <= 2


def test_more_keys_than_fit_into_memory_take_several_passes():
    config = replace(TABLE, compaction_keys_max=7)
    table = Table(MemoryFiles(), config)
    for number in range(300):
        table.put((b"k%d" % (number % 40), b"%d" % number + b"x" * 40))
    table.save()
    table.work(200)
    table.check()
    assert set(Counter(item.key for item in table.compacted).values()) == {1}


def test_long_keys_are_told_apart():
    table = Table(MemoryFiles())
    for number in range(100):
        table.put((b"k" * 300 + b"%d" % (number % 3), b"%d" % number))
    table.compact()
    table.check()
    assert set(Counter(item.key for item in table.compacted).values()) == {1}


def test_a_read_of_the_old_file_goes_on():
    table = filled()
    table.save()
    cold = table.log.read(3, 2000)
    assert isinstance(cold, Cold)
    table.work()
    assert table.compacted != table.items[: len(table.compacted)]
    data = cold.file.pread(cold.length, cold.position)
    (buffer,) = table.log.finish_read(cold, data, 3, 2000)
    assert next(batch.iterate(buffer))[1].base_offset == 3
    assert not table.log.damages


def test_reads_between_a_step_and_its_end_see_one_file():
    config = replace(TABLE, open_segments_max=1, index_cache_bytes=1)
    table = filled(count=100, config=config)
    table.save()
    expected = fold(table.items)
    for _ in range(20):
        table.store.tick()
        while (job := table.store.take_job()) is not None:
            job.run()
            assert fold(table.stored()) == expected  # not told of the job's outcome yet
            table.store.done(job)
            assert fold(table.stored()) == expected
    table.check()
    assert len(table.compacted) == 5


def test_a_damaged_segment_is_left_alone_and_keeps_all_tombstones():
    disk = SimDisk(1)
    table = Table(disk)
    table.put((b"gone", b"value" * 50))
    for number in range(50):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.put((b"gone", None))
    for number in range(50):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.save()
    disk.flip("partitions/1/00000000000000000000.log", 150, 0)
    before = disk.content("partitions/1/00000000000000000000.log")
    table.work(100)
    assert disk.content("partitions/1/00000000000000000000.log") == before
    found = [item for item in table.stored(table.log.bases[1]) if item.key == b"gone"]
    assert [item.value for item in found] == [None]
    assert len(table.stored(table.log.bases[1])) < 60
    assert table.store.take_job() is None


def test_a_batch_that_cannot_be_decoded_is_kept_and_keeps_tombstones():
    table = Table(MemoryFiles())
    table.put((b"gone", b"value"))
    data = encode_batch([b"a", b"b"], [b"odd", b"stays"], headers=[{"h": b"1"}, None])
    at = data.index(b"h\xc4")
    data[at - 1] = 0xC1  # no such MessagePack type
    batch.seal(data, count=2, raw_len=len(data) - batch.HEADER_BYTES)
    table.put_batch(data)
    raw = bytes(data)
    for _ in range(3):
        table.put((b"odd", None), (b"gone", None))
        for number in range(60):
            table.put((b"filler", b"x" * 100 + b"%d" % number))
        table.compact()
    for _ in range(4):
        for number in range(60):
            table.put((b"filler", b"x" * 100 + b"%d" % number))
        table.compact()
    (kept,) = table.batches_at(1, 1)
    assert bytes(kept._buffer) == raw
    assert (b"odd", None) in {(item.key, item.value) for item in table.stored(3)}


def test_a_value_whose_removal_saves_nothing_goes_before_its_tombstone():
    table = Table(MemoryFiles())
    table.put((b"gone", b"v"), *((b"%d" % number, b"") for number in range(400)))
    for number in range(40):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.put((b"gone", None))
    for number in range(80):
        table.put((b"filler", b"x" * 100 + b"%d" % number))
    table.compact()
    table.check()
    assert b"gone" not in {item.key for item in table.stored()}


def test_a_damaged_newest_segment_does_not_start_passes_for_ever():
    disk = SimDisk(1)
    table = Table(disk)
    for number in range(100):
        table.put((b"k", b"x" * 100 + b"%d" % number))
    table.save()
    table.store.tick()
    sealed = [one for one in table.log.segments if one.base_offset < table.log.durable_base]
    disk.flip(sealed[-1].path, 10, 0)
    table.work(30)
    passes = table.store.compactor.passes
    assert passes >= 1
    table.work(30)
    assert table.store.compactor.passes == passes


def test_a_disk_that_is_full_when_the_index_is_written_costs_only_the_index():
    disk = SimDisk(1)
    table = Table(disk)
    for number in range(200):
        table.put((b"k%d" % (number % 5), b"%d" % number + b"x" * 100))
    table.save()
    renamed = 0
    for _ in range(30):
        table.store.tick()
        while (job := table.store.take_job()) is not None:
            before = disk.paths()
            if isinstance(job, CompactJob) and any(path.endswith(".compact") for path in before):
                disk.capacity = disk.used() - 1  # what was written is there; nothing more fits
            job.run()
            renamed += disk.paths() != before
            disk.capacity = 1 << 40
            table.store.done(job)
            table.check()
    assert renamed


def test_a_trim_in_the_middle_of_a_pass_ends_it():
    table = filled(SimDisk(1), count=300)
    table.save()
    table.store.tick()
    steps = 0
    while (job := table.store.take_job()) is not None:
        job.run()
        table.store.done(job)
        steps += isinstance(job, CompactJob)
        if steps == 4:
            steps += 1
            table.log.trim(table.log.bases[3])
    table.work()
    table.check()
    assert not [path for path in table.files.paths() if path.endswith(".compact")]  # type: ignore[attr-defined]  # a SimDisk


def test_a_deletion_in_the_middle_of_a_pass_ends_it():
    table = filled(SimDisk(1), count=300)
    table.save()
    table.store.tick()
    steps = 0
    while (job := table.store.take_job()) is not None:
        job.run()
        table.store.done(job)
        steps += isinstance(job, CompactJob)
        if steps == 4:
            table.store.delete_log(1)
            steps += 1
    for _ in range(5):
        table.store.tick()
        settle(table.store)
    assert table.store.idle
    assert not [path for path in table.files.paths() if path.startswith("partitions/1/")]  # type: ignore[attr-defined]  # a SimDisk


def test_a_full_disk_puts_a_pass_off():
    disk = SimDisk(1)
    table = filled(disk)
    table.save()
    disk.capacity = disk.used() + 10
    table.work(5)
    table.check()
    disk.capacity = 1 << 40
    table.work()
    table.check()
    assert len(table.compacted) == 5


@pytest.mark.parametrize("power", [False, True])
def test_a_stop_at_any_call_to_the_disk_loses_nothing(power: bool):
    crashes = 0
    for step in range(0, 10_000, 3):
        disk = SimDisk(step)
        table = Table(disk, settings=Settings(delete_retention_ms=20))
        for number in range(60):
            table.put((b"k%d" % (number % 3), None if number % 7 == 5 else b"x" * 200))
        table.save()
        disk.crash_at = disk.steps + 1 + step
        try:
            table.work(6)
        except Crash:
            crashes += 1
        else:
            break
        disk.crash(power=power)
        table.open()
        table.check()
        table.compact()
        table.check()
    assert crashes > 10


keys = st.sampled_from([None, b"a", b"b", b"c", b"d"])
pair = st.tuples(keys, st.sampled_from([None, b"", b"1", b"x" * 90]))
command = st.one_of(
    st.tuples(st.just("put"), st.lists(pair, min_size=1, max_size=5)),
    st.tuples(st.just("put"), st.lists(pair, min_size=1, max_size=1)),
    st.tuples(st.just("many"), st.integers(1, 60)),
    st.tuples(st.sampled_from(["save", "work", "reopen", "step"]), st.none()),
    st.tuples(st.just("trim"), st.floats(0, 1)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(command, max_size=25),
    st.sampled_from([1, 30, 1 << 40]),
    st.sampled_from([2, 1_000_000]),
)
def test_a_compacted_log_makes_the_same_table(commands, retention_ms, keys_max):
    config = replace(TABLE, compaction_keys_max=keys_max, segment_bytes=4096)
    table = Table(MemoryFiles(), config, Settings(delete_retention_ms=retention_ms))
    random = Random(len(commands))
    for name, argument in commands:
        if name == "put":
            table.put(*argument)
        elif name == "many":
            for _ in range(argument):
                value = random.choice([None, b"v%d" % random.randrange(100) * 20])
                table.put((random.choice([b"a", b"b", b"c", b"e"]), value))
        elif name == "save":
            table.save()
        elif name == "work":
            table.work(3)
        elif name == "reopen":
            table.reopen()
        elif name == "trim":
            table.log.trim(
                int(table.log.start_offset * (1 - argument) + argument * (table.log.end_offset))
            )
        else:
            table.store.tick()
            job = table.store.take_job()
            if job is not None:
                job.run()
                table.store.done(job)
        table.check()
    table.compact()
    table.work(40)
    table.check()


def test_a_pass_that_does_not_fit_the_disk_refuses_no_publish() -> None:
    disk = SimDisk(1)
    table = filled(disk)
    table.save()
    disk.capacity = disk.used() + 10
    disk.free_bytes = lambda: 1 << 40  # type: ignore[method-assign]  # a quota is not in it
    for _ in range(8):
        table.store.tick()
        settle(table.store)
        assert table.store.accepting
