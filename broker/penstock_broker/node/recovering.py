"""Going on with one node when most others are lost for ever: its directory, rewritten offline.

Raft gives up nothing by itself, so a group whose majority is gone waits for ever. Here a person
decides that it shall go on with what one directory holds: behind the last entry of each group
comes a configuration in which this node votes alone, and everything up to there counts as
committed. What only the lost ones had is lost, and what was never acknowledged may come to be. It
is sound only if no other node of the cluster ever starts again on its old directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from penstock.errors import PreconditionFailed
from penstock.protocol.batch import Kind, control_batch, control_body, parse_header, stamp
from penstock_broker.machine.commands import (
    ChangeReplicas,
    Command,
    SetNodeState,
    SettleReplicas,
    decode_command,
    encode_command,
)
from penstock_broker.machine.metadata import MetadataMachine
from penstock_broker.machine.stamp import TERM_LEAP, Stamp
from penstock_broker.machine.topology import REMOVED
from penstock_broker.node.group import as_batch
from penstock_broker.node.restart import unpack_blob
from penstock_broker.raft import Configuration, Entry
from penstock_broker.raft.entry import CONFIG, RESERVED_KINDS
from penstock_broker.storage import RecoveredGroup, Store

METADATA: Final = 0
KEPT: Final = "kept"
EMPTY: Final = "empty"
LOST: Final = "lost"


class Fate(NamedTuple):
    """What becomes of a partition."""

    group: int
    topic: str
    """Empty: the metadata."""
    partition: int
    outcome: str
    """`kept`: with what is here; `empty`: it begins anew, since nothing of it is here; `lost`:
    this node has no copy, and it stays without a leader."""
    entries: int
    """Of its Raft log, here."""
    unproven: int
    """Entries at its end that were not known to be committed here."""
    others: list[int]
    """Nodes that had copies too: what only they had is lost."""


def read_metadata(store: Store) -> MetadataMachine:
    """The metadata with all that is logged here.

    Raises:
        PreconditionFailed: the directory belongs to no cluster, or has no metadata.
    """
    found = store.recovered.get(METADATA)
    if store.identity is None or found is None:
        raise PreconditionFailed("the directory belongs to no cluster")
    machine = MetadataMachine()
    if found.blob is not None:
        machine.restore(unpack_blob(found.blob)[1])
    for entry in found.entries:
        if entry.kind not in RESERVED_KINDS:
            at = Stamp(entry.index, entry.term, parse_header(entry.data).append_ts_us)
            machine.apply(decode_command(control_body(entry.data)), at)
    return machine


def plan(store: Store) -> list[Fate]:
    """What recovery would make of each group; the metadata comes first.

    Raises:
        PreconditionFailed: as for `read_metadata`; or this node was removed from the cluster.
    """
    machine = read_metadata(store)
    assert store.identity is not None, "else there would be no metadata"
    here = store.identity.node
    entry = machine.nodes.get(here)
    if entry is None or entry.gone:
        raise PreconditionFailed(f"node {here} is no member of the cluster any more")
    others = sorted(node for node in machine.members if node != here)
    fates = [_fate(store.recovered[METADATA], METADATA, "", 0, others)]
    for topic in machine.topics.values():
        for number, partition in enumerate(topic.partitions):
            found = store.recovered.get(partition.group)
            rest = [node for node in partition.holders if node != here]
            if found is not None and not found.emptied and here in partition.holders:
                fates.append(_fate(found, partition.group, topic.name, number, rest))
            else:
                outcome = EMPTY if here in partition.founders and found is None else LOST
                fates.append(Fate(partition.group, topic.name, number, outcome, 0, 0, rest))
    return fates


def _fate(found: RecoveredGroup, group: int, topic: str, partition: int, others: list[int]) -> Fate:
    last = _last_of(found)[0]
    known = max(found.hard_state[2], found.applied_index)
    return Fate(group, topic, partition, KEPT, last, last - known, others)


def _last_of(found: RecoveredGroup) -> tuple[int, int]:
    if found.entries:
        return found.entries[-1].index, found.entries[-1].term
    return found.applied_index, found.applied_term


def carry_out(store: Store, fates: Sequence[Fate], at_us: int) -> None:
    """Make this node the only voter of every group of which something is here; blocks.

    The metadata also learns where replicas are now, and that all other nodes are removed.

    Raises:
        StorageFailure: a write or sync failed; it may be tried again.
    """
    assert store.identity is not None, "the plan has seen it"
    here = store.identity.node
    data = Configuration.of([here]).encode()
    for fate in fates:
        if fate.outcome == LOST:
            continue
        found = store.recovered.get(fate.group, RecoveredGroup())
        first, term = _last_of(found)[0] + 1, found.hard_state[0] + TERM_LEAP
        bodies = _commands(read_metadata(store), fates, here, first) if not fate.group else []
        entries = [_control(first + n, term, body, at_us) for n, body in enumerate(bodies)]
        last = first + len(entries)
        entries.append(as_batch(Entry(last, term, CONFIG, data)))
        store.append(fate.group, entries, (term, here, last), last)
    while (flush := store.take_flush()) is not None:
        flush.run()
        store.done(flush)


def _control(index: int, term: int, body: bytes, at_us: int) -> Entry:
    batch = control_batch(body)
    stamp(batch, Kind.CONTROL, index, term, 0, 0, at_us)
    return Entry(index, term, Kind.CONTROL, batch)


def _commands(
    machine: MetadataMachine, fates: Sequence[Fate], here: int, index: int
) -> list[bytes]:
    """What the metadata is told; the first command will have that index."""
    gone = [node for node in machine.members if node != here]
    found: list[Command] = [SetNodeState(node=node, state=REMOVED, force=True) for node in gone]
    for fate in fates:  # who was about to go on alone elsewhere is gone by then
        place = machine.locate(fate.group)
        if place is None or fate.outcome == LOST:
            continue
        partition = place[0].partitions[place[1]]
        revision = partition.revision
        if partition.replicas != [here]:
            revision = index + len(found)
            found.append(ChangeReplicas(group=fate.group, replicas=[here]))
        found.append(SettleReplicas(group=fate.group, members=[here], revision=revision))
    return [encode_command(command) for command in found]
