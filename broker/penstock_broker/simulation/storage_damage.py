"""Damage of durable bytes: what was acknowledged is there, or the damage is named and refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from penstock.errors import CorruptData
from penstock.protocol.batch import Kind, iterate, parse_header
from penstock_broker.simulation.disk import SimDisk
from penstock_broker.simulation.storage_checks import check_batch, matches, read
from penstock_broker.simulation.storage_model import GroupModel, Violation
from penstock_broker.storage import RecoveredGroup, StorageConfig, Store


class Injury(NamedTuple):
    """Bytes that were changed behind the store's back."""

    path: str
    position: int
    length: int = 1


def check_damaged(
    disk: SimDisk, config: StorageConfig, models: Iterable[GroupModel], injury: Injury
) -> str:
    """Open an injured directory and look at everything; how it went, in a word.

    Raises:
        Violation: something acknowledged is missing or wrong and nobody said so, or damage was
            reported where there is none.
    """
    try:
        store = Store.open(disk, config, fresh_uuid=bytes(16))
    except CorruptData as error:
        _check_named(error, injury)
        return "refused to start"
    refused = 0
    for model in models:
        recovered = store.recovered.get(model.gid, RecoveredGroup())
        if not matches(recovered, model.durable, (model.term, model.vote)):
            raise Violation(f"{injury}: group {model.gid} was recovered wrongly")
        if model.has_log:
            refused += _check_log(store, model, recovered, injury)
    store.close()
    return "refused to read" if refused else "unharmed"


def _check_named(error: CorruptData, injury: Injury) -> None:
    """The error points at the injury; where a lost header leaves a doubt, at all it may be."""
    detail = error.detail
    if "position" not in detail:
        raise Violation(f"{injury} was reported as: {error}") from error
    named = [(detail.get("file"), detail.get("position"), detail.get("length"))]
    if injury.length > 1:
        others = detail.get("others", [])
        assert isinstance(others, list), "places are listed"
        named += others
    for path, position, length in named:
        assert isinstance(position, int), "a place has a position"
        assert isinstance(length, int), "a place has a length"
        end = position + max(length, 1)  # a file that is gone has no bytes to be named
        meets = position < injury.position + injury.length and end > injury.position
        if path == injury.path and meets:
            return
    raise Violation(f"{injury} was reported as: {error}") from error


def _check_log(store: Store, model: GroupModel, recovered: RecoveredGroup, injury: Injury) -> int:
    """Every committed batch is in the log, in the entries above it, or refused by name."""
    log = store.create_log(model.gid)
    held = {
        parse_header(entry.data).base_offset: bytes(entry.data)
        for entry in recovered.entries
        if entry.kind == Kind.DATA
    }
    refused = 0
    start = max(model.machine.start_offset, log.start_offset)
    for batch in model.batches:
        if batch.next_offset <= start:
            continue
        if batch.base_offset >= log.end_offset:
            if held.get(batch.base_offset) != batch.data:
                raise Violation(f"{injury}: offset {batch.base_offset} is silently missing")
            continue
        try:
            found = read(store, model.gid, max(batch.base_offset, log.start_offset), 1)
        except CorruptData as error:
            _check_named(error, injury)
            refused += 1
            continue
        position, header = next(iterate(found[0]))
        check_batch(model, batch, bytes(found[0][position : position + header.length]))
    return refused
