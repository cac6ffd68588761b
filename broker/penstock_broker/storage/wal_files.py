"""The files of the WAL: preparation, recycling, and which groups each one holds.

A file is used once per nonce: `prepare` (or `recycle`) writes a header with a fresh nonce and makes
file and name durable before the first flush goes there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from penstock_broker.storage import layout
from penstock_broker.storage.entries import StoredEntry
from penstock_broker.storage.files import File, Files, sync_file, sync_names, write_back
from penstock_broker.storage.jobs import Flushed, Job, is_full
from penstock_broker.storage.wal_format import (
    FIRST_FLUSH,
    RUN_MARK,
    RunHeader,
    file_header,
    parse_flush,
    parse_runs,
    read_entries,
)

_FILL: Final = 1024 * 1024
_SYNC_EVERY: Final = 4 * _FILL


class WalFile:
    """One use of a WAL file."""

    def __init__(self, files: Files, number: int, nonce: int, size: int) -> None:
        self.files = files
        self.number = number
        self.nonce = nonce
        self.size = size
        self.prepared = False
        self.filled = False
        """Whether all its blocks were written before, so that syncs are quick."""
        self.position = FIRST_FLUSH
        self.first_sequence = 0
        self.last_sequence = 0
        self.groups: dict[int, int] = {}
        """Group -> highest index that the file holds; 0 for a hard state alone."""
        self.relogged = False
        """Whether what is still needed of it has gone into the WAL again."""
        self.relogs = 0
        """Re-logged runs that are not flushed yet."""
        self.handle: File

    @property
    def path(self) -> str:
        return layout.wal_file(self.number)

    def prepare(self, *, fill: bool = False) -> bool:
        """Create the file durably; False when the disk is full, with nothing left to rely on.

        `fill` writes zeros over all of it: syncing blocks that were written before is twice as
        fast as syncing reserved ones.
        """
        try:
            self.handle = self.files.open(self.path, create=True)
            self.handle.allocate(self.size)
            if fill:
                self.fill()
        except OSError as error:
            if is_full(error):
                return False
            raise
        self.write_header()
        return True

    def fill(self) -> None:
        """Write zeros over all of it, in steps: a large write would delay flushes beside it."""
        zeros = bytes(min(_FILL, self.size))
        for position in range(0, self.size, len(zeros)):
            self.handle.pwrite([zeros[: self.size - position]], position)
            if position % _SYNC_EVERY:
                write_back(self.handle, position, len(zeros), self.path)
            else:
                sync_file(self.handle, self.path)
        self.filled = True

    def write_header(self) -> None:
        """Make the header and the file's name durable; the file may be used then."""
        self.handle.pwrite([file_header(self.number, self.nonce)], 0)
        sync_file(self.handle, self.path)
        sync_names(self.files, layout.WAL)
        self.prepared = True


class PrepareJob(Job):
    """Makes a spare file: from a retired one by renaming it, or a new one filled with zeros."""

    name: ClassVar[str] = "WAL file preparation"

    def __init__(
        self, spare: WalFile, retired: WalFile | None, finished: Callable[[PrepareJob], None]
    ) -> None:
        super().__init__()
        self.spare = spare
        self._retired = retired
        self._finished = finished

    def work(self) -> None:
        spare = self.spare
        if self._retired is not None:
            spare.handle, spare.filled = self._retired.handle, self._retired.filled
            spare.files.rename(self._retired.path, spare.path)
            if not spare.filled:
                spare.fill()
            spare.write_header()
        elif not spare.prepare(fill=True):
            self.full = True
            spare.files.remove(spare.path)

    def finish(self) -> Flushed:
        self._finished(self)
        return []


class RemoveFileJob(Job):
    """Removes a retired WAL file that is not needed as a spare."""

    name: ClassVar[str] = "WAL file removal"

    def __init__(self, retired: WalFile) -> None:
        super().__init__()
        self._retired = retired

    def work(self) -> None:
        self._retired.files.remove(self._retired.path)
        self._retired.handle.close()  # frees the space here, not where the last reference goes
        sync_names(self._retired.files, layout.WAL)

    def finish(self) -> Flushed:
        return []


class RelogJob(Job):
    """Reads back, from a file that is to be recycled, what no checkpoint holds yet."""

    name: ClassVar[str] = "WAL re-log"

    def __init__(
        self, file: WalFile, above: dict[int, int], relog: Callable[[RelogJob], None]
    ) -> None:
        super().__init__()
        self.file = file
        self.above = above
        self.found: list[tuple[RunHeader, list[StoredEntry]]] = []
        self.complete = False
        """False when the file could not be read as it was written."""
        self._relog = relog

    def work(self) -> None:
        data = self.file.handle.pread(self.file.position, 0)
        at = FIRST_FLUSH
        while at < len(data):
            flush = parse_flush(data, at, self.file.nonce)
            if flush is None:
                return
            for header, position in parse_runs(data, flush):
                above = self.above.get(header.gid)
                if above is not None and not header.flags & RUN_MARK:
                    self.found.append((header, read_entries(data, header, position, above)))
            at = flush.end
        self.complete = True

    def finish(self) -> Flushed:
        self._relog(self)
        return []
