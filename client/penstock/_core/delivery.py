"""What of a subscription is in the application's hands, and so what may be committed.

Records leave in runs: one batch is turned into a list, and the application's loop takes from its
iterator without asking anybody. How far it came is read off the iterator. Invariants: a record is
`processed` once the application came back for more, committed by hand, or left without an error;
the one record in its hands is not; positions never pass a record that was not handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from typing import NamedTuple

from penstock._core.reader import Reader
from penstock.protocol.record import Record
from penstock.protocol.record_batch import RecordBatch


class Run:
    """The batch that is being iterated."""

    __slots__ = ("batch", "iterator", "reader", "records")

    def __init__(self, reader: Reader, batch: RecordBatch) -> None:
        self.reader = reader
        self.batch = batch
        self.records: list[Record] = batch.records()
        self.iterator: Iterator[Record] = iter(self.records)

    @property
    def taken(self) -> int:
        """How many records were handed out."""
        return len(self.records) - length_hint(self.iterator)

    def offset_after(self, count: int) -> int:
        """The offset that follows the first `count` records."""
        if count >= len(self.records):
            return self.batch.next_offset
        return self.records[count].offset


class Rest(NamedTuple):
    """A batch from an offset on."""

    reader: Reader
    batch: RecordBatch
    offset: int


NOTHING: Iterator[Record] = iter(())


class Delivery:
    """The records on their way into the application.

    Attributes:
        records: the iterator that the application's loop takes from; exhausted: ask for more.
    """

    __slots__ = ("_bulk", "_handed", "_run", "records")

    def __init__(self) -> None:
        self.records: Iterator[Record] = NOTHING
        self._run: Run | None = None
        self._handed: list[tuple[Reader, int]] = []
        """What left before the present run, or all at once: (reader, offset after it)."""
        self._bulk = False
        """Whether the present run was handed out by the list, not record by record."""

    def start(self, reader: Reader, batch: RecordBatch) -> None:
        """Begin to hand out a batch; the one before it was handed out whole."""
        run = Run(reader, batch)
        self._end_run()
        self._run = run
        self._bulk = False
        self.records = run.iterator

    def hand(self, reader: Reader, offset_after: int) -> None:
        """A batch was handed out as a whole."""
        self._handed.append((reader, offset_after))
        reader.position = offset_after

    @property
    def size(self) -> int:
        """How many records the present run has."""
        return 0 if self._run is None else len(self._run.records)

    def took_list(self) -> None:
        """The last records left as a list: none of them is processed before all are."""
        self._bulk = True

    def rest(self) -> Rest | None:
        """What of the present run was not handed out."""
        run = self._run
        if run is None or run.taken == len(run.records):
            return None
        return Rest(run.reader, run.batch, run.offset_after(run.taken))

    def take_back(self, reader: Reader, offset: int) -> int:
        """What left of a partition since the application came back last did not arrive.

        Returns:
            The offset after what was handed out in earlier runs; -1: there was none.
        """
        end = max((after for each, after in self._handed if each is reader), default=-1)
        self.forget(reader)
        reader.position = offset
        return end

    def take_rest(self) -> tuple[Reader, RecordBatch] | None:
        """Take back the unread rest of the present run as a batch."""
        run = self._run
        if run is None or run.taken == len(run.records):
            return None
        offset = run.offset_after(run.taken)
        self._end_run()
        run.batch.skip_below(offset)
        return run.reader, run.batch

    def take_rest_of(self, reader: Reader) -> RecordBatch | None:
        """Take back the unread rest of the present run if it is of that partition."""
        if self._run is None or self._run.reader is not reader:
            return None
        self.noticed()
        rest = self.take_rest()
        return None if rest is None else rest[1]

    def finished(self) -> None:
        """The application is done with all that it was handed."""
        for reader, offset in self._handed:
            reader.processed = offset
        self._handed.clear()
        run = self._run
        if run is not None:
            run.reader.processed = run.reader.position = run.offset_after(run.taken)
            if run.taken == len(run.records):
                self._run = None

    def noticed(self) -> None:
        """Look how far a loop came; the record in its hands is not processed."""
        run = self._run
        if run is None:
            return
        run.reader.position = run.offset_after(run.taken)
        if not self._bulk and not self._handed and run.taken:
            run.reader.processed = run.offset_after(run.taken - 1)

    def cover(self, reader: Reader, end: int) -> None:
        """There are no records from what was handed out last up to `end`."""
        if self._run is not None and self._run.reader is reader:
            self._run.batch.next_offset = end
            return
        reader.position = end
        mine = [at for at, each in enumerate(self._handed) if each[0] is reader]
        if mine:
            self._handed[mine[-1]] = reader, end
        else:
            reader.processed = end

    def holds(self, reader: Reader) -> bool:
        """Whether the application may still work on records of a partition."""
        return any(each is reader for each, _ in self._handed)

    def interrupt(self, reader: Reader) -> None:
        """Hand out nothing more of a partition's run; what is in the application's hands stays."""
        if self._run is not None and self._run.reader is reader:
            self.noticed()
            self._end_run()

    def forget(self, reader: Reader) -> None:
        """A seek: what was handed out of a partition does not count any more."""
        if self._run is not None and self._run.reader is reader:
            self._run = None
            self.records = NOTHING
        self._handed = [each for each in self._handed if each[0] is not reader]

    def _end_run(self) -> None:
        run, self._run = self._run, None
        self.records = NOTHING
        if run is not None and run.taken:
            self.hand(run.reader, run.offset_after(run.taken))
