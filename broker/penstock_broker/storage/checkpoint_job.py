"""Making a checkpoint durable: segments first, then the records that vouch for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.checkpoint import (
    Checkpoint,
    Update,
    Write,
    append_records,
    read_blobs,
    rewrite_records,
)
from penstock_broker.storage.files import sync_names
from penstock_broker.storage.jobs import Flushed, Job, is_full
from penstock_broker.storage.log import LogContext
from penstock_broker.storage.quarantine import Departure
from penstock_broker.storage.segment_jobs import Piece


class CheckpointJob(Job):
    """Writes and syncs segments, then appends to the checkpoint file or rewrites it."""

    name: ClassVar[str] = "checkpoint"
    waits_for_space: ClassVar[bool] = True

    def __init__(
        self,
        context: LogContext,
        control: Checkpoint,
        pieces: Sequence[Piece],
        updates: Sequence[Update],
        deletes: Sequence[int],
        emptied: Sequence[int],
        departures: Sequence[Departure],
        finished: Callable[[CheckpointJob], Flushed],
    ) -> None:
        super().__init__()
        self.updates = updates
        self.deletes = deletes
        self.emptied = emptied
        self.departures = departures
        self.pieces = pieces
        self.write: Write | None = None
        self._context = context
        self._finished = finished
        self._number = control.number
        self._length = control.length
        self._records = dict(control.records)
        stale = control.length - control.live_bytes
        limit = context.config.checkpoint_rewrite_bytes
        self._rewrites = not control.number or (stale > limit and stale > control.length // 2)

    def work(self) -> None:
        files, config = self._context.files, self._context.config
        for piece in self.pieces:
            piece.work(files, config)
        for departure in self.departures:
            departure.prepare(files, config, self._number)
        try:
            if self._rewrites:
                self.write = self._rewrite()
            if self.write is None:
                self.write = append_records(files, self._number, self._length, self.updates)
        except OSError as error:
            if is_full(error):
                # This makes room. The tombstones stay in the WAL until they are in the
                # checkpoint, so a stop in between only means to delete again.
                self._remove(self.deletes)
            raise
        kept = {departure.gid for departure in self.departures if departure.prepared}
        for departure in self.departures:
            departure.move(files)
        self._remove([*self.deletes, *(gid for gid in self.emptied if gid not in kept)])

    def _remove(self, gids: Sequence[int]) -> None:
        for gid in gids:
            self._context.files.remove_directory(layout.partition(gid))
        if gids:
            sync_names(self._context.files, layout.PARTITIONS)

    def _rewrite(self) -> Write | None:
        """The whole checkpoint under a new number; None when an old blob can't be read."""
        files = self._context.files
        try:
            blobs = read_blobs(files, self._records, self._number) if self._number else {}
        except CorruptData:
            return None  # the old file stays, and recovery will name the damage
        merged = {gid: Update(record, blobs.get(gid)) for gid, record in self._records.items()}
        for update in self.updates:
            gid = update.record.gid
            blob = update.blob
            if blob is None and not (update.record.deleted or update.record.emptied):
                blob = blobs.get(gid)
            merged[gid] = Update(update.record, blob)
        write = rewrite_records(files, self._number + 1, merged.values())
        if self._number:
            files.remove(layout.checkpoint_file(self._number))
        return write

    def finish(self) -> Flushed:
        for piece in [*self.pieces, *(one for each in self.departures for one in each.pieces)]:
            piece.finish()
        return self._finished(self)
