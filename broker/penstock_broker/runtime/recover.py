"""`penstock cluster recover`: the files of one broker, rewritten so that it goes on alone."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from penstock.errors import PreconditionFailed, StorageFailure
from penstock_broker.node import recovering
from penstock_broker.node.recovering import Fate
from penstock_broker.runtime.files import RealFiles
from penstock_broker.runtime.inspect import ReadOnlyFiles
from penstock_broker.storage import StorageConfig, Store, layout


class Recovery(NamedTuple):
    """What was found in a directory, and becomes of it."""

    cluster: str
    node: int
    fates: list[Fate]


def recover(directory: str, *, dry_run: bool) -> Recovery:
    """Make the broker of a data directory the only voter of all groups that it has a copy of.

    A dry run brings the directory into the state in which a start would find it, and says what
    would be done.

    Raises:
        NotADirectoryError: there is no such directory.
        DataDirectoryLocked: a broker runs on it.
        PreconditionFailed: it holds no broker of a cluster.
        CorruptData, UnsupportedFormat, StorageFailure: it can't be read or written.
    """
    if not ReadOnlyFiles(directory).exists(layout.FORMAT):
        raise PreconditionFailed(f"{directory} holds no data of a broker")
    uuid = secrets.token_bytes(16)
    store = Store.open(RealFiles(directory), StorageConfig(), fresh_uuid=uuid)
    try:
        fates = recovering.plan(store)
        if not dry_run:
            recovering.carry_out(store, fates, time.time_ns() // 1000)
    except OSError as error:
        raise StorageFailure(f"the data directory can't be used: {error}") from error
    finally:
        store.close()
    assert store.identity is not None, "the plan has seen it"
    return Recovery(store.identity.cluster, store.identity.node, fates)
