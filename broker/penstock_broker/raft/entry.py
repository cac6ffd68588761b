"""The values that a Raft log is made of: entries, hard state, snapshots.

An entry's `data` is opaque. Two kinds are Raft's own (`CONFIG`, `NOOP`); every other kind belongs
to the layers above and is never looked into.
"""

from typing import Final, NamedTuple

from penstock_broker.raft.configuration import Configuration

Data = bytes | bytearray | memoryview

NOBODY: Final = 0
"""No node: node ids are positive."""

CONFIG: Final = 3
"""Kind of an entry that carries an encoded `Configuration`."""

NOOP: Final = 4
"""Kind of the empty entry with which a leader opens its term (Raft 8)."""

RESERVED_KINDS: Final = frozenset((CONFIG, NOOP))
"""Kinds that `propose` refuses. They equal the kinds stamped into batch headers."""


class Entry(NamedTuple):
    """One position of the replicated log."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    term: int
    kind: int
    data: Data


class HardState(NamedTuple):
    """What must survive a crash (Raft figure 2); `commit` may lag, it is found again."""

    term: int = 0
    vote: int = NOBODY
    commit: int = 0


class Snapshot(NamedTuple):
    """The state of the machine after `index`, with the configuration in force there."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    term: int
    configuration: Configuration
    data: object
