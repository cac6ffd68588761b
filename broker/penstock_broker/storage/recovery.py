"""Opening a store: format, WAL image, checkpoint, logs, replay; in this order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock_broker.storage import layout, quarantine
from penstock_broker.storage.checkpoint import Checkpoint, load_checkpoint
from penstock_broker.storage.config import StorageConfig
from penstock_broker.storage.entries import RecoveredGroup, later_hard_state
from penstock_broker.storage.files import Files, sync_names
from penstock_broker.storage.format import open_format
from penstock_broker.storage.identity import read_identity
from penstock_broker.storage.index_cache import IndexCache
from penstock_broker.storage.keeper import Keeper
from penstock_broker.storage.log import LogContext
from penstock_broker.storage.log_recovery import open_log
from penstock_broker.storage.tail import TailBudget
from penstock_broker.storage.wal import Wal
from penstock_broker.storage.wal_recovery import Base, Replay, WalImage

if TYPE_CHECKING:
    from penstock_broker.storage.store import Store


def recover(store: Store, fresh_uuid: bytes) -> None:
    """Fill a store whose directory is locked; see `Store.open`."""
    files, config = store.files, store.config
    store.node_uuid = open_format(files, fresh_uuid)
    store.identity = read_identity(files)
    for part in (layout.WAL, layout.CHECKPOINT, layout.PARTITIONS):
        files.make_directory(part)
        sync_names(files, part)
    image = WalImage(files)
    store.control = load_checkpoint(files, image.mark)
    cache = IndexCache(files, config)
    store.context = LogContext(files, config, TailBudget(config.tail_bytes_max), cache)
    found = quarantine.recover(files, store.control.records)
    store.quarantine = quarantine.Quarantine(files, config, found)
    _open_logs(store)
    replay = image.replay(_bases(store.control))
    store.wal = _open_wal(files, config, replay, _nonces(fresh_uuid, replay.sequence))
    durable = store.control.number, store.control.length
    if store.control.number and image.mark != durable:
        store.wal.mark_checkpoint(*durable)  # a stop came before a flush could vouch for it
    store.keeper = Keeper(store.context, store.control, store.wal, store.logs, store.quarantine)
    store.opened_mark = store.wal.mark
    _recover_groups(store, replay)


def _nonces(seed: bytes, sequence: int) -> Callable[[], int]:
    """Nonces for WAL files, never the same again: from the random bytes of this opening."""
    drawn = 0

    def draw() -> int:
        nonlocal drawn
        drawn += 1
        digest = hashlib.blake2b(b"%d.%d" % (sequence, drawn), key=seed, digest_size=8)
        return int.from_bytes(digest.digest(), "little")

    return draw


def _bases(control: Checkpoint) -> dict[int, Base]:
    return {
        gid: Base(record.applied_index, record.floor, record.deleted)
        for gid, record in control.records.items()
    }


def _open_logs(store: Store) -> None:
    records = store.control.records
    found = layout.group_ids(store.files.list(layout.PARTITIONS))
    known = [gid for gid, record in records.items() if record.has_log]
    for gid in sorted({*found, *known}):
        record = records.get(gid)
        if record is not None and (record.deleted or record.emptied):
            # What an emptied one got since is in the WAL as a whole: nothing vouched for it yet.
            store.files.remove_directory(layout.partition(gid))
            sync_names(store.files, layout.PARTITIONS)
            continue
        store.logs[gid] = open_log(gid, store.context, record.durable if record else None)


def _open_wal(
    files: Files, config: StorageConfig, replay: Replay, draw_nonce: Callable[[], int]
) -> Wal:
    wal = Wal(files, config, draw_nonce)
    wal.sequence = wal.mark = replay.sequence + 1
    wal.previous_crc = replay.crc
    wal.oldest = wal.durable_oldest = replay.oldest
    wal.tail_is_sealed = replay.sealed
    wal.sealed = replay.used
    for file in replay.unused:
        file.nonce = draw_nonce()
        file.size = config.wal_file_bytes
        if file.prepare():
            wal.spares.append(file)
        else:
            files.remove(file.path)
    numbers = [file.number for file in (*replay.used, *replay.unused)]
    wal.next_number = max(numbers, default=0) + 1
    return wal


def _recover_groups(store: Store, replay: Replay) -> None:
    records = store.control.records
    for gid in sorted({*records, *replay.groups}):
        record = records.get(gid)
        if record is not None and record.deleted:
            store.wal.remove(gid)  # else its files would wait for a checkpoint of it for ever
            continue
        group = store.recovered[gid] = RecoveredGroup()
        if record is not None:
            group.hard_state = record.hard_state
            group.applied_index, group.applied_term = record.applied_index, record.applied_term
            group.blob = store.control.blobs.get(gid)
            group.emptied = record.emptied
            group.promised = record.promised_term, record.promised_index
        replayed = replay.groups.get(gid)
        if replayed is not None:
            group.hard_state = later_hard_state(group.hard_state, replayed.hard_state)
            group.entries = replayed.entries
        _adopt_group(store, gid, group, replay)
    store.control.blobs = {}


def _adopt_group(store: Store, gid: int, group: RecoveredGroup, replay: Replay) -> None:
    """Let the WAL and the keeper go on where the group stood."""
    last = group.entries[-1] if group.entries else None
    index, term = (last.index, last.term) if last else (group.applied_index, group.applied_term)
    term_, vote, commit = group.hard_state
    group.hard_state = term_, vote, min(commit, index)
    wal_group = store.wal.group(gid)
    wal_group.term, wal_group.vote, wal_group.commit = group.hard_state
    wal_group.next_index = index + 1
    wal_group.durable = index, term
    wal_group.touched = replay.sequence
    record = store.control.records.get(gid)
    covered = record is not None and not group.entries and record.hard_state == group.hard_state
    store.keeper.adopt(gid, covered=covered)
    if gid in replay.groups:
        wal_group.truncations = replay.groups[gid].truncations
