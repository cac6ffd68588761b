"""What the simulated node does with its store: publish, flush, commit, trim, install, checkpoint.

Each public method is one event of `storage_world.StorageWorld`, which adds faults and recovery.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

from penstock.protocol import batch
from penstock.protocol.batch import Kind
from penstock.protocol.records import encode_batch
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.storage_checks import check_synced
from penstock_broker.simulation.storage_drops import Departed, Departures
from penstock_broker.simulation.storage_model import (
    CREATE,
    DELETE,
    TRIM,
    Durable,
    GroupModel,
    Machine,
)
from penstock_broker.storage import Flush, Job, StorageConfig, Store, StoredEntry
from penstock_broker.storage.checkpoint_job import CheckpointJob
from penstock_broker.storage.wal_format import RUN_MARK


@dataclass(frozen=True)
class _Settings:
    """A topic's settings, as far as the log looks at them."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 1 << 40
    cleanup: str = "compact"
    delete_retention_ms: int = 3


META = 0
KEYED = _Settings()
HOUR_US = 3600 * 1_000_000


class StorageActions:
    """The node's side; the world sets the state that is declared here."""

    random: random.Random
    counts: Counter[str]
    disk: SimDisk
    config: StorageConfig
    blob_padding: int
    last_flush: tuple[str, int, int] | None
    groups: dict[int, GroupModel]
    deleted: set[int]
    departures: Departures
    day_us: int
    """Time as far as it matters to the quarantine."""
    next_gid: int
    clock_us: int
    flush: Flush | None
    flush_has_run: bool
    job: Job | None
    job_has_run: bool
    store: Store

    # ----- publishing

    def append(self) -> None:
        """A round: some groups get entries."""
        for model in self.random.sample(list(self.groups.values()), k=min(len(self.groups), 2)):
            if model.gid != META:
                self._append_to(model, self.random.choice((1, 1, 2, 5, 12)))

    def _append_to(self, model: GroupModel, count: int) -> None:
        entries = [self._entry(model, model.last_index + 1 + at) for at in range(count)]
        self._hand_over(model, entries)

    def _entry(self, model: GroupModel, index: int) -> StoredEntry:
        if model.has_log and self.random.random() < 0.8:
            return self._data_entry(model, index)
        body = self.random.randbytes(self.random.choice((0, 10, 300)))
        return self._control_entry(model, index, b"x" + body)

    def _data_entry(self, model: GroupModel, index: int) -> StoredEntry:
        size = self.random.choice((0, 40, 40, 200, 700, 2500))
        records = self.random.choice((1, 1, 3))
        if model.keyed:
            records = self.random.choice((1, 4))
            buffer = self._keyed_batch(records, size // 8)
        else:
            buffer = batch.build(self.random.randbytes(size), count=records)
        self.clock_us += self.random.randrange(1000)
        offset, model.proposed_end = model.proposed_end, model.proposed_end + records
        batch.stamp(buffer, Kind.DATA, index, model.term, 1, offset, self.clock_us)
        return StoredEntry(index, model.term, Kind.DATA, buffer)

    def _keyed_batch(self, records: int, size: int) -> bytearray:
        keys = [
            b"key-%d" % self.random.randrange(self.random.choice((5, 100))) for _ in range(records)
        ]
        values = [
            self.random.randbytes(size) if self.random.random() < 0.8 else None
            for _ in range(records)
        ]
        return encode_batch(values, keys)

    def _control_entry(self, model: GroupModel, index: int, body: bytes) -> StoredEntry:
        buffer = batch.control_batch(body)
        batch.stamp(buffer, Kind.CONTROL, index, model.term, 1, 0, self.clock_us)
        return StoredEntry(index, model.term, Kind.CONTROL, buffer)

    def _hand_over(
        self, model: GroupModel, entries: list[StoredEntry], *, state: bool = False
    ) -> None:
        if entries:
            del model.entries[entries[0].index - model.floor - 1 :]
            model.entries += entries
        hard_state = (model.term, model.vote, model.commit) if state else None
        self.store.append(model.gid, entries, hard_state, model.commit)
        self.counts["entries"] += len(entries)

    def _propose_meta(self, body: bytes) -> None:
        meta = self.groups[META]
        self._hand_over(meta, [self._control_entry(meta, meta.last_index + 1, body)])

    def change_term(self) -> None:
        """An election: a new term and a vote."""
        model = self._some_group()
        model.term += self.random.choice((1, 1, 3))
        model.vote = self.random.choice((0, 1, 2))
        self._hand_over(model, [], state=True)

    def truncate(self) -> None:
        """A new leader replaces what was not committed."""
        model = self._some_group()
        first = self.random.randint(model.commit + 1, model.last_index + 1)
        if model.single or model.gid == META or first <= max(model.committed, model.floor):
            return
        model.term += 1
        model.vote = 0
        del model.entries[first - model.floor - 1 :]
        model.proposed_end = self._end_of(model)
        model.persisted = min(model.persisted, first - 1)
        model.cut_at = min(model.cut_at or first, first)
        entries = [self._entry(model, first + at) for at in range(self.random.choice((1, 2, 4)))]
        self._hand_over(model, entries, state=True)
        self.counts["truncations"] += 1

    @staticmethod
    def _end_of(model: GroupModel) -> int:
        """Where the next data batch of the log in RAM would begin."""
        for entry in reversed(model.entries):
            if entry.kind == Kind.DATA and entry.index > model.machine.applied:
                header = batch.parse_header(entry.data)
                return header.base_offset + header.record_count
        return model.machine.end_offset

    def _some_group(self) -> GroupModel:
        return self.random.choice(list(self.groups.values()))

    # ----- the WAL

    def take_flush(self) -> None:
        if self.flush is None:
            self.flush = self.store.take_flush()
            self.flush_has_run = False

    def run_flush(self) -> None:
        if self.flush is not None and not self.flush_has_run:
            self.flush.run()
            self.flush_has_run = True
            if not self.flush.full:
                self._make_durable(self.flush, {**self.groups, **self.departures.leaving()})

    def _make_durable(self, flush: Flush, groups: dict[int, GroupModel]) -> None:
        for run in flush.runs:
            model = groups.get(run.gid)
            if model is None or run.flags & RUN_MARK or run.origin:
                continue
            if flush.sequence >= model.durable_void:
                entries = [
                    StoredEntry(entry.index, entry.term, entry.kind, bytearray(entry.data))
                    for entry in run.entries
                ]
                model.durable.add(run.first, entries, run.hard_state)
                if entries and run.first <= model.cut_at:
                    model.cut_at = 0

    def finish_flush(self) -> None:
        if self.flush is None or not self.flush_has_run:
            return
        flush, self.flush = self.flush, None
        durable = self.store.done(flush)
        if not flush.full:
            check_synced(self.disk, flush)
            if flush.runs:
                self.last_flush = flush.file.path, flush.position, flush.length
            self.counts["flushes"] += 1
        self._acknowledge(durable)

    def _acknowledge(self, durable: list[tuple[int, int, int]]) -> None:
        for gid, index, term in durable:
            model = self.groups.get(gid)
            if model is None or index > model.last_index:
                continue
            if index > model.floor and model.entry(index).term != term:
                continue  # replaced meanwhile
            model.persisted = max(model.persisted, index)
            if model.single:
                self._commit(model, model.persisted)

    def learn_commit(self) -> None:
        """A follower learns how far its log is committed."""
        model = self._some_group()
        if not model.single and model.persisted > model.commit:
            self._commit(model, self.random.randint(model.commit, model.persisted))

    def _commit(self, model: GroupModel, index: int) -> None:
        model.commit = max(model.commit, index)
        while model.machine.applied < model.commit:
            entry = model.entry(model.machine.applied + 1)
            model.machine.apply(entry)
            model.note_applied(entry)
            self._effect(model, entry)

    def _effect(self, model: GroupModel, entry: StoredEntry) -> None:
        if entry.kind == Kind.DATA:
            self.store.log(model.gid).append(entry.data, batch.parse_header(entry.data))
            return
        body = batch.control_body(entry.data)
        if body[:1] == TRIM:
            self.store.log(model.gid).trim(int(body[1:]))
        elif body[:1] == CREATE:
            self._create(int(body[1:]))
        elif body[:1] == DELETE:
            self._delete(int(body[1:]))

    # ----- groups

    def create_or_delete(self) -> None:
        """Propose that a group is made or deleted."""
        live = [gid for gid in self.groups if gid != META]
        if len(live) < 3 or (len(live) < 6 and self.random.random() < 0.5):
            self._propose_meta(CREATE + b"%d" % self.next_gid)
            self.next_gid += 1
        else:
            gone = [*live, *self.departures.all]
            self._propose_meta(DELETE + b"%d" % self.random.choice(gone))

    def _create(self, gid: int) -> None:
        if gid not in {*self.groups, *self.deleted, *self.departures.all}:
            kind = gid % 3
            keyed = kind != 2 and self.random.random() < 0.5
            self.groups[gid] = GroupModel(gid, has_log=kind != 2, single=kind == 0, keyed=keyed)
        if gid in self.groups and self.groups[gid].has_log:
            self._create_log(self.groups[gid])

    def _create_log(self, model: GroupModel) -> None:
        log = self.store.create_log(model.gid)
        if model.keyed:
            log.configure(KEYED)

    def _delete(self, gid: int) -> None:
        self.groups.pop(gid, None)
        self.departures.all.pop(gid, None)
        self.deleted.add(gid)
        self.store.delete_log(gid)
        self.counts["deletions"] += 1

    def trim(self) -> None:
        model = self._some_group()
        if model.has_log and model.machine.end_offset > model.machine.start_offset:
            new = self.random.randint(model.machine.start_offset, model.machine.end_offset)
            entry = self._control_entry(model, model.last_index + 1, TRIM + b"%d" % new)
            self._hand_over(model, [entry])

    def install(self) -> None:
        """A follower that is far behind gets a snapshot."""
        model = self._some_group()
        if model.single or model.gid == META or model.installing is not None:
            return
        index = model.last_index + self.random.randint(1, 50)
        machine = Machine(index, self.random.getrandbits(32))
        model.before_install = model.batches, model.committed
        if model.has_log:
            log = self.store.log(model.gid)
            machine.start_offset = machine.end_offset = log.end_offset + self.random.randint(1, 9)
            log.reset(machine.start_offset, index)
            model.batches = []
        model.machine = machine
        model.floor, model.entries = index, []
        model.commit = model.committed = model.persisted = index
        model.proposed_end = machine.end_offset
        model.digests[index] = machine.digest
        model.term += 1
        model.vote = 0
        model.install_state = model.term, 0, index
        model.installing = replace(machine)
        self.store.append(model.gid, [], (model.term, 0, index), index)
        self.store.install(model.gid, index, model.term, machine.snapshot())
        self.counts["snapshots installed"] += 1

    def drop(self) -> None:
        """A follower's replica goes elsewhere, seldom one without records; another one comes."""
        some = [each for each in self.groups.values() if not (each.single or each.installing)]
        full = [each for each in some if each.batches]
        if not full and (not some or self.random.random() < 0.9):
            return
        model = self.random.choice(full or some)
        if len(self.groups) < 6:
            self._propose_meta(CREATE + b"%d" % self.next_gid)
            self.next_gid += 1
        machine, last = model.machine, model.last_index
        term = model.entry(last).term if model.entries else model.term
        state = replace(machine) if self.random.random() < 0.7 else None
        handed = (machine.applied, self._applied_term(model.gid), machine.snapshot())
        bound = self.store.wal.group(model.gid).hard_state[:2]
        del self.groups[model.gid]
        departed = Departed(model, self.day_us, state, bound, (term, last))
        self.departures.all[model.gid] = departed
        self.store.drop_replica(
            model.gid, last, term, at_us=self.day_us, state=handed if state else None
        )
        self.counts["replicas dropped"] += 1

    def let_time_pass(self) -> None:
        """Some hours, after which what lies in quarantine may go."""
        self.day_us += self.random.choice((1, 12, 24)) * HOUR_US
        self.departures.due(self.day_us)
        self.store.expire(self.day_us)

    # ----- background work

    def take_job(self) -> None:
        if self.job is None:
            self.job = self.store.take_job()
            self.job_has_run = False

    def run_job(self) -> None:
        if self.job is not None and not self.job_has_run:
            if isinstance(self.job, CheckpointJob):
                self.departures.went(self.job.emptied, self.disk.capacity)
            self.job.run()
            self.job_has_run = True
            self.counts[self.job.name] += 1
            if isinstance(self.job, CheckpointJob) and not self.job.full:
                self._installed(self.job)

    def _installed(self, job: CheckpointJob) -> None:
        self.departures.durable(job.emptied)
        for update in job.updates:
            model = self.groups.get(update.record.gid)
            if model is not None and model.installing is not None:
                index = model.installing.applied
                if update.blob and Machine.restore(update.blob) == model.installing:
                    model.durable = Durable(index, [], update.record.hard_state)
                    model.installing = None
                    model.durable_void = update.record.floor

    def finish_job(self) -> None:
        if self.job is not None and self.job_has_run:
            job, self.job = self.job, None
            self._acknowledge(self.store.done(job))

    def cut_checkpoint(self) -> None:
        """The node hands over the state of the groups that are due, and sometimes of others."""
        due = self.store.checkpoint_due()
        if not due and self.random.random() < 0.1:
            due = self.random.sample(list(self.groups), k=min(2, len(self.groups)))
        if not due:
            return
        states = [
            (gid, self.groups[gid].machine.applied, self._applied_term(gid), self._blob(gid))
            for gid in due
            if gid in self.groups and self.random.random() < 0.95
        ]
        self.store.checkpoint(states)
        self.counts["checkpoints cut"] += 1

    def _blob(self, gid: int) -> bytes:
        return self.groups[gid].machine.snapshot(self.blob_padding)

    def _applied_term(self, gid: int) -> int:
        model = self.groups[gid]
        applied = model.machine.applied
        return model.entry(applied).term if applied > model.floor else model.term
