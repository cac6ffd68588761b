"""Every byte of a small data directory is damaged in turn; the last flush is torn everywhere."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.storage_checks import matches
from penstock_broker.simulation.storage_damage import Injury, check_damaged
from penstock_broker.simulation.storage_world import StorageWorld
from penstock_broker.storage import RecoveredGroup, StorageConfig, Store

QUIET = dict.fromkeys(
    ["restart_cleanly", "crash_soon", "crash_now", "fail_a_call", "fill_disk", "injure", "install"],
    0,
)


class SmallWorld(StorageWorld):
    """A history that fits into a few small files."""

    def _draw_config(self) -> StorageConfig:
        return StorageConfig(
            wal_file_bytes=32 * 1024,
            wal_spares=0,
            flush_bytes_max=4096,
            segment_bytes=4096,
            index_interval_bytes=300,
            tail_bytes_max=2048,
            write_bytes=1,
            reserve_bytes=0,
        )


@pytest.fixture(scope="module")
def world() -> SmallWorld:
    """All kinds of files: WAL, checkpoint, sealed and active segments, indexes."""
    world = SmallWorld(3, QUIET)
    world.run(60)
    for _ in range(20):
        world.append()
        world._settle()
    assert world.seal()
    return world


def meaningful(disk: SimDisk, path: str) -> list[int]:
    """Positions that hold something, and a few of the zeros between."""
    content = disk.content(path)
    used = [at for at, byte in enumerate(content) if byte]
    return sorted({*used, *range(0, len(content), 1024)})


def newest_wal_file(disk: SimDisk) -> str:
    """When it goes as a whole, nothing else knows that there was more."""
    return max(path for path in disk.paths() if path.endswith("wal"))


def kinds(disk: SimDisk) -> Counter[str]:
    return Counter(path.rpartition(".")[2] for path in disk.paths())


def test_the_small_directory_has_files_of_every_kind(world):
    assert {"wal", "ckpt", "log", "idx", "format"} <= set(kinds(world.disk))


@pytest.mark.parametrize("kind", ["wal", "ckpt", "log", "idx", "format"])
def test_a_flipped_bit_loses_nothing_or_is_named(world, kind):
    outcomes: Counter[str] = Counter()
    for path in world.disk.paths():
        if not path.endswith(kind):
            continue
        positions = meaningful(world.disk, path)
        step = max(len(positions) // 250, 1)
        for position in positions[::step]:
            disk = world.disk.fork()
            disk.flip(path, position, position % 8)
            injury = Injury(path, position)
            outcomes[check_damaged(disk, world.config, world.groups.values(), injury)] += 1
    assert outcomes.total() > 20
    if kind == "idx":
        assert set(outcomes) == {"unharmed"}
    else:
        assert outcomes.total() > outcomes["unharmed"]


@pytest.mark.parametrize("kind", ["wal", "ckpt", "log", "idx", "format"])
def test_a_cut_file_loses_nothing_or_is_named(world, kind):
    for path in world.disk.paths():
        if not path.endswith(kind) or path == newest_wal_file(world.disk):
            continue
        content = world.disk.content(path)
        for length in {0, 1, len(content) // 2, len(content) - 1, *range(0, len(content), 4096)}:
            disk = world.disk.fork()
            disk.open(path).truncate(length)
            injury = Injury(path, 0, max(len(content), 1))
            check_damaged(disk, world.config, world.groups.values(), injury)


@pytest.mark.parametrize("kind", ["wal", "ckpt", "log", "idx", "format"])
def test_a_missing_file_loses_nothing_or_is_named(world, kind):
    for path in world.disk.paths():
        if path.endswith(kind) and path != newest_wal_file(world.disk):
            disk = world.disk.fork()
            injury = Injury(path, 0, max(len(disk.content(path)), 1))
            disk.remove(path)
            check_damaged(disk, world.config, world.groups.values(), injury)


class Torn:
    """The last flush of a history, with what was on the disk before it."""

    def __init__(self, world: SmallWorld) -> None:
        while world.flush is None:
            world.append()
            world.take_flush()
        self.world = world
        self.before = world.disk.fork()
        self.old = {gid: model.durable.copy() for gid, model in world.groups.items()}
        flush = world.flush
        world.run_flush()
        self.path, self.position = flush.file.path, flush.position
        end = flush.position + 64 + flush.length
        self.bytes = world.disk.content(self.path)[flush.position : end]

    def check(self, written: list[tuple[int, int]]) -> None:
        """Only these ranges of the flush reached the disk: it counts as a whole or not at all."""
        disk = self.before.fork()
        if not disk.exists(self.path):
            return
        file = disk.open(self.path)
        for start, end in written:
            file.pwrite([self.bytes[start:end]], self.position + start)
        content = disk.content(self.path)
        store = Store.open(disk, self.world.config, fresh_uuid=bytes(16))
        whole = 0
        for gid, model in self.world.groups.items():
            found = store.recovered.get(gid, RecoveredGroup())
            newest = model.term, model.vote
            is_old = matches(found, self.old[gid], newest)
            is_new = matches(found, model.durable, newest)
            assert is_old or is_new
            whole += is_new and not is_old
        end = self.position + len(self.bytes)
        everything = content[self.position : end] == self.bytes
        assert bool(whole) == everything


@pytest.fixture(scope="module")
def torn() -> Torn:
    world = SmallWorld(5, QUIET)
    world.run(30)
    for _ in range(3):
        world.append()
        world._settle()
    return Torn(world)


def test_a_flush_torn_at_any_byte_counts_as_a_whole_or_not_at_all(torn):
    size = len(torn.bytes)
    for cut in range(0, size + 1, max(size // 400, 1)):
        torn.check([(0, cut)])
        torn.check([(cut, size)])
    torn.check([(0, size)])


def test_any_subset_of_sectors_of_a_flush_counts_as_a_whole_or_not_at_all(torn):
    size = len(torn.bytes)
    sector = 512 * -(-size // (512 * 7))  # at most 7 sectors: 128 subsets
    sectors = [(at, min(at + sector, size)) for at in range(0, size, sector)]
    for chosen in itertools.product((False, True), repeat=len(sectors)):
        torn.check([each for each, keep in zip(sectors, chosen, strict=True) if keep])
