"""Damaged bytes of a segment, written again as another replica has them.

Replicas hold the same batches verbatim, so bytes of the same offsets fit into the same place,
unless compaction left out something on one side: who calls checks the length. A stop in the middle
leaves the range damaged, as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from penstock_broker.storage import layout
from penstock_broker.storage.files import Buffer, Files, sync_file, sync_names
from penstock_broker.storage.jobs import Flushed, Job
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.reads import Damage
from penstock_broker.storage.segment import Segment


class RepairJob(Job):
    """Writes the bytes of a damaged range, and syncs them."""

    name: ClassVar[str] = "repair of a segment"

    def __init__(
        self,
        files: Files,
        log: PartitionLog,
        segment: Segment,
        damage: Damage,
        buffers: Sequence[Buffer],
    ) -> None:
        super().__init__()
        assert sum(map(len, buffers)) == damage.length, "it fits"
        self._files = files
        self._log = log
        self._segment = segment
        self._rewrites = segment.rewrites
        self._damage = damage
        self._buffers = buffers
        self._written = False

    @property
    def valid(self) -> bool:
        """Whether the damage is still what it was."""
        segment = self._segment
        return (
            self._damage in self._log.damages
            and segment in self._log.segments
            and segment.rewrites == self._rewrites
        )

    def work(self) -> None:
        path = self._segment.path
        missing = not self._files.exists(path)
        file = self._files.open(path, create=missing)
        file.pwrite(self._buffers, self._damage.position)
        sync_file(file, path)
        if missing:
            sync_names(self._files, layout.partition(self._log.gid))
        self._written = True

    def finish(self) -> Flushed:
        if self._written and self.valid:
            self._log.repaired(self._damage, self._segment)
        return []
