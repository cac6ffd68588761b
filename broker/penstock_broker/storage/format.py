"""The format file: which version wrote the directory, and which node owns it.

The node's uuid lives on the data disk: a wiped disk is a new node, never the old one with amnesia.
Written once, as a new file that is renamed into place; a later version migrates it the same way.
"""

from __future__ import annotations

import struct
from typing import Final

from crc32c import crc32c

from penstock.errors import CorruptData, UnsupportedFormat
from penstock_broker.storage import layout
from penstock_broker.storage.files import Files, sync_file, sync_names

VERSION: Final = 1
_MAGIC: Final = b"PENSTOCK"
_FORMAT: Final = struct.Struct("<8sI16s")
_CRC: Final = struct.Struct("<I")
_SIZE: Final = _FORMAT.size + _CRC.size


def open_format(files: Files, fresh_uuid: bytes) -> bytes:
    """Return the directory's node uuid; an empty directory becomes the node `fresh_uuid`.

    Raises:
        UnsupportedFormat: a newer version wrote the directory.
        CorruptData: the format file is damaged, or missing beside data.
    """
    if files.exists(layout.FORMAT):
        return read_format(files)
    if any(files.list(part) for part in (layout.WAL, layout.CHECKPOINT, layout.PARTITIONS)):
        raise CorruptData(
            "the format file is missing beside data", file=layout.FORMAT, position=0, length=_SIZE
        )
    _write_format(files, fresh_uuid)
    return fresh_uuid


def read_format(files: Files) -> bytes:
    """The node uuid in the format file; errors as for `open_format`."""
    data = files.open(layout.FORMAT).pread(_SIZE, 0)
    if len(data) < _SIZE or data[:8] != _MAGIC:
        raise _damaged()
    body = data[: _FORMAT.size]
    if _CRC.unpack_from(data, _FORMAT.size)[0] != crc32c(body):
        raise _damaged()
    _, version, uuid = _FORMAT.unpack(body)
    if version > VERSION:
        raise UnsupportedFormat(
            f"the data directory has format {version}; this version reads up to {VERSION}",
            found=version,
            supported=VERSION,
        )
    return bytes(uuid)


def _damaged(message: str = "the format file is damaged") -> CorruptData:
    return CorruptData(message, file=layout.FORMAT, position=0, length=_SIZE)


def _write_format(files: Files, uuid: bytes) -> None:
    body = _FORMAT.pack(_MAGIC, VERSION, uuid)
    file = files.open(layout.FORMAT_NEW, create=True)
    file.truncate(0)
    file.pwrite([body + _CRC.pack(crc32c(body))], 0)
    sync_file(file, layout.FORMAT_NEW)
    for part in (layout.WAL, layout.CHECKPOINT, layout.PARTITIONS):
        files.make_directory(part)
    files.rename(layout.FORMAT_NEW, layout.FORMAT)
    sync_names(files, layout.ROOT)
