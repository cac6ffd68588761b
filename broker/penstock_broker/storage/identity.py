"""The identity file: which cluster the directory belongs to, and under which node id.

It is missing until the node belongs to a cluster, and written once: a node id is bound to the
directory's uuid for ever. Like the format file it appears by a rename, so it is whole or absent.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from crc32c import crc32c

from penstock.errors import CorruptData
from penstock_broker.storage import layout
from penstock_broker.storage.files import Files, sync_file, sync_names
from penstock_broker.storage.jobs import Flushed, Job

CLUSTER_BYTES_MAX: Final = 1000
_MAGIC: Final = b"PENSTKID"
_HEAD: Final = struct.Struct("<8sIH")
_CRC: Final = struct.Struct("<I")
_SIZE_MAX: Final = _HEAD.size + CLUSTER_BYTES_MAX + _CRC.size


class Identity(NamedTuple):
    """Whose node the directory is."""

    cluster: str
    node: int


def read_identity(files: Files) -> Identity | None:
    """The directory's identity; None: it belongs to no cluster yet.

    Raises:
        CorruptData: the file is damaged.
    """
    if not files.exists(layout.IDENTITY):
        return None
    data = files.open(layout.IDENTITY).pread(_SIZE_MAX, 0)
    if len(data) < _HEAD.size + _CRC.size or data[:8] != _MAGIC:
        raise _damaged()
    _, node, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if len(data) != end + _CRC.size or _CRC.unpack_from(data, end)[0] != crc32c(data[:end]):
        raise _damaged()
    return Identity(data[_HEAD.size : end].decode(), node)


def _damaged() -> CorruptData:
    message = "the identity file is damaged"
    return CorruptData(message, file=layout.IDENTITY, position=0, length=_SIZE_MAX)


class IdentityJob(Job):
    """Writes the identity file of a directory that has none."""

    name = "write of the identity"
    waits_for_space = True  # nothing refers to it before it is there

    def __init__(self, files: Files, identity: Identity) -> None:
        super().__init__()
        self.identity = identity
        self._files = files

    def work(self) -> None:
        cluster = self.identity.cluster.encode()
        assert 0 < len(cluster) <= CLUSTER_BYTES_MAX, "the machine bounds ids of clusters"
        body = _HEAD.pack(_MAGIC, self.identity.node, len(cluster)) + cluster
        file = self._files.open(layout.IDENTITY_NEW, create=True)
        file.truncate(0)
        file.pwrite([body + _CRC.pack(crc32c(body))], 0)
        sync_file(file, layout.IDENTITY_NEW)
        self._files.rename(layout.IDENTITY_NEW, layout.IDENTITY)
        sync_names(self._files, layout.ROOT)

    def finish(self) -> Flushed:
        return []
