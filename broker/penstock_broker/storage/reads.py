"""How a read of a log is answered: from RAM, by a read to be made, or refused by name."""

from __future__ import annotations

from typing import NamedTuple

from penstock.errors import CorruptData
from penstock_broker.storage.files import Buffer, File


class Memory(NamedTuple):
    """A read answered from RAM: whole batches, the first may begin below the wanted offset."""

    buffers: list[Buffer]


class Cold(NamedTuple):
    """A read to be made: bytes of a segment file, for `PartitionLog.finish_read`."""

    file: File
    position: int
    length: int
    base_offset: int
    """Of the segment."""
    offset: int
    """Base offset of the batch at `position`."""


class Damage(NamedTuple):
    """Offsets that can't be served, and the bytes at fault."""

    start_offset: int
    end_offset: int
    file: str
    position: int
    length: int


def damaged(damage: Damage) -> CorruptData:
    """The error for a damaged range."""
    bytes_ = f"{damage.length} bytes at {damage.position} are damaged"
    what = bytes_ if damage.length else "the file is empty or missing"
    return CorruptData(
        f"{damage.file}: {what}: offsets {damage.start_offset} "
        f"to {damage.end_offset - 1} can't be read",
        **damage._asdict(),
    )


def unreadable(path: str, error: OSError) -> CorruptData:
    """The error for a file that the disk does not give back."""
    return CorruptData(f"{path} can't be read: {error}", file=path)
