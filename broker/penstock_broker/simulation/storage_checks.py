"""What must hold of a store: after each event, after each recovery, and for every read."""

from __future__ import annotations

from penstock.protocol.batch import FLAG_COMPACTED, iterate, next_offset, parse_header
from penstock.protocol.records import RecordBatch
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.storage_model import Batch, Durable, GroupModel, Machine, Violation
from penstock_broker.storage import Cold, Flush, RecoveredGroup, Store
from penstock_broker.storage.entries import later_hard_state
from penstock_broker.storage.files import Buffer
from penstock_broker.storage.log import PartitionLog
from penstock_broker.storage.wal_format import FLUSH


def check_synced(disk: SimDisk, flush: Flush) -> None:
    """No reply before its sync: what a finished flush reports is durable."""
    end = flush.position + FLUSH.size + flush.length
    if disk.unsynced(flush.file.path, flush.position, end):
        raise Violation(f"flush {flush.sequence} was reported before it was durable")


def check_log(model: GroupModel, log: PartitionLog) -> None:
    """The log in RAM is the committed truth."""
    machine = model.machine
    if log.end_offset != machine.end_offset:
        raise Violation(f"log {model.gid} ends at {log.end_offset}, not {machine.end_offset}")
    if log.start_offset != machine.start_offset:
        raise Violation(f"log {model.gid} starts at {log.start_offset}, not {machine.start_offset}")
    if log.tail.written > log.tail.end:
        raise Violation(f"log {model.gid} has more written than appended")


def read(store: Store, gid: int, offset: int, max_bytes: int) -> list[Buffer]:
    """One read through whichever path the log chooses; errors as for `PartitionLog.read`."""
    log = store.log(gid)
    found = log.read(offset, max_bytes)
    if not isinstance(found, Cold):
        return found.buffers
    data = found.file.try_pread(found.length, found.position)
    if data is None:
        data = found.file.pread(found.length, found.position)
    return log.finish_read(found, data, offset, max_bytes)


def check_read(store: Store, model: GroupModel, offset: int, max_bytes: int) -> int:
    """Read at an offset and compare with the truth; the offset behind what was read."""
    buffers = read(store, model.gid, offset, max_bytes)
    if not buffers:
        if offset != model.machine.end_offset:
            raise Violation(f"log {model.gid}: nothing at offset {offset}")
        return offset
    first, at = True, offset
    for buffer in buffers:
        covered = 0
        for position, header in iterate(buffer):
            truth = model.batch_at(at)
            data = bytes(memoryview(buffer)[position : position + header.length])
            if not header.base_offset <= at < next_offset(data, header):
                raise Violation(f"log {model.gid}: there is no offset {at}")
            check_batch(model, truth, data)
            if not first and at != truth.base_offset:
                raise Violation(f"log {model.gid}: offsets are not dense at {at}")
            at, first = next_offset(data, header), False
            covered = position + header.length
        if covered != len(buffer):
            raise Violation(f"log {model.gid}: a read ended inside a batch")
    return at


def check_batch(model: GroupModel, truth: Batch, data: bytes) -> None:
    """A batch has its very bytes, or lacks only what compaction may leave out."""
    if data == truth.data:
        return
    header = parse_header(data)
    if not model.keyed or not header.flags & FLAG_COMPACTED:
        raise Violation(f"log {model.gid}: wrong bytes at offset {truth.base_offset}")
    left = RecordBatch(data)
    kept = dict(zip(left.offsets, zip(left.keys, left.values, strict=True), strict=True))
    offset = left.base_offset
    while offset < left.next_offset:
        whole = RecordBatch(model.batch_at(offset).data)
        if whole.base_offset != offset or whole.next_offset > left.next_offset:
            raise Violation(f"log {model.gid}: a batch covers a part of another at {offset}")
        _check_records(model, kept, whole)
        offset = whole.next_offset


def _check_records(
    model: GroupModel, kept: dict[int, tuple[bytes | None, bytes | None]], whole: RecordBatch
) -> None:
    for offset, key, value in zip(whole.offsets, whole.keys, whole.values, strict=True):
        newest = model.newest[key or b""].offset
        if kept.get(offset, (key, value)) != (key, value):
            raise Violation(f"log {model.gid}: offset {offset} changed in compaction")
        if offset not in kept and offset == newest and value is not None:
            raise Violation(f"log {model.gid}: compaction lost the newest value of {key!r}")


def check_all_reads(store: Store, model: GroupModel, max_bytes: int) -> int:
    """Read the whole log; how many batches that were."""
    log = store.log(model.gid)
    offset, count = log.start_offset, 0
    while offset < log.end_offset:
        offset = check_read(store, model, offset, max_bytes)
        count += 1
    if model.keyed:
        _check_newest(store, model)
    return count


def _check_newest(store: Store, model: GroupModel) -> None:
    """Whoever reads a compacted log from its start ends with the newest value of each key."""
    log = store.log(model.gid)
    found: dict[bytes, bytes | None] = {}
    offset = log.start_offset
    while offset < log.end_offset:
        for buffer in read(store, model.gid, offset, 100_000):
            for at, header in iterate(buffer):
                batch = RecordBatch(memoryview(buffer)[at : at + header.length])
                batch.skip_below(log.start_offset)
                found.update(zip((key or b"" for key in batch.keys), batch.values, strict=True))
                offset = batch.next_offset
    for key, record in model.newest.items():
        if record.offset >= log.start_offset and found.get(key) != record.value:
            raise Violation(f"log {model.gid}: a reader ends with a wrong value of {key!r}")


def check_recovered(
    model: GroupModel, recovered: RecoveredGroup | None, candidates: list[Durable]
) -> Durable:
    """A recovered group is what was durable, or what was just about to be; which one."""
    found = recovered or RecoveredGroup()
    machine = Machine.restore(found.blob) if found.blob is not None else Machine()
    if machine.applied != found.applied_index:
        raise Violation(f"group {model.gid}: state of {machine.applied} at {found.applied_index}")
    for candidate in candidates:
        if matches(found, candidate, (model.term, model.vote)):
            return candidate
    lengths = [(one.floor, one.last_index, one.hard_state) for one in candidates]
    last = found.entries[-1].index if found.entries else found.applied_index
    raise Violation(
        f"group {model.gid}: recovered {found.applied_index} to {last}, {found.hard_state}; "
        f"durable were {lengths}"
    )


def matches(found: RecoveredGroup, durable: Durable, newest: tuple[int, int]) -> bool:
    """Whether a recovered group holds exactly what was durable.

    The hard state may be newer, up to what the node had: checkpoints write it earlier.
    """
    applied = found.applied_index
    if applied < durable.floor or applied > durable.last_index:
        return False
    expected = durable.entries[applied - durable.floor :]
    if len(expected) != len(found.entries):
        return False
    for one, other in zip(expected, found.entries, strict=True):
        if (one.index, one.term, one.kind) != (other.index, other.term, other.kind):
            return False
        if bytes(one.data) != bytes(other.data):
            return False
    state = found.hard_state
    later = later_hard_state(durable.hard_state, state)[:2] == state[:2]
    return later and (state[0] < newest[0] or state[:2] == newest or state == durable.hard_state)
