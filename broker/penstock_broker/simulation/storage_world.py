"""One seed drives a store as a node would, on a disk that fails, and checks every promise.

Group 0 creates and deletes the others, as metadata does. Every action is one event; a crash may
fall into any call to the disk, inside a job or inside recovery. The same seed gives the same
history.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from zlib import crc32

from penstock.errors import CorruptData, StorageFailure
from penstock.protocol import batch
from penstock_broker.simulation.disk import Crash, DiskFaults, SimDisk
from penstock_broker.simulation.storage_actions import META, StorageActions
from penstock_broker.simulation.storage_checks import (
    check_all_reads,
    check_log,
    check_read,
    check_recovered,
)
from penstock_broker.simulation.storage_damage import Injury, check_damaged
from penstock_broker.simulation.storage_drops import ROOM, Departures
from penstock_broker.simulation.storage_model import (
    CREATE,
    Durable,
    GroupModel,
    Machine,
    Violation,
)
from penstock_broker.storage import Flush, Job, StorageConfig, Store

_KIB = 1024


class StorageWorld(StorageActions):
    """See the module; `run` plays one history. `focus` gives events another weight."""

    def __init__(self, seed: int, focus: Mapping[str, int] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.disk = SimDisk(self.random.getrandbits(32))
        self.config = self._draw_config()
        self.blob_padding = self.random.choice((0, 0, 1500, 6000))
        self.last_flush: tuple[str, int, int] | None = None
        self.groups: dict[int, GroupModel] = {
            META: GroupModel(META, has_log=False, single=True, keyed=False)
        }
        self.deleted: set[int] = set()
        self.departures = Departures()
        self.day_us = 1_000_000
        self.next_gid = 1
        self.clock_us = 1_000_000
        self.flush: Flush | None = None
        self.flush_has_run = False
        self.job: Job | None = None
        self.job_has_run = False
        self.store = self._open()
        self.actions = [
            (action, (focus or {}).get(action.__name__, weight))
            for action, weight in self._draw_actions()
        ]

    def _draw_config(self) -> StorageConfig:
        choice = self.random.choice
        return StorageConfig(
            wal_file_bytes=choice((32, 64, 128)) * _KIB,
            wal_spares=choice((0, 1, 2)),
            flush_bytes_max=choice((4, 16, 64)) * _KIB,
            segment_bytes=choice((4, 8, 32)) * _KIB,
            index_interval_bytes=choice((256, 1024, 4096)),
            tail_bytes_max=choice((2, 16, 64)) * _KIB,
            write_bytes=choice((1, 1024, 8192)),
            index_cache_bytes=choice((64, 4096)),
            save_index_bytes=choice((1, 3000)),
            open_segments_max=choice((1, 8)),
            checkpoint_rewrite_bytes=choice((4, 16, 64)) * _KIB,
            reserve_bytes=0,
            scrub_bytes=choice((512, 8192)),
            write_back_bytes=choice((512, 4096, 1 << 20)),
        )

    def _draw_actions(self) -> list[tuple[Callable[[], None], int]]:
        """Swarm testing: each seed favours other events, and leaves some out."""
        draw = self.random.choice
        return [
            (self.append, 12),
            (self.take_flush, 10),
            (self.run_flush, 10),
            (self.finish_flush, 10),
            (self.take_job, draw((2, 8))),
            (self.run_job, draw((2, 8))),
            (self.finish_job, draw((2, 8))),
            (self.cut_checkpoint, draw((1, 6))),
            (self.learn_commit, draw((1, 6))),
            (self.read_somewhere, 4),
            (self.change_term, draw((0, 1))),
            (self.truncate, draw((0, 2, 5))),
            (self.trim, draw((0, 1))),
            (self.create_or_delete, draw((0, 1))),
            (self.install, draw((0, 0, 1, 4))),
            (self.drop, draw((0, 1))),
            (self.crash_in_a_drop, draw((0, 1, 3))),
            (self.let_time_pass, 2),
            (self.tick, draw((2, 6))),
            (self.restart_cleanly, draw((0, 1))),
            (self.crash_soon, draw((0, 2))),
            (self.crash_now, draw((0, 1))),
            (self.fail_a_call, draw((0, 0, 1))),
            (self.fill_disk, draw((0, 0, 1))),
            (self.injure, draw((0, 1, 2))),
        ]

    def run(self, events: int) -> None:
        """Play; raises Violation when a promise is broken."""
        for _ in range(3):
            self._propose_meta(CREATE + b"%d" % self.next_gid)
            self.next_gid += 1
        functions, weights = zip(*self.actions, strict=True)
        for _ in range(events):
            (action,) = self.random.choices(functions, weights)
            self.event(action)
        self.disk.crash_at = None
        self.disk.faults = DiskFaults()
        self.disk.capacity = ROOM
        self.event(self.restart_cleanly)
        self._check_everything()
        self.departures.check_places(self.store, self.disk)
        for path in self.disk.paths():
            self._note(path.encode() + self.disk.content(path))

    def _note(self, trace: bytes) -> None:
        """Add to the digest, which is the same for a seed wherever it is run."""
        self.counts["digest"] = crc32(trace, self.counts["digest"])

    def event(self, action: Callable[[], None]) -> None:
        """One event, with what may befall it."""
        self.counts["events"] += 1
        try:
            action()
        except Crash:
            self.counts["crashes"] += 1
            self._come_back(power=self.random.random() < 0.7)
        except StorageFailure:
            self.counts["stops"] += 1
            self._come_back(power=self.random.random() < 0.5)
        self._note(b"%s %d" % (action.__name__.encode(), self.disk.steps))
        for model in self.groups.values():
            if model.has_log and model.gid in self.store.logs:
                check_log(model, self.store.log(model.gid))
        self.departures.check(self.store, self.disk)

    def tick(self) -> None:
        self._tick()
        if self.random.random() < 0.5:
            self.disk.capacity = ROOM
            self.disk.faults = DiskFaults()

    def _tick(self) -> None:
        full, before = self.store.full, self.store.quarantined()[:1]
        self.store.tick()
        if full and before != self.store.quarantined()[:1]:
            self.departures.all[before[0].gid].over = True  # the oldest made room
            self.counts["quarantines that made room"] += 1

    # ----- reading

    def read_somewhere(self) -> None:
        model = self._some_group()
        if not model.has_log:
            return
        log = self.store.log(model.gid)
        offset = self.random.randint(log.start_offset, log.end_offset)
        try:
            check_read(self.store, model, offset, self.random.choice((1, 500, 5000)))
            self._check_time(model)
        except (CorruptData, OSError):
            if not self.disk.faults.read_error:
                raise Violation(f"log {model.gid}: offset {offset} is refused") from None
        self.counts["reads"] += 1

    def _check_time(self, model: GroupModel) -> None:
        log = self.store.log(model.gid)
        kept = [one for one in model.batches if one.base_offset >= log.start_offset]
        if not kept:
            return
        wanted = self.random.choice(kept)
        time_us = batch.parse_header(wanted.data).append_ts_us
        found = log.offset_at(time_us)
        first = next(one for one in kept if batch.parse_header(one.data).append_ts_us >= time_us)
        if found in (first.base_offset, log.start_offset):
            return
        # What compaction emptied is one batch, found by its first offset.
        if not model.keyed or not found < first.base_offset < check_read(
            self.store, model, found, 1
        ):
            raise Violation(
                f"log {model.gid}: time {time_us} is at {first.base_offset}, not {found}"
            )

    def _check_everything(self) -> None:
        for model in self.groups.values():
            if model.has_log:
                size = self.random.choice((300, 5000, 100_000))
                self.counts["records checked"] += check_all_reads(self.store, model, size)
        batches = self.departures.check_contents(self.store, self.disk, self.config)
        self.counts["records checked in quarantine"] += batches

    # ----- damage

    def injure(self) -> None:
        """Damage a copy of the disk: nothing acknowledged goes missing without a word."""
        self._settle()
        if not self.seal() or any(model.installing for model in self.groups.values()):
            return
        if self.departures.leaving():
            return
        disk = self.disk.fork()
        paths = [path for path in disk.paths() if disk.content(path)]
        path = self.random.choice(paths)
        injury = self._draw_injury(disk, path)
        outcome = check_damaged(disk, self.config, self.groups.values(), injury)
        self.counts[f"injuries {outcome}"] += 1

    def seal(self) -> bool:
        """Finish the WAL with an empty flush, so that its end is not taken for torn."""
        self.disk.capacity = ROOM
        for _ in range(6):
            self._tick()
            self._settle()
            if self.store.idle and self.flush is None and self.store.wal.tail_is_sealed:
                return True
        return False

    def _draw_injury(self, disk: SimDisk, path: str) -> Injury:
        draw = self.random.random()
        if draw < 0.2 and self.last_flush is not None and disk.exists(self.last_flush[0]):
            path, position, length = self.last_flush
            return self._flip(disk, path, position + self.random.randrange(length))
        if draw < 0.8:
            return self._flip(disk, path, self.random.randrange(len(disk.content(path))))
        return self._stray(disk, path)

    def _flip(self, disk: SimDisk, path: str, position: int) -> Injury:
        disk.flip(path, position, self.random.randrange(8))
        self.counts["bit flips"] += 1
        return Injury(path, position)

    def _stray(self, disk: SimDisk, path: str) -> Injury:
        """A block that belongs elsewhere was written here.

        A segment gets none with batches of another file: a whole valid batch that has the offset
        which is due can't be told apart, since a batch does not name its partition or its file.
        """
        alien = ("log", "wal") if path.endswith("log") else (path.rpartition(".")[2],)
        others = [one for one in disk.paths() if not one.endswith(alien) and disk.content(one)]
        other = self.random.choice([path, *others])
        source = self.random.randrange(0, len(disk.content(other)), 512)
        position = self.random.randrange(0, len(disk.content(path)), 512)
        disk.misdirect(other, source, path, position, 512)
        self.counts["misdirected writes"] += 1
        return Injury(path, position, 512)

    # ----- stopping and starting

    def crash_soon(self) -> None:
        """The process will die at one of the next calls to the disk."""
        if self.disk.crash_at is None:
            self.disk.crash_at = self.disk.steps + self.random.choice((1, 2, 3, 5, 10, 30))

    def crash_in_a_drop(self) -> None:
        """It will die soon after a replica is dropped, in all the work that this makes."""
        self.drop()
        self.disk.crash_at = self.disk.steps + self.random.randint(1, 40)
        self._settle()

    def crash_now(self) -> None:
        raise Crash

    def fail_a_call(self) -> None:
        kind = self.random.choice(("read_error", "write_error", "sync_error"))
        setattr(self.disk.faults, kind, self.random.choice((0.1, 0.5)))

    def fill_disk(self) -> None:
        self.disk.capacity = self.disk.used() + self.random.choice((0, 1000, 20_000, 60_000))

    def restart_cleanly(self) -> None:
        """Finish all work, take a checkpoint of everything, stop, start."""
        for _ in range(3):
            self._settle()
            due = self.store.request_checkpoint()
            states = [
                (gid, self.groups[gid].machine.applied, self._applied_term(gid), self._blob(gid))
                for gid in due
                if gid in self.groups
            ]
            self.store.checkpoint(states)
        self._settle()
        self.counts["compaction passes"] += self.store.compactor.passes
        self.store.close()
        self.counts["clean restarts"] += 1
        self._come_back(power=self.random.random() < 0.5)

    def _settle(self) -> None:
        for _ in range(200):
            self.take_flush()
            self.run_flush()
            self.finish_flush()
            self.take_job()
            self.run_job()
            self.finish_job()
            if self.store.idle and self.flush is None and self.job is None:
                return

    def _come_back(self, *, power: bool) -> None:
        """The process is gone; start it again, perhaps more than once."""
        unfinished = self.flush if not self.flush_has_run else None
        self.flush = self.job = None
        self.disk.crash(power=power)
        self.counts["power cuts" if power else "kills"] += 1
        for attempt in range(50):
            if attempt < 20 and self.random.random() < 0.2:
                self.disk.crash_at = self.disk.steps + self.random.randint(1, 20)
            try:
                self.store = self._open()
                break
            except Crash:
                self.counts["crashes in recovery"] += 1
                self.disk.crash(power=self.random.random() < 0.7)
            except StorageFailure as failure:
                if attempt > 40:
                    raise Violation(f"a start fails for ever: {failure}") from failure
                self.disk.faults = DiskFaults()
                self.disk.crash(power=False)
        self.disk.crash_at = None
        self.disk.faults = DiskFaults()
        self._check_recovery(unfinished)

    def _open(self) -> Store:
        uuid = self.random.getrandbits(128).to_bytes(16, "little")
        return Store.open(self.disk, self.config, fresh_uuid=uuid)

    def _check_recovery(self, unfinished: Flush | None) -> None:
        self.groups |= self.departures.recovered(self.store.recovered)
        candidates = {gid: [model.durable] for gid, model in self.groups.items()}
        if unfinished is not None:
            maybe = {gid: model.durable for gid, model in self.groups.items()}
            for model in self.groups.values():
                model.durable = model.durable.copy()
            self._make_durable(unfinished, self.groups)
            for gid, model in self.groups.items():
                candidates[gid] = [maybe[gid], model.durable]
        self._replay(self.groups[META], candidates)
        for model in list(self.groups.values()):
            if model.gid != META:
                self._replay(model, candidates)
        unknown = set(self.store.logs) - set(self.groups)
        if unknown:
            raise Violation(f"deleted logs are back: {sorted(unknown)}")
        self._check_everything()

    def _replay(self, model: GroupModel, candidates: dict[int, list[Durable]]) -> None:
        """As a node does: restore the machine, take the log, apply what is committed."""
        recovered = self.store.recovered.get(model.gid)
        choices = candidates.get(model.gid, [model.durable])
        if model.cut_at:
            choices = [*choices, *(choice.cut(model.cut_at) for choice in choices)]
            model.cut_at = 0
        if model.installing is not None:
            index = model.installing.applied
            blob = recovered.blob if recovered is not None else None
            if blob is not None and Machine.restore(blob) == model.installing:
                choices = [Durable(index, [], model.install_state)]
                model.installing = None
            else:
                model.batches, model.committed = model.before_install
                model.digests.pop(index)
        model.durable_void = 0
        found = check_recovered(model, recovered, choices).copy()
        if recovered is not None:
            found.hard_state = recovered.hard_state
        model.durable = found.copy()
        model.installing = None
        if model.has_log:
            self._create_log(model)
        self._restore(model, found)

    def _restore(self, model: GroupModel, found: Durable) -> None:
        recovered = self.store.recovered.get(model.gid)
        blob = recovered.blob if recovered is not None else None
        machine = Machine.restore(blob) if blob is not None else Machine()
        known = model.digests.get(machine.applied, 0)
        if known != machine.digest:
            raise Violation(f"group {model.gid}: the state at {machine.applied} is wrong")
        model.machine = machine
        model.floor, model.entries = found.floor, list(found.entries)
        model.term, model.vote, commit = found.hard_state
        model.persisted = model.last_index
        model.commit = max(machine.applied, recovered.hard_state[2] if recovered else 0)
        if recovered is not None and not machine.applied <= commit <= model.last_index:
            commit = model.commit
        if model.has_log:
            self.store.log(model.gid).trim(machine.start_offset)
        self._commit(
            model, model.last_index if model.single else max(model.commit, model.committed)
        )
        model.proposed_end = self._end_of(model)
