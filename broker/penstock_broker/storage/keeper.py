"""The keeper: when a checkpoint is due, and when a WAL file may go.

A WAL file may go when all groups in it had a checkpoint cut after the file was full, when entries
above those cuts have gone into the WAL again, and when a flush has said so. Only then is it
recycled; so at every moment checkpoint, segments and the flushes from the oldest needed one on hold
everything that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from penstock_broker.storage.checkpoint import Checkpoint, Update, merge
from penstock_broker.storage.checkpoint_format import DELETED, EMPTIED, Record
from penstock_broker.storage.checkpoint_job import CheckpointJob
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import LogContext, PartitionLog
from penstock_broker.storage.log_recovery import LogPosition
from penstock_broker.storage.quarantine import Departure, Dropped, Quarantine
from penstock_broker.storage.segment_jobs import Piece, pieces_of
from penstock_broker.storage.wal import Wal
from penstock_broker.storage.wal_files import PrepareJob, RelogJob, RemoveFileJob, WalFile

_ALL = 1 << 62

State = tuple[int, int, int, bytes]
"""(group, applied index, applied term, machine state)."""


class _Cut(NamedTuple):
    """A group's state at the instant of a cut."""

    sequence: int
    """The next flush at that instant: earlier ones are covered."""
    record: Record
    blob: bytes | None


class Keeper:
    """The owner's side of checkpoints and of the retirement of WAL files."""

    def __init__(
        self,
        context: LogContext,
        control: Checkpoint,
        wal: Wal,
        logs: dict[int, PartitionLog],
        quarantine: Quarantine,
    ) -> None:
        self._context = context
        self._control = control
        self._wal = wal
        self._logs = logs
        self._quarantine = quarantine
        self._covered: dict[int, int] = {}
        """Group -> first flush that its durable checkpoint does not cover."""
        self._cuts: dict[int, _Cut] = {}
        self._installs: set[int] = set()
        self._deletes: set[int] = set()
        self._emptied: set[int] = set()
        """Groups whose replica went elsewhere, until that is durable."""
        self._dropped: dict[int, Dropped] = {}
        """Those of them that had a log."""
        self._running: dict[int, _Cut] = {}
        self._blocked = False
        """The disk is full; `tick` ends it."""
        self._no_spare = False
        self._awaited = -1
        """A group that is about to commit: while it is, no other is looked at in each round."""

    # ----- cutting

    def adopt(self, gid: int, *, covered: bool) -> None:
        """A recovered group; covered when its checkpoint has all that the WAL says of it."""
        if covered:
            self._covered[gid] = self._wal.sequence

    @property
    def busy(self) -> bool:
        """Whether states were handed in that are not durable yet."""
        return bool(self._cuts or self._running)

    def due(self) -> list[int]:
        """Groups whose state the WAL's rotation asks for; empty while nothing is due."""
        sealed = self._wal.sealed
        if not sealed or self._cuts or self._running or self._blocked or self._patient():
            return []
        needed = {gid for file in sealed for gid in file.groups if self._uncovered(gid, file)}
        return sorted(needed)

    def everything(self) -> list[int]:
        """Groups with anything that the checkpoint does not have, for a stop."""
        wal = self._wal
        files = [*wal.sealed, *([wal.current] if wal.current else [])]
        return sorted({gid for file in files for gid in file.groups if self._uncovered(gid, file)})

    def _uncovered(self, gid: int, file: WalFile) -> bool:
        group = self._wal.groups.get(gid)
        last = file.last_sequence if group is None else min(file.last_sequence, group.touched)
        return self._covered.get(gid, 0) <= last

    def _patient(self) -> bool:
        """Wait a little for entries that are about to be committed: it saves logging them again."""
        wal = self._wal
        current = wal.current
        if len(wal.sealed) > 1 or (current and current.position * 2 > current.size):
            return False
        file = wal.sealed[0]
        if not self._awaits(self._awaited, file):
            self._awaited = next((gid for gid in file.groups if self._awaits(gid, file)), -1)
        return self._awaited >= 0

    def _awaits(self, gid: int, file: WalFile) -> bool:
        last = file.groups.get(gid, 0)
        return bool(last) and last > self._wal.group(gid).commit and self._uncovered(gid, file)

    def cut(self, states: Iterable[State], due: Iterable[int]) -> None:
        """Take the states of one instant; groups that are due without one keep what they have."""
        given = {gid: (index, term, blob) for gid, index, term, blob in states}
        for gid in {*given, *due}:
            old = self._control.records.get(gid, Record(gid))
            if gid in self._deletes or gid in self._emptied or old.deleted:
                continue
            index, term, blob = given.get(gid, (old.applied_index, old.applied_term, None))
            self._cut(old, index, term, blob)

    def _cut(self, old: Record, index: int, term: int, blob: bytes | None) -> None:
        record = old._replace(
            flags=old.flags if blob is None else 0,
            hard_state=self._wal.group(old.gid).hard_state,
            applied_index=index,
            applied_term=term,
        )
        self._cuts[old.gid] = _Cut(self._wal.sequence, record, blob)

    def install(self, gid: int, index: int, term: int, blob: bytes) -> None:
        """A snapshot replaces the group's log: flushes so far are void for it."""
        self._wal.hold(gid, index, term)
        self._installs.add(gid)
        self._cut(self._control.records.get(gid, Record(gid)), index, term, blob)

    def empty(self, gid: int, term: int, index: int, dropped: Dropped | None) -> tuple[int, int]:
        """The replica goes elsewhere: all of it is void but what it promised; it may come back.

        Returns term and index of the last entry of all its lives; this one's is given.
        """
        old = self._control.records.get(gid, Record(gid))
        if dropped is not None:
            self._dropped[gid] = dropped
        promised = max((old.promised_term, old.promised_index), (term, index))
        self._installs.add(gid)
        self._emptied.add(gid)
        record = Record(
            gid,
            EMPTIED,
            hard_state=self._wal.empty(gid).hard_state,
            promised_term=promised[0],
            promised_index=promised[1],
        )
        self._cuts[gid] = _Cut(self._wal.sequence, record, None)
        return promised

    def emptying(self, gid: int) -> bool:
        """Whether the group's old state may still be on the disk."""
        return gid in self._emptied

    def delete(self, gid: int) -> None:
        """A committed tombstone deletes the group."""
        self._wal.remove(gid)
        self._cuts.pop(gid, None)
        self._installs.discard(gid)
        self._emptied.discard(gid)
        self._let_go(gid)
        self._deletes.add(gid)

    def _let_go(self, gid: int) -> None:
        dropped = self._dropped.pop(gid, None)
        if dropped is not None:
            dropped.log.discard()

    def tick(self) -> None:
        """Try again what a full disk had stopped."""
        self._blocked = self._no_spare = False

    # ----- jobs

    def take_job(self) -> Job | None:
        """A checkpoint, or a step in the life of a WAL file."""
        wal = self._wal
        wal.paused = False
        if wal.wants_spare and not self._no_spare:
            retired = wal.retired.pop(0) if wal.retired else None
            return PrepareJob(wal.new_file(), retired, self._prepared)
        if wal.retired:
            return RemoveFileJob(wal.retired.pop(0))
        if self._blocked:
            return None
        if self._cuts or self._deletes:
            # What is void behind a snapshot is said by a flush's sequence, and only a durable
            # flush keeps its sequence over a crash: so none may be under way.
            wal.paused = wal.flushing and not self._installs.isdisjoint(self._cuts)
            return None if wal.paused else self._checkpoint_job()
        return self._retire()

    def _prepared(self, job: PrepareJob) -> None:
        if job.full:
            self._no_spare = True
        else:
            self._wal.spares.append(job.spare)

    def _checkpoint_job(self) -> Job:
        self._running, self._cuts = self._cuts, {}
        deletes = sorted(self._deletes)
        floor = self._wal.sequence
        # Tombstones come first: no group's later state is durable without them.
        updates = [Update(Record(gid, DELETED, floor=floor), None) for gid in deletes]
        pieces: list[Piece] = []
        for gid, cut in self._running.items():
            log = self._logs.get(gid)
            record = cut.record
            if gid in self._installs:
                record = record._replace(floor=floor)
            if log is not None and not record.emptied:
                pieces += pieces_of(log, _ALL, sync=True)
                record = record._replace(has_log=1, durable=position_of(log))
            updates.append(Update(record, cut.blob))
        records = {
            gid: record
            for gid, record in self._control.records.items()
            if not record.deleted or record.floor > self._wal.durable_oldest
        }
        control = replace(self._control, records=records)
        emptied = sorted(self._emptied.intersection(self._running))
        departures = [self._departure(gid) for gid in emptied if gid in self._dropped]
        return CheckpointJob(
            self._context, control, pieces, updates, deletes, emptied, departures, self._finished
        )

    def _departure(self, gid: int) -> Departure:
        dropped = self._dropped[gid]
        pieces = pieces_of(dropped.log, _ALL, sync=True)
        old = self._control.records.get(gid, Record(gid))
        record = old._replace(
            flags=0,
            floor=0,
            has_log=1,
            hard_state=self._wal.group(gid).hard_state,
            durable=position_of(dropped.log),
        )
        if dropped.state is None:
            return Departure(record, None, dropped, pieces)
        index, term, blob = dropped.state
        record = record._replace(applied_index=index, applied_term=term)
        return Departure(record, blob, dropped, pieces)

    def _finished(self, job: CheckpointJob) -> Flushed:
        running, self._running = self._running, {}
        if job.write is None:
            self._blocked = True
            again = {**running, **self._cuts}
            self._cuts = {gid: cut for gid, cut in again.items() if gid not in self._deletes}
            return []
        for departure in job.departures:
            self._let_go(departure.gid)
            if departure.moved is not None:
                self._quarantine.took(departure.moved)
                if departure.gid in self._deletes:
                    self._quarantine.forget(departure.gid)
        control = self._control
        if job.write.number != control.number:
            control.records = {}
        control.number, control.length = job.write.number, job.write.length
        for gid, record in job.write.records.items():
            control.records[gid] = merge(control.records.get(gid), record)
        self._deletes.difference_update(job.deletes)
        self._wal.mark_checkpoint(control.number, control.length)
        return self._cover(running)

    def _cover(self, cuts: dict[int, _Cut]) -> Flushed:
        durable: Flushed = []
        for gid, cut in cuts.items():
            if gid in self._deletes:
                continue
            self._covered[gid] = cut.sequence
            if gid in self._emptied:
                if cut.record.emptied:
                    self._emptied.discard(gid)
                    self._installs.discard(gid)
                    self._wal.release(gid)
                continue
            log = self._logs.get(gid)
            if log is not None:
                log.vouched(self._control.records[gid].durable.segment_base)
            if gid in self._installs and gid not in self._cuts:
                self._installs.discard(gid)
                self._wal.release(gid)
                durable.append((gid, cut.record.applied_index, cut.record.applied_term))
        return durable

    def _retire(self) -> Job | None:
        """Let go of the oldest files that are superfluous; a job where one is so nearly."""
        wal = self._wal
        count = 0
        for file in wal.sealed:
            if any(self._uncovered(gid, file) for gid in file.groups):
                break
            if not file.relogged:
                above = self._above(file)
                if above:
                    return RelogJob(file, above, self._relogged)
                file.relogged = True
            if file.relogs:
                break
            count += 1
        if count:
            wal.retire(count)
            wal.mark_checkpoint(self._control.number, self._control.length)
        return None

    def _above(self, file: WalFile) -> dict[int, int]:
        """Groups of which the file holds entries that no checkpoint has: group -> applied index."""
        records = self._control.records
        applied = {gid: records[gid].applied_index if gid in records else 0 for gid in file.groups}
        return {gid: index for gid, index in applied.items() if file.groups[gid] > index}

    def _relogged(self, job: RelogJob) -> None:
        if job.complete:
            self._wal.relog(job)
            return
        # Damaged since it was written. The entries are committed by and by: then a later
        # checkpoint makes the file superfluous. Should the broker stop before, recovery names it.
        self._blocked = True
        for gid in job.above:
            self._covered.pop(gid, None)


def position_of(log: PartitionLog) -> LogPosition:
    """How far a log is durable once all its pieces are."""
    last = log.segments[-1] if log.segments else None
    return LogPosition(
        log.start_offset,
        last.base_offset if last else log.end_offset,
        last.size if last else 0,
        log.end_offset,
        log.last_index,
        log.last_append_ts_us,
    )
