"""The store: one data directory, as the node sees it.

The owner thread calls everything here; disk work leaves as jobs (`take_flush`, `take_job`) whose
`run()` may be executed anywhere, and comes back through `done`. At most one flush and one other job
are under way at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from penstock.errors import StorageFailure
from penstock_broker.storage.checkpoint import Checkpoint
from penstock_broker.storage.checkpoint_job import CheckpointJob
from penstock_broker.storage.compaction import Compactor
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.entries import EntryLike, HardState, RecoveredGroup
from penstock_broker.storage.files import Buffer, Files
from penstock_broker.storage.flush import Flush
from penstock_broker.storage.identity import Identity, IdentityJob
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.keeper import Keeper, State
from penstock_broker.storage.log import LogContext, PartitionLog
from penstock_broker.storage.quarantine import Dropped, Quarantine, Quarantined
from penstock_broker.storage.reads import Damage
from penstock_broker.storage.recovery import recover
from penstock_broker.storage.repair import RepairJob
from penstock_broker.storage.scrub import Scrubber
from penstock_broker.storage.segment_jobs import Piece, RemoveSegmentsJob, WriteJob, pieces_of
from penstock_broker.storage.wal import Wal

_WRITE_BYTES = 8 * 1024 * 1024  # of one segment write job

NEEDED: Final = (Flush, WriteJob, CheckpointJob, IdentityJob)
"""What must be written for publishes to go on; all else can wait for room."""
SCRUB_TICKS: Final = 4
"""Ticks, four a second, from one step of scrubbing to the next."""
BEHIND_TICKS_MAX: Final = 40
"""Ticks after which a disk that can't keep up is treated like a full one."""


class Store:
    """See the module; made by `Store.open`."""

    def __init__(self, files: Files, config: StorageConfig) -> None:
        self.files = files
        self.config = config
        self.node_uuid = b""
        self.identity: Identity | None = None
        """Cluster and node id, durable; None: the node belongs to no cluster yet."""
        self._claim: IdentityJob | None = None
        self.recovered: dict[int, RecoveredGroup] = {}
        self.logs: dict[int, PartitionLog] = {}
        self.opened_mark = 0
        """`mark` as it was found."""
        self.wal: Wal
        self.context: LogContext
        self.control: Checkpoint
        self.keeper: Keeper
        self.quarantine: Quarantine
        self._job: Job | None = None
        self._repairs: deque[RepairJob] = deque()
        self._full = False
        """A segment write met a full disk; `tick` ends it."""
        self._low = False
        self._behind_ticks = 0
        self._scrub_steps = self._compaction_steps = 0
        self._ticks_to_scrub = 1
        self.scrubber = Scrubber(self.logs, config.scrub_bytes)
        self.compactor = Compactor(self.logs, files, config)

    @classmethod
    def open(cls, files: Files, config: StorageConfig, *, fresh_uuid: bytes) -> Store:
        """Take the directory and recover what is in it; `fresh_uuid` is 16 random bytes.

        Raises:
            DataDirectoryLocked: another process has it.
            UnsupportedFormat: a newer version wrote it.
            CorruptData: acknowledged bytes are damaged; the message names them.
            StorageFailure: a read, write or sync failed.
        """
        store = cls(files, config)
        files.lock()
        try:
            recover(store, fresh_uuid)
        except OSError as error:
            files.unlock()
            raise StorageFailure(f"the data directory can't be read: {error}") from error
        except BaseException:
            files.unlock()
            raise
        return store

    def close(self) -> None:
        """Release the directory. What is not flushed is lost, as by a crash."""
        self.files.unlock()

    def append(
        self, gid: int, entries: Sequence[EntryLike], hard_state: HardState | None, commit: int
    ) -> None:
        """Queue entries and a changed hard state for the next flush.

        Raises:
            LimitExceeded: an entry does not fit into a WAL file.
        """
        self.wal.append(gid, entries, hard_state, commit)

    def take_flush(self) -> Flush | None:
        """The next flush; None while one is in flight or there is nothing to write."""
        return self.wal.take_flush()

    def done(self, job: Job) -> Flushed:
        """Take in a job that has run; (group, last index, last term) of what became durable."""
        if job is self._job:
            self._job = None
        if isinstance(job, IdentityJob):
            if job.full:
                self._claim = IdentityJob(self.files, job.identity)
            else:
                self.identity = job.identity
        if job.full and isinstance(job, NEEDED):
            self._full = True
        return job.finish()

    @property
    def mark(self) -> int:
        """How far the disk is: grows with each flush that became durable, over all starts."""
        return self.wal.mark

    def log(self, gid: int) -> PartitionLog:
        """The log of a group that has one; KeyError otherwise."""
        return self.logs[gid]

    def create_log(self, gid: int) -> PartitionLog:
        """The group's log, created empty when there is none."""
        log = self.logs.get(gid)
        if log is None:
            log = self.logs[gid] = PartitionLog(gid, self.context)
        return log

    def delete_log(self, gid: int) -> None:
        """Delete a group and its log; only on a committed tombstone."""
        self.recovered.pop(gid, None)
        self.keeper.delete(gid)
        self.quarantine.forget(gid)
        log = self.logs.pop(gid, None)
        if log is not None:
            log.discard()

    def drop_replica(
        self,
        gid: int,
        last_index: int,
        last_term: int,
        *,
        at_us: int,
        state: tuple[int, int, bytes] | None = None,
    ) -> None:
        """Drop a group's log and state: the replica is elsewhere, by a committed decision.

        Its term and vote, and what its last entry was, are kept and lie in `recovered`: one that
        comes back begins empty, but is bound by what it said before. It must not come back while
        it is `dropping`. The log goes into quarantine.

        Args:
            gid: the group.
            last_index: of its Raft log.
            last_term: of that entry.
            at_us: the time, microseconds since 1970.
            state: applied index, applied term and state of its machine, to be kept with the log;
                None: as the last checkpoint has them.
        """
        term, vote, _ = self.wal.group(gid).hard_state
        log, dropped = self.logs.pop(gid, None), None
        if log is not None and self.quarantine.keeps:
            dropped = Dropped(log, self.quarantine.moment(at_us), state)
        elif log is not None:
            log.discard()
        promised = self.keeper.empty(gid, last_term, last_index, dropped)
        self.recovered[gid] = RecoveredGroup(
            hard_state=(term, vote, 0), emptied=True, promised=promised
        )

    def dropping(self, gid: int) -> bool:
        """Whether a dropped replica's state is still in its place on the disk."""
        return self.keeper.emptying(gid)

    def quarantined(self) -> Sequence[Quarantined]:
        """Replicas that were dropped and are still here, oldest first."""
        return self.quarantine.all()

    def expire(self, now_us: int) -> None:
        """Let quarantined replicas go whose time is over."""
        self.quarantine.expire(now_us)

    def claim(self, cluster: str, node: int) -> None:
        """Bind the directory to a node id for ever; `identity` tells when that is durable."""
        assert self.identity is None, "an identity never changes"
        self._claim = IdentityJob(self.files, Identity(cluster, node))

    # ----- background work

    def take_job(self) -> Job | None:
        """The most urgent piece of background work; None while one is under way or none is due."""
        if self._job is None:
            self._job = (
                (self._claim and self._take_claim())
                or self.keeper.take_job()
                or self._write_job()
                or self._removal_job()
                or self.quarantine.take_job()
                or self._repair_job()
                or self._idle_job()
            )
            return self._job
        return None

    def _take_claim(self) -> Job | None:
        if self._full:
            return None
        claim, self._claim = self._claim, None
        return claim

    def _write_job(self) -> Job | None:
        pieces: list[Piece] = []
        room = _WRITE_BYTES
        due = self.context.due
        budget = self.context.budget
        if not due and budget.unwritten * 2 > budget.limit:
            # Many partitions, each with little: together they fill the memory all the same.
            due.update((gid, log) for gid, log in self.logs.items() if log.tail.has_unwritten)
        while due and room > 0 and not self._full:
            _, log = due.popitem()
            for piece in pieces_of(log, room, sync=False):
                pieces.append(piece)
                room -= sum(map(len, piece.buffers))
        return WriteJob(self.context, pieces) if pieces else None

    def _removal_job(self) -> Job | None:
        if not self.context.doomed:
            return None
        gid, log = self.context.doomed.popitem()
        bases, log.doomed = log.doomed, []
        return RemoveSegmentsJob(self.files, gid, bases)

    def _repair_job(self) -> Job | None:
        while self._repairs:
            job = self._repairs.popleft()
            if job.valid:
                return job
        return None

    def repair(self, gid: int, damage: Damage, buffers: Sequence[Buffer]) -> bool:
        """Have the bytes of a damaged range written again; False: they do not fit there."""
        log = self.logs[gid]
        segment = log.segment_of(damage)
        if segment is None or sum(map(len, buffers)) != damage.length:
            return False
        self._repairs.append(RepairJob(self.files, log, segment, damage, buffers))
        return True

    def _idle_job(self) -> Job | None:
        """What can wait: a few steps between two ticks, so that it takes little of the disk."""
        if self._compaction_steps > 0 and not self._low:
            self._compaction_steps -= 1
            job = self.compactor.take_job()
            if job is not None:
                return job
            self._compaction_steps = 0
        if self._scrub_steps > 0:
            self._scrub_steps -= 1
            return self.scrubber.take_job()
        return None

    def tick(self) -> None:
        """Four times a second: look at the free space, try again what a full disk stopped.

        Also seals the last flush when nothing follows it; see `Wal.tick`.
        """
        was_full, self._full = self._full, False
        self._behind_ticks = self._behind_ticks + 1 if self._is_behind() else 0
        self._compaction_steps = self.config.compaction_steps
        self._ticks_to_scrub = (self._ticks_to_scrub or SCRUB_TICKS) - 1
        if not self._ticks_to_scrub:
            self._scrub_steps = 1
        self.wal.tick()
        self.keeper.tick()
        free = self.files.free_bytes()
        self._low = free < self.config.reserve_bytes * (2 if self._low else 1)
        if was_full or free < self.config.reserve_bytes * 2:
            self.quarantine.make_room()  # before anything is refused

    @property
    def accepting(self) -> bool:
        """False when publishes must be refused: the disk is nearly full, or hopelessly slow."""
        return not (  # asked with every publish: no call that can be saved
            self._low or self._full or self.wal.stalled or self._behind_ticks > BEHIND_TICKS_MAX
        )

    @property
    def full(self) -> bool:
        """Whether the disk is nearly full, or so full that something could not be written."""
        return self._low or self._full

    @property
    def behind(self) -> bool:
        """Whether the disk can't keep up for now, so that publishers are read no further."""
        return self._is_behind() and self.accepting

    def _is_behind(self) -> bool:
        return (
            len(self.wal.sealed) >= self.config.wal_files_max
            or self.context.budget.unwritten > self.context.budget.limit
        )

    # ----- checkpoints

    def checkpoint_due(self) -> list[int]:
        """Groups whose state is wanted, since a WAL file is full; empty while nothing is due."""
        return self.keeper.due()

    def request_checkpoint(self) -> list[int]:
        """All groups with state that no checkpoint has: for a stop, so that a start is instant."""
        return self.keeper.everything()

    def checkpoint(self, states: Iterable[State]) -> None:
        """Take (group, applied index, applied term, state) of groups, all cut at one instant.

        A job makes them durable. Entries above the applied index are kept in the WAL.
        """
        self.keeper.cut(states, self.keeper.due())

    def install(self, gid: int, applied_index: int, applied_term: int, blob: bytes) -> None:
        """A snapshot replaces the group's Raft log up to the applied index and all behind it.

        Later entries of the group wait until the snapshot is durable; `done` reports that like a
        flush. The partition's log must have the batches up to there, or have been reset.
        """
        self.keeper.install(gid, applied_index, applied_term, blob)

    @property
    def idle(self) -> bool:
        """Whether everything handed in is durable and no job is under way."""
        waits = self._job is not None or self._claim is not None
        return not waits and self.wal.idle and not self.keeper.busy

    def take_damages(self) -> list[Damage]:
        """Damage that was found since the last call, for the log of the broker.

        What a start missed and a replayed trim then took out of the log was none.
        """
        found, self.context.found = self.context.found, []
        return [one for one in found if any(one in log.damages for log in self.logs.values())]

    @property
    def found_damage(self) -> bool:
        """Whether `take_damages` has something."""
        return bool(self.context.found)

    def statistics(self) -> dict[str, int]:
        """Figures for metrics and for `penstock doctor`."""
        wal, budget = self.wal, self.context.budget
        return {
            "wal_sequence": wal.sequence,
            "wal_files_sealed": len(wal.sealed),
            "wal_pending_bytes": wal.pending_bytes,
            "log_bytes": sum([log.size_bytes for log in self.logs.values()]),
            "segments": sum([log.segment_count for log in self.logs.values()]),
            "tail_bytes": budget.used,
            "unwritten_bytes": budget.unwritten,
            "quarantined_replicas": len(self.quarantine),
            "quarantined_bytes": self.quarantine.size_bytes,
            "index_cache_bytes": self.context.cache.size_bytes,
            "checkpoint_bytes": self.control.length,
            "scrubbed_bytes": self.scrubber.verified_bytes,
            "scrub_read_errors": self.scrubber.read_errors,
            "compaction_passes": self.compactor.passes,
            "damaged_ranges": sum([len(log.damages) for log in self.logs.values()]),
        }
