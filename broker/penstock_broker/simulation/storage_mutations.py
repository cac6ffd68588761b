"""Storage with one rule broken, to see that the simulation notices.

A mutation replaces one function while a history is played; production code knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from penstock.errors import CorruptData
from penstock.protocol.batch import HEADER
from penstock.protocol.records import RecordBatch
from penstock_broker.simulation.disk import SimDisk, SimFile
from penstock_broker.storage import (
    StorageConfig,
    StoredEntry,
    checkpoint,
    checkpoint_job,
    compaction,
    flush,
    keeper,
    layout,
    log_recovery,
    quarantine,
    scan,
    segment_jobs,
    wal,
    wal_files,
    wal_format,
    wal_recovery,
)
from penstock_broker.storage.files import Buffer, File, Files
from penstock_broker.storage.jobs import Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.log_recovery import LogPosition

Patch = tuple[object, str, Any]
"""(owner, attribute, replacement)."""


def _nothing(*_: object, **__: object) -> None:
    return None


def _sync_skipped() -> list[Patch]:
    return [(flush, "sync_file", _nothing)]


def _directory_sync_skipped() -> list[Patch]:
    modules = (wal_files, segment_jobs, checkpoint, checkpoint_job)
    return [(module, "sync_names", _nothing) for module in modules]


def _torn_tail_accepted() -> list[Patch]:
    def parse(data: bytes, at: int, nonce: int | None) -> wal_format.FlushHeader | None:
        if at + wal_format.FLUSH.size > len(data):
            return None
        fields = wal_format.FLUSH.unpack_from(data, at)
        magic, crc, found, sequence, oldest, previous, runs, length = fields
        if magic != wal_format.FLUSH_MAGIC or (nonce is not None and found != nonce):
            return None
        end = at + wal_format.aligned(wal_format.FLUSH.size + length)
        return wal_format.FlushHeader(sequence, oldest, crc, previous, runs, at, end)

    def read(data: Buffer, run: wal_format.RunHeader, at: int, above: int) -> list[StoredEntry]:
        place = at
        while place < at + run.length:
            length = HEADER.unpack_from(data, place)[1]
            if not length:
                raise CorruptData("what was torn has no end")  # nor would reading it have one
            place += length
        return wal_format.read_entries(data, run, at, above)

    return [(wal_recovery, "parse_flush", parse), (wal_recovery, "read_entries", read)]


def _stale_nonce_accepted() -> list[Patch]:
    def parse(data: bytes, at: int, nonce: int | None) -> wal_format.FlushHeader | None:
        found = wal_format.parse_flush(data, at, None)
        return found and found._replace(oldest=0)

    # Sequences alone would do as well; so they are left out of account too.
    return [
        (wal_recovery, "parse_flush", parse),
        (wal_recovery, "_check_chain", _nothing),
    ]


def _recycle_too_early() -> list[Patch]:
    return [(keeper.Keeper, "_uncovered", lambda *_: False), *_relog_skipped()]


def _relog_skipped() -> list[Patch]:
    return [(keeper.Keeper, "_above", lambda *_: {})]


def _relog_loses_place() -> list[Patch]:
    original = wal.Wal.relog

    def relog(self: wal.Wal, job: wal_files.RelogJob) -> None:
        original(self, job)
        for group in self.groups.values():
            for run in group.pending:
                run.origin = 0  # as if it were new

    return [(wal.Wal, "relog", relog)]


def _truncation_forgotten() -> list[Patch]:
    original = wal.Wal.relog

    def relog(self: wal.Wal, job: wal_files.RelogJob) -> None:
        for group in self.groups.values():
            group.truncations.clear()
        original(self, job)

    return [(wal.Wal, "relog", relog)]


def _checkpoint_before_segments() -> list[Patch]:
    return [(segment_jobs, "sync_file", _nothing)]


def _mark_not_awaited() -> list[Patch]:
    original = wal.Wal.retire

    def retire(self: wal.Wal, count: int) -> None:
        original(self, count)
        self.retired += self.retiring
        self.retiring.clear()

    return [(wal.Wal, "retire", retire)]


def _mark_skipped() -> list[Patch]:
    return [(wal_recovery.WalImage, "mark", property(_nothing, _nothing))]


def _snapshot_not_held() -> list[Patch]:
    original = wal.Wal.hold

    def hold(self: wal.Wal, gid: int, index: int, term: int) -> None:
        original(self, gid, index, term)
        self.groups[gid].held = False

    return [(wal.Wal, "hold", hold)]


def _snapshot_during_flush() -> list[Patch]:
    return [(wal.Wal, "flushing", property(lambda self: False))]


def _tombstone_skipped() -> list[Patch]:
    original = keeper.Keeper._checkpoint_job

    def make(self: keeper.Keeper) -> Job:
        job = original(self)
        assert isinstance(job, checkpoint_job.CheckpointJob), "a checkpoint is made by one"
        job.updates = [update for update in job.updates if not update.record.deleted]
        return job

    return [(keeper.Keeper, "_checkpoint_job", make)]


def _hard_state_dropped() -> list[Patch]:
    original = wal_format.pack_run

    def pack(gid: int, flags: int, hard_state: tuple[int, int, int], *rest: int) -> bytes:
        return original(gid, flags, hard_state if flags else (0, 0, 0), *rest)

    return [(flush, "pack_run", pack)]


def _log_tail_unchecked() -> list[Patch]:
    def walk(
        file: File, start: int, end: int, offset: int, *, bodies: bool = True
    ) -> Iterator[scan.Found | scan.Hole]:
        return scan.walk(file, start, end, offset, bodies=False)

    return [(log_recovery, "walk", walk)]


def _damage_truncated() -> list[Patch]:
    def check(chain: list[Any], scans: object) -> None:
        for at in range(len(chain) - 1):
            if chain[at + 1][0].sequence != chain[at][0].sequence + 1:
                del chain[at + 1 :]  # as if what follows damage were a torn tail
                return

    return [(wal_recovery, "_check_chain", check)]


def _tail_not_sealed() -> list[Patch]:
    return [(wal.Wal, "tail_is_sealed", property(lambda self: True, _nothing))]


def _trim_deletes_too_much() -> list[Patch]:
    original = keeper.position_of

    def position_of(log: PartitionLog) -> LogPosition:
        position = original(log)
        return position._replace(start_offset=position.start_offset + 1)

    return [(keeper, "position_of", position_of)]


def _newest_dropped() -> list[Patch]:
    def note(self: compaction.Pass, batch: RecordBatch) -> None:
        for offset, key in zip(batch.offsets, batch.keys, strict=True):
            if key is not None:
                self._newest[key] = offset + 1
        self._covered = batch.next_offset

    return [(compaction.Pass, "_note_batch", note)]


def _tombstones_dropped_first() -> list[Patch]:
    def note(self: compaction.Pass, batch: RecordBatch) -> None:
        """A tombstone does not count as newer: it goes, and what it deletes stays."""
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            if key is not None and value is not None:
                self._newest[key] = offset
        self._covered = batch.next_offset

    return [(compaction.Pass, "_note_batch", note)]


def _moved_before_its_word() -> list[Patch]:
    original = quarantine.Departure.prepare

    def prepare(
        self: quarantine.Departure, files: Files, config: StorageConfig, control: int
    ) -> None:
        original(self, files, config, control)
        self.move(files)

    return [
        (quarantine.Departure, "prepare", prepare),
        (quarantine, "_move", _moved_once(quarantine._move)),
    ]


def _moved_once(original: Callable[..., Any]) -> Callable[..., Any]:
    def move(files: Files, at_us: int, gid: int) -> quarantine.Quarantined:
        if files.list(layout.partition(gid)):
            return original(files, at_us, gid)  # type: ignore[no-any-return]  # it is what it was
        return quarantine._measured(files, at_us, gid)

    return move


def _removed_by_its_name() -> list[Patch]:
    def work(self: quarantine.RemovalJob) -> None:
        for name in self._files.list(layout.QUARANTINE):
            self._files.remove_directory(f"{layout.QUARANTINE}/{name}")

    return [(quarantine.RemovalJob, "work", work)]


def _promise_forgotten() -> list[Patch]:
    original = keeper.Keeper.empty

    def empty(self: keeper.Keeper, gid: int, *rest: Any) -> tuple[int, int]:  # noqa: ANN401 - as it has them
        promised = original(self, gid, *rest)
        cut = self._cuts[gid]
        self._cuts[gid] = cut._replace(record=cut.record._replace(promised_index=0))
        return promised

    return [(keeper.Keeper, "empty", empty)]


def _lying_disk() -> list[Patch]:
    return [(SimFile, "sync", lambda self: self._disk.before_sync())]


def _names_never_durable() -> list[Patch]:
    return [(SimDisk, "sync_directory", lambda self, path: self.before_sync())]


MUTATIONS: Final[Mapping[str, Callable[[], list[Patch]]]] = {
    "sync-skipped": _sync_skipped,
    "directory-sync-skipped": _directory_sync_skipped,
    "torn-tail-accepted": _torn_tail_accepted,
    "stale-nonce-accepted": _stale_nonce_accepted,
    "recycle-too-early": _recycle_too_early,
    "relog-skipped": _relog_skipped,
    "relog-loses-place": _relog_loses_place,
    "truncation-forgotten": _truncation_forgotten,
    "checkpoint-before-segments": _checkpoint_before_segments,
    "mark-not-awaited": _mark_not_awaited,
    "mark-skipped": _mark_skipped,
    "snapshot-not-held": _snapshot_not_held,
    "snapshot-during-flush": _snapshot_during_flush,
    "tombstone-skipped": _tombstone_skipped,
    "hard-state-dropped": _hard_state_dropped,
    "log-tail-unchecked": _log_tail_unchecked,
    "damage-truncated": _damage_truncated,
    "tail-not-sealed": _tail_not_sealed,
    "trim-too-far": _trim_deletes_too_much,
    "compaction-drops-newest": _newest_dropped,
    "tombstones-dropped-first": _tombstones_dropped_first,
    "moved-before-its-word": _moved_before_its_word,
    "all-quarantine-removed": _removed_by_its_name,
    "promise-forgotten": _promise_forgotten,
    "lying-disk": _lying_disk,
    "names-never-durable": _names_never_durable,
}
"""Name -> what it replaces."""

_JOBS: Final = {"take_job": 16, "run_job": 16, "finish_job": 16, "create_or_delete": 0}

_DROPS: Final = {"drop": 3, "learn_commit": 12, "install": 0, "injure": 0}

FOCUS: Final[Mapping[str, Mapping[str, int]]] = {
    "truncation-forgotten": {**_JOBS, "truncate": 6, "install": 0, "injure": 0},
    "snapshot-during-flush": {**_JOBS, "install": 10, "crash_soon": 6, "run_flush": 2},
    "mark-not-awaited": {**_JOBS, "crash_now": 6, "take_flush": 4, "cut_checkpoint": 8},
    "mark-skipped": {**_JOBS, "injure": 8, "cut_checkpoint": 8, "restart_cleanly": 0},
    "log-tail-unchecked": {**_JOBS, "crash_now": 6},
    "compaction-drops-newest": {**_JOBS, "tick": 10, "install": 0, "injure": 0},
    "tombstones-dropped-first": {**_JOBS, "tick": 10, "install": 0, "injure": 0},
    "moved-before-its-word": {**_JOBS, **_DROPS, "crash_in_a_drop": 8},
    "all-quarantine-removed": {**_DROPS, "drop": 6, "let_time_pass": 6, "crash_in_a_drop": 0},
    "promise-forgotten": {**_JOBS, **_DROPS},
}
"""Weights of events with which a mutation shows sooner."""


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Play with one mutation; None changes nothing."""
    patches = MUTATIONS[name]() if name is not None else []
    missing = object()
    kept = [(owner, key, vars(owner).get(key, missing)) for owner, key, _ in patches]
    for owner, key, value in patches:
        setattr(owner, key, value)
    try:
        yield
    finally:
        for owner, key, value in reversed(kept):
            if value is missing:
                delattr(owner, key)
            else:
                setattr(owner, key, value)
