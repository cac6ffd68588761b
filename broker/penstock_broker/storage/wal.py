"""The write-ahead log: one for all groups of the process, and the Raft log of each.

Owns what is pending, the flush in flight and the files. Invariants:
- One flush is in flight at a time; each has the next sequence and the checksum of the one before.
- A flush never touches a block that holds an earlier flush.
- Runs of a group keep their order; a run that starts at an earlier index replaces the rest.
- A group that is `held` (its snapshot is being made durable) is in no flush.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from penstock.errors import LimitExceeded
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.entries import EntryLike, HardState
from penstock_broker.storage.files import Files
from penstock_broker.storage.flush import Flush, PendingRun
from penstock_broker.storage.jobs import Flushed
from penstock_broker.storage.wal_files import RelogJob, WalFile
from penstock_broker.storage.wal_format import FIRST_FLUSH, FLUSH, RUN, RUN_MARK, aligned

_UNFILLED_BYTES_MAX: Final = 256 * 1024
"""What goes into a file of unwritten blocks before a filled one is made ready."""


class WalGroup:
    """What the WAL knows of one group."""

    __slots__ = (
        "commit",
        "durable",
        "gid",
        "held",
        "next_index",
        "pending",
        "term",
        "touched",
        "truncations",
        "vote",
    )

    def __init__(self, gid: int) -> None:
        self.gid = gid
        self.term = 0
        self.vote = 0
        self.commit = 0
        self.next_index = 0  # 0: unknown, any first index is taken
        self.durable = (0, 0)
        self.touched = 0
        """Sequence of the last flush with anything of the group."""
        self.held = False
        self.pending: deque[PendingRun] = deque()
        self.truncations: list[tuple[int, int]] = []
        """(flush sequence, first index): from that flush on, older entries from there are void."""

    @property
    def hard_state(self) -> HardState:
        return self.term, self.vote, self.commit


class Wal:
    """The owner's side; `Flush` is the disk's."""

    def __init__(self, files: Files, config: StorageConfig, draw_nonce: Callable[[], int]) -> None:
        self._files = files
        self._config = config
        self._draw_nonce = draw_nonce
        self.groups: dict[int, WalGroup] = {}
        self.current: WalFile | None = None
        self.spares: list[WalFile] = []
        self.sealed: list[WalFile] = []
        """Full files, oldest first, that a checkpoint has not made superfluous yet."""
        self.retiring: list[WalFile] = []
        """Files that go as soon as a flush says so."""
        self.retired: list[WalFile] = []
        """Files to recycle or remove."""
        self.next_number = 1
        self.sequence = 1
        self.mark = 1
        """The flush behind those that are durable."""
        """Of the next flush."""
        self.previous_crc = 0
        self.oldest = 0
        """The first sequence that recovery needs; 0 before the first flush."""
        self.in_flight: Flush | None = None
        self.stalled = False
        """No file could be made because the disk is full; `retry` ends it."""
        self.paused = False
        """No new flush is begun for a moment."""
        self.pending_bytes = 0
        self._again: Flush | None = None
        self._dirty: dict[int, WalGroup] = {}
        self.durable_oldest = 0
        """`oldest` as the last flush says it."""
        self._mark = (0, 0)
        self._mark_due = False
        self.tail_is_sealed = True
        self._seal_wanted = False
        room = config.wal_file_bytes - FIRST_FLUSH
        self._room = min(config.flush_bytes_max, room) - FLUSH.size - 2 * RUN.size
        self._entry_bytes_max = room - FLUSH.size - 2 * RUN.size

    @property
    def flushing(self) -> bool:
        """Whether a flush was taken that is not durable yet."""
        return self.in_flight is not None or self._again is not None

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be flushed."""
        return not (self.flushing or self._dirty or self._mark_due)

    def group(self, gid: int) -> WalGroup:
        group = self.groups.get(gid)
        if group is None:
            group = self.groups[gid] = WalGroup(gid)
        return group

    def append(
        self, gid: int, entries: Sequence[EntryLike], hard_state: HardState | None, commit: int
    ) -> None:
        """Queue entries and, when it changed, the hard state for the next flush.

        Raises:
            LimitExceeded: an entry does not fit into a WAL file.
        """
        group = self.groups.get(gid) or self.group(gid)
        if hard_state is not None:
            group.term, group.vote, group.commit = hard_state
        if commit > group.commit:
            group.commit = commit
        if entries:
            self._append_entries(group, entries)
        elif hard_state is None:
            return  # the commit index alone is not worth a flush
        elif not group.pending:
            group.pending.append(PendingRun(gid, group.next_index))
        self._dirty[gid] = group

    def _append_entries(self, group: WalGroup, entries: Sequence[EntryLike]) -> None:
        sizes = [len(entry.data) for entry in entries]
        if max(sizes) > self._entry_bytes_max:
            raise LimitExceeded(f"an entry may have {self._entry_bytes_max} bytes")
        first = entries[0].index
        if first != group.next_index and group.next_index:
            assert first < group.next_index, "the entries of a group have no gap"
            self._truncate(group, first)
        pending = group.pending
        if pending and pending[-1].entries and pending[-1].origin == 0:
            run = pending[-1]
        else:
            run = PendingRun(group.gid, first)
            pending.append(run)
        size = sum(sizes)
        run.entries += entries
        run.size += size
        group.next_index = first + len(sizes)
        self.pending_bytes += size

    def _truncate(self, group: WalGroup, first: int) -> None:
        """Drop pending entries from `first` on; for what was flushed, remember the cut."""
        group.truncations.append((self.sequence, first))
        for run in [run for run in group.pending if run.origin == 0 and run.last >= first]:
            if run.first >= first:
                group.pending.remove(run)
                self.pending_bytes -= run.size
            else:
                self.pending_bytes -= run.split(first - run.first).size

    def take_flush(self) -> Flush | None:
        """The next flush, or None while one is in flight, none is due or the disk is full."""
        if self.in_flight is not None or self.stalled:
            return None
        if self.paused and self._again is None:
            return None
        if self._again is not None:
            self.in_flight, self._again = self._again, None
            self.in_flight.full = False
            return self.in_flight
        runs = self._gather() if self._dirty or self._mark_due else []
        if not runs and not self._seal_wanted:
            return None
        flush_bytes = FLUSH.size + sum([run.size + RUN.size for run in runs])
        file = self._file_for(aligned(flush_bytes))
        oldest = self.oldest or self.sequence
        self.in_flight = Flush(self, file, (self.sequence, oldest, self.previous_crc), runs)
        self.sequence += 1
        return self.in_flight

    def _gather(self) -> list[PendingRun]:
        runs: list[PendingRun] = []
        if self._mark_due:
            self._mark_due = False
            runs.append(self._mark_run(*self._mark))
        room = self._room
        for group in list(self._dirty.values()):
            if group.held:
                continue
            while group.pending and room > 0:
                run = self._take_run(group, room, force=room == self._room)
                if run is None:
                    room = 0
                    break
                room -= run.size + RUN.size
                run.hard_state = group.hard_state
                runs.append(run)
            del self._dirty[group.gid]
            if group.pending:
                self._dirty[group.gid] = group  # behind the others
            if room <= 0:
                break
        return runs

    def _take_run(self, group: WalGroup, room: int, *, force: bool) -> PendingRun | None:
        """The group's next run, cut to the room; `force` takes one entry however large it is."""
        run = group.pending.popleft()
        if run.size > room:
            count = used = 0
            while used + len(run.entries[count].data) <= room:
                used += len(run.entries[count].data)
                count += 1
            if count == 0 and not force:
                group.pending.appendleft(run)
                return None
            count = count or 1
            if count < len(run.entries):
                group.pending.appendleft(run.split(count))
        self.pending_bytes -= run.size
        return run

    def _mark_run(self, number: int, length: int) -> PendingRun:
        run = PendingRun(0, length)
        run.flags = RUN_MARK
        run.retires = len(self.retiring)
        run.hard_state = (number, 0, 0)
        return run

    def _file_for(self, length: int) -> WalFile:
        file = self.current
        if file is not None and file.position + length <= file.size and not self._has_better(file):
            return file
        if file is not None:
            self.sealed.append(file)
        self.current = self.spares.pop(0) if self.spares else self.new_file()
        self.current.first_sequence = self.sequence
        return self.current

    def _has_better(self, file: WalFile) -> bool:
        """Whether to leave a file of unwritten blocks for a filled one: a flush takes half as long.

        The first file of each start is not filled, so that a start costs nothing.
        """
        return not file.filled and bool(self.spares) and self.spares[0].filled

    @property
    def wants_spare(self) -> bool:
        """Whether a file should be made ready: not before the present one fills, or is known slow.

        So neither a start nor an idle broker costs anything.
        """
        file = self.current
        if len(self.spares) >= self._config.wal_spares or file is None:
            return False
        slow = not file.filled and file.position > _UNFILLED_BYTES_MAX
        return slow or bool(self.retired) or file.position * 4 > file.size

    def new_file(self) -> WalFile:
        """A file with the next number; not prepared."""
        self.next_number += 1
        return WalFile(
            self._files, self.next_number - 1, self._draw_nonce(), self._config.wal_file_bytes
        )

    def flushed(self, flush: Flush) -> Flushed:
        """Take in the outcome of the flush in flight; returns what became durable."""
        assert flush is self.in_flight, "a flush is finished once"
        self.in_flight = None
        if flush.full:
            self.stalled = True  # the same flush is made again: its sequence is taken
            self._again = flush
            return []
        file = flush.file
        file.position += aligned(FLUSH.size + flush.length)
        file.last_sequence = flush.sequence
        self.mark = flush.sequence + 1
        self.previous_crc = flush.crc
        self.oldest = self.oldest or flush.sequence
        self.durable_oldest = flush.chain[1]
        self.tail_is_sealed = not flush.runs
        self._seal_wanted = False
        durable: dict[int, tuple[int, int]] = {}
        for run in flush.runs:
            if run.flags & RUN_MARK:
                self._mark_flushed(run)
                continue
            self._run_flushed(file, run, durable)
        return [(gid, *last) for gid, last in durable.items()]

    def _run_flushed(
        self, file: WalFile, run: PendingRun, durable: dict[int, tuple[int, int]]
    ) -> None:
        if run.relog_of is not None:
            run.relog_of.relogs -= 1
        group = self.groups.get(run.gid)
        if group is None:
            return  # deleted while the flush was under way
        if run.entries and run.origin == 0:
            group.durable = run.last, run.entries[-1].term
        durable[run.gid] = group.durable
        group.touched = file.last_sequence
        file.groups[run.gid] = max(file.groups.get(run.gid, 0), run.last if run.entries else 0)

    def _mark_flushed(self, run: PendingRun) -> None:
        count = run.retires
        self.retired += self.retiring[:count]
        del self.retiring[:count]

    def remove(self, gid: int) -> None:
        """Forget a group that was deleted."""
        self.drop_pending(gid)
        self.groups.pop(gid, None)
        for file in (*self.sealed, self.current):
            if file is not None:
                file.groups.pop(gid, None)

    def drop_pending(self, gid: int) -> None:
        """Drop what is queued of a group."""
        group = self.groups.get(gid)
        if group is None:
            return
        for run in group.pending:
            self.pending_bytes -= run.size
            if run.relog_of is not None:
                run.relog_of.relogs -= 1
        group.pending.clear()
        self._dirty.pop(gid, None)

    def hold(self, gid: int, index: int, term: int) -> None:
        """The group's log begins anew behind a snapshot; it waits for `release`."""
        self.drop_pending(gid)
        group = self.group(gid)
        group.held = True
        group.next_index = index + 1
        group.durable = index, term
        group.commit = max(group.commit, index)
        group.truncations.clear()

    def empty(self, gid: int) -> WalGroup:
        """All that was logged of the group is void but term and vote; it waits for `release`."""
        self.hold(gid, 0, 0)
        for file in (*self.sealed, self.current):
            if file is not None:
                file.groups.pop(gid, None)
        group = self.group(gid)
        group.commit = 0
        return group

    def release(self, gid: int) -> None:
        """The snapshot is durable: the group's entries may be flushed."""
        group = self.groups.get(gid)
        if group is not None:
            group.held = False
            if group.pending:
                self._dirty[gid] = group

    def retire(self, count: int) -> None:
        """Have the next flush say that the oldest sealed files are not needed any more."""
        self.retiring += self.sealed[:count]
        del self.sealed[:count]
        following = self.sealed[0] if self.sealed else self.current
        oldest = following.first_sequence if following is not None else self.sequence
        self.oldest = max(self.oldest, oldest)
        for group in self.groups.values():
            if group.truncations:
                group.truncations = [cut for cut in group.truncations if cut[0] >= self.oldest]

    def relog(self, job: RelogJob) -> None:
        """Queue what must outlive a file: runs that keep the place of their first flush."""
        found: dict[int, list[PendingRun]] = {}
        for header, entries in job.found:
            group = self.groups.get(header.gid)
            if group is None:
                continue
            cut = min((first for at, first in group.truncations if at > header.origin), default=0)
            kept = [entry for entry in entries if not cut or entry.index < cut]
            if not kept:
                continue
            run = PendingRun(header.gid, kept[0].index)
            run.entries = [*kept]
            run.size = sum([len(entry.data) for entry in kept])
            run.origin = header.origin
            run.relog_of = job.file
            job.file.relogs += 1
            self.pending_bytes += run.size
            self._dirty[header.gid] = group
            found.setdefault(header.gid, []).append(run)
        for gid, runs in found.items():
            self.groups[gid].pending.extendleft(reversed(runs))
        job.file.relogged = True

    def tick(self) -> None:
        """Now and then: try again after a full disk; seal the last flush when nothing follows.

        A torn last flush and a damaged last flush look alike. An empty flush behind it tells them
        apart, so that damage of what was acknowledged is never taken for a torn tail.
        """
        self.stalled = False
        if not self.tail_is_sealed and not self._dirty:
            self._seal_wanted = True

    def mark_checkpoint(self, number: int, length: int) -> None:
        """Have the next flush say how much of the checkpoint file is durable."""
        self._mark, self._mark_due = (number, length), True
