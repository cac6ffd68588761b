"""Replicas that were dropped, kept for a while: each is a small data directory of its own.

    quarantine/<time of the drop>.<group>/checkpoint/   the group's state, and what vouches for it
    quarantine/<time of the drop>.<group>/partitions/   the files of its log, as they were

Each step is durable before the next begins: (1) the checkpoint is written there, the log still
lies in its place; (2) the broker's own checkpoint says that the replica is emptied; (3) the log's
directory is moved. A start undoes (1) without (2), and makes up for (3). What is to go loses its
checkpoint first, and without one it is no quarantine. So at every moment there is a whole replica
or a whole quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.checkpoint import Update, read_blobs, rewrite_records
from penstock_broker.storage.checkpoint_format import Record
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.files import Beneath, Files, sync_names
from penstock_broker.storage.jobs import Flushed, Job, is_full
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.segment_jobs import Piece

_CHECKPOINT: Final = 1  # the number of its only file
_SECOND_US: Final = 1_000_000


class Quarantined(NamedTuple):
    """A replica that was dropped and is still here."""

    at_us: int
    """When it was dropped."""
    gid: int
    bytes: int
    """Of its files."""

    @property
    def path(self) -> str:
        """Its directory, within the data directory."""
        return layout.quarantined(self.at_us, self.gid)


class Dropped(NamedTuple):
    """A replica that is about to be dropped, as its owner handed it over."""

    log: PartitionLog
    at_us: int
    state: tuple[int, int, bytes] | None
    """Applied index, applied term and state of its machine; None: as the checkpoint has them."""


class Departure:
    """The disk side of a drop; made by the owner, run within a checkpoint job."""

    def __init__(
        self, record: Record, blob: bytes | None, dropped: Dropped, pieces: Sequence[Piece]
    ) -> None:
        self.gid = record.gid
        self.at_us = dropped.at_us
        self.pieces = pieces
        self.prepared = False
        self.moved: Quarantined | None = None
        self._record = record
        self._blob = blob

    def prepare(self, files: Files, config: StorageConfig, control: int) -> None:
        """Step 1; `control` is the number of the broker's checkpoint file. No room: not kept."""
        self.prepared = False
        path = layout.quarantined(self.at_us, self.gid)
        try:
            for piece in self.pieces:
                piece.work(files, config)
            self.prepared = bool(files.list(layout.partition(self.gid)))
            if self.prepared:
                _write_checkpoint(files, path, Update(self._record, self._state(files, control)))
        except OSError as error:
            if not is_full(error):
                raise
            self.prepared = False
            files.remove_directory(path)

    def _state(self, files: Files, control: int) -> bytes | None:
        if self._blob is not None or not self._record.blob_at:
            return self._blob
        try:
            return read_blobs(files, {self.gid: self._record}, control)[self.gid]
        except CorruptData:
            return None  # the records are what counts

    def move(self, files: Files) -> None:
        """Step 3."""
        if self.prepared:
            self.moved = _move(files, self.at_us, self.gid)


def _write_checkpoint(files: Files, path: str, update: Update) -> None:
    inside = Beneath(files, path)
    for part in (layout.CHECKPOINT, layout.PARTITIONS):
        inside.make_directory(part)
    record = update.record._replace(blob_at=0, blob_length=0, blob_crc=0)
    rewrite_records(inside, _CHECKPOINT, [Update(record, update.blob)])
    for directory in (path, layout.QUARANTINE, layout.ROOT):
        sync_names(files, directory)


def _move(files: Files, at_us: int, gid: int) -> Quarantined:
    path = layout.quarantined(at_us, gid)
    sync_names(files, layout.partition(gid))
    files.rename(layout.partition(gid), f"{path}/{layout.partition(gid)}")
    sync_names(files, f"{path}/{layout.PARTITIONS}")
    sync_names(files, layout.PARTITIONS)
    return _measured(files, at_us, gid)


def _measured(files: Files, at_us: int, gid: int) -> Quarantined:
    inside = Beneath(files, layout.quarantined(at_us, gid))
    directories = (layout.CHECKPOINT, layout.partition(gid))
    names = [f"{directory}/{name}" for directory in directories for name in inside.list(directory)]
    return Quarantined(at_us, gid, sum(inside.open(name).size() for name in names))


def recover(files: Files, records: Mapping[int, Record]) -> list[Quarantined]:
    """What is in the quarantine, after whatever a stop left half done is undone or finished."""
    found: list[Quarantined] = []
    for name in files.list(layout.QUARANTINE):
        ids = layout.quarantined_ids(name)
        if ids is None:
            continue
        at_us, gid = ids
        path = layout.quarantined(at_us, gid)
        record = records.get(gid, Record(gid))
        whole = files.exists(f"{path}/{layout.checkpoint_file(_CHECKPOINT)}")
        if whole and not record.deleted and files.list(f"{path}/{layout.partition(gid)}"):
            found.append(_measured(files, at_us, gid))
        elif whole and record.emptied and files.list(layout.partition(gid)):
            found.append(_move(files, at_us, gid))
        else:
            _remove(files, path)
    return found


def _remove(files: Files, path: str) -> None:
    checkpoint = f"{path}/{layout.checkpoint_file(_CHECKPOINT)}"
    if files.exists(checkpoint):
        files.remove(checkpoint)
        sync_names(files, f"{path}/{layout.CHECKPOINT}")
    files.remove_directory(path)
    sync_names(files, layout.QUARANTINE)


class Quarantine:
    """The owner's side: what is there, and what is to go."""

    def __init__(self, files: Files, config: StorageConfig, found: Sequence[Quarantined]) -> None:
        self._files = files
        self._keep_us = config.quarantine_seconds * _SECOND_US
        self._here = sorted(found)
        self._doomed: list[Quarantined] = []
        self._last_us = self._here[-1].at_us if self._here else 0

    def __len__(self) -> int:
        return len(self._here)

    def all(self) -> Sequence[Quarantined]:
        """Oldest first."""
        return self._here

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum([one.bytes for one in self._here])

    def moment(self, at_us: int) -> int:
        """A time for a drop; never the same again, and never before an earlier one's."""
        self._last_us = max(at_us, self._last_us + 1)
        return self._last_us

    @property
    def keeps(self) -> bool:
        """Whether dropped replicas are kept at all."""
        return self._keep_us > 0

    def took(self, one: Quarantined) -> None:
        """A replica lies in quarantine."""
        self._here.append(one)

    def expire(self, now_us: int) -> None:
        """Let those go whose time is over."""
        self._doom(lambda one: one.at_us + self._keep_us <= now_us)

    def forget(self, gid: int) -> None:
        """The group was deleted: so are copies of it."""
        self._doom(lambda one: one.gid == gid)

    def make_room(self) -> None:
        """The disk is nearly full: the oldest goes. One at a time, since that takes a while."""
        if self._here and not self._doomed:
            self._doomed.append(self._here.pop(0))

    def _doom(self, goes: Callable[[Quarantined], bool]) -> None:
        doomed = [one for one in self._here if goes(one)]
        if doomed:
            self._doomed += doomed
            self._here = [one for one in self._here if not goes(one)]

    def take_job(self) -> Job | None:
        """The removal of one, if one is to go."""
        return RemovalJob(self._files, self._doomed.pop(0)) if self._doomed else None


class RemovalJob(Job):
    """Deletes a quarantined replica for good."""

    name: ClassVar[str] = "removal from quarantine"

    def __init__(self, files: Files, one: Quarantined) -> None:
        super().__init__()
        self._files = files
        self._one = one

    def work(self) -> None:
        _remove(self._files, self._one.path)

    def finish(self) -> Flushed:
        return []
