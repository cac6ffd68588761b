"""The store: one data directory, as the node sees it.

The owner thread calls everything here; disk work leaves as jobs (`take_flush`, `take_job`) whose
`run()` may be executed anywhere, and comes back through `done`. At most one flush and one other job
are under way at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock_broker.storage.checkpoint import Checkpoint
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.entries import EntryLike, HardState, RecoveredGroup
from penstock_broker.storage.files import Files
from penstock_broker.storage.flush import Flush
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import LogContext, PartitionLog
from penstock_broker.storage.recovery import recover
from penstock_broker.storage.segment_jobs import WriteJob, pieces_of
from penstock_broker.storage.wal import Wal
from penstock_broker.storage.wal_files import PrepareJob

_WRITE_BYTES = 8 * 1024 * 1024  # of one segment write job


class Store:
    """See the module; made by `Store.open`."""

    def __init__(self, files: Files, config: StorageConfig) -> None:
        self.files = files
        self.config = config
        self.node_uuid = b""
        self.recovered: dict[int, RecoveredGroup] = {}
        self.logs: dict[int, PartitionLog] = {}
        self.wal: Wal
        self.context: LogContext
        self.control: Checkpoint
        self._job: Job | None = None

    @classmethod
    def open(cls, files: Files, config: StorageConfig, *, fresh_uuid: bytes) -> Store:
        """Take the directory and recover what is in it; `fresh_uuid` is 16 random bytes.

        Raises:
            DataDirectoryLocked: another process has it.
            UnsupportedFormat: a newer version wrote it.
            CorruptData: acknowledged bytes are damaged; the message names them.
            StorageFailure: a sync failed.
        """
        store = cls(files, config)
        files.lock()
        try:
            recover(store, fresh_uuid)
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
        return job.finish()

    def log(self, gid: int) -> PartitionLog:
        """The log of a group that has one; KeyError otherwise."""
        return self.logs[gid]

    def create_log(self, gid: int) -> PartitionLog:
        """The group's log, created empty when there is none."""
        log = self.logs.get(gid)
        if log is None:
            log = self.logs[gid] = PartitionLog(gid, self.context)
        return log

    def take_job(self) -> Job | None:
        """The most urgent piece of background work; None while one is under way or none is due."""
        if self._job is None:
            self._job = self._spare_job() or self._write_job()
            return self._job
        return None

    def _spare_job(self) -> Job | None:
        wal = self.wal
        if len(wal.spares) >= self.config.wal_spares:
            return None
        return PrepareJob(wal.new_file(), None, wal.spares)

    def _write_job(self) -> Job | None:
        pieces = []
        room = _WRITE_BYTES
        due = self.context.due
        while due and room > 0:
            _, log = due.popitem()
            for piece in pieces_of(log, room, sync=False):
                pieces.append(piece)
                room -= sum(map(len, piece.buffers))
        return WriteJob(self.context, pieces) if pieces else None
