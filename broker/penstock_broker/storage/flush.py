"""One flush of the WAL: a gathered write and a sync, on the committer thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from penstock_broker.storage import layout
from penstock_broker.storage.config import BLOCK
from penstock_broker.storage.entries import EntryLike, HardState
from penstock_broker.storage.files import Buffer, sync_file
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.wal_files import WalFile
from penstock_broker.storage.wal_format import FLUSH, RUN, pack_run, seal_flush

if TYPE_CHECKING:
    from penstock_broker.storage.wal import Wal

_JOIN_BYTES: Final = 128 * 1024  # below it one copy is cheaper than many iovecs
_ZEROS: Final = bytes(BLOCK)


class PendingRun:
    """One group's part of a flush to come; the entries are Raft's own."""

    __slots__ = (
        "entries",
        "first",
        "flags",
        "gid",
        "hard_state",
        "origin",
        "relog_of",
        "retires",
        "size",
    )

    def __init__(self, gid: int, first: int) -> None:
        self.gid = gid
        self.flags = 0
        self.hard_state: HardState = (0, 0, 0)
        self.first = first
        self.origin = 0
        self.relog_of: WalFile | None = None
        self.retires = 0
        self.size = 0
        self.entries: list[EntryLike] = []

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def header(self) -> bytes:
        count = len(self.entries)
        return pack_run(
            self.gid, self.flags, self.hard_state, self.first, count, self.size, self.origin
        )

    def split(self, count: int) -> PendingRun:
        """Keep the first `count` entries; the rest is returned as a run of its own."""
        rest = PendingRun(self.gid, self.first + count)
        rest.entries = self.entries[count:]
        rest.size = sum([len(entry.data) for entry in rest.entries])
        rest.origin, rest.hard_state = self.origin, self.hard_state
        rest.relog_of, self.relog_of = self.relog_of, None  # the last part counts
        del self.entries[count:]
        self.size -= rest.size
        return rest


class Flush(Job):
    """`run()` is one write and one sync; nothing that it holds is acknowledged before."""

    name: ClassVar[str] = "WAL flush"

    def __init__(
        self, wal: Wal, file: WalFile, chain: tuple[int, int, int], runs: list[PendingRun]
    ) -> None:
        super().__init__()
        self.wal = wal
        self.file = file
        self.chain = chain
        self.sequence = chain[0]
        self.runs = runs
        self.position = file.position
        self.length = sum([run.size for run in runs]) + RUN.size * len(runs)
        self.crc = 0

    def work(self) -> None:
        if not self.file.prepared and not self.file.prepare():
            self.full = True
            return
        header, payload = self._encode()
        padding = _ZEROS[: -(FLUSH.size + self.length) % BLOCK]
        self.file.handle.pwrite([header, *payload, padding], self.position)
        sync_file(self.file.handle, layout.wal_file(self.file.number))

    def _encode(self) -> tuple[bytes, Sequence[Buffer]]:
        payload: list[Buffer] = []
        for run in self.runs:
            payload.append(run.header())
            payload += [entry.data for entry in run.entries]
        if self.length <= _JOIN_BYTES:
            payload = [b"".join(payload)]
        header, self.crc = seal_flush(
            payload, self.length, self.file.nonce, self.chain, len(self.runs)
        )
        return header, payload

    def finish(self) -> Flushed:
        return self.wal.flushed(self)
