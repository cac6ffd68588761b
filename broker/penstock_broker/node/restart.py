"""From what the store recovered to a Raft node.

A group's checkpoint blob holds the configuration in force at its applied index beside the machine's
state. Entries above it come from the WAL; Raft's own entries are unwrapped from their batches.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random
from typing import Final

from penstock.protocol.batch import control_body
from penstock_broker.raft import Configuration, Entry, HardState, Options, Raft
from penstock_broker.raft.entry import RESERVED_KINDS
from penstock_broker.storage import RecoveredGroup, StoredEntry

_HEAD: Final = struct.Struct("<I")
OPTIONS: Final = Options(
    committed_max=4096, external_heartbeats=True, eager_commit=False, uncommitted_max=1 << 40
)
"""Heartbeats go by peer, not by group; what waits for its commit is limited by who proposes."""
METADATA_OPTIONS: Final = replace(OPTIONS, eager_commit=True)
"""Metadata changes seldom, and all nodes wait for it."""


def pack_blob(configuration: Configuration, machine: bytes) -> bytes:
    """A checkpoint blob: the configuration and the machine's state."""
    encoded = configuration.encode()
    return _HEAD.pack(len(encoded)) + encoded + machine


def unpack_blob(blob: bytes) -> tuple[Configuration, bytes]:
    """The two parts of a checkpoint blob."""
    (length,) = _HEAD.unpack_from(blob)
    at = _HEAD.size + length
    return Configuration.decode(blob[_HEAD.size : at]), blob[at:]


def make_raft(
    node_id: int,
    rng: Random,
    voters: list[int],
    recovered: RecoveredGroup | None,
    options: Options = OPTIONS,
) -> tuple[Raft, bytes | None]:
    """Build the Raft node of a group; returns it with the machine's state, if there is one.

    Without voters it waits for a leader to tell who takes part.
    """
    if recovered is not None and recovered.emptied:
        voters = []  # it is no founder any more
    configuration, state = Configuration.of(voters) if voters else Configuration(), None
    if recovered is None:
        raft = Raft(node_id, randomness=rng, configuration=configuration, options=options)
        return raft, None
    if recovered.blob is not None:
        configuration, state = unpack_blob(recovered.blob)
    raft = Raft(
        node_id,
        randomness=rng,
        configuration=configuration,
        options=options,
        hard_state=HardState(*recovered.hard_state),
        base=(recovered.applied_index, recovered.applied_term),
        entries=[_unwrapped(entry) for entry in recovered.entries],
        applied=recovered.applied_index,
        promised=recovered.promised,
    )
    return raft, state


def _unwrapped(entry: StoredEntry) -> Entry:
    if entry.kind in RESERVED_KINDS:
        return Entry(entry.index, entry.term, entry.kind, control_body(entry.data))
    return Entry(*entry)
