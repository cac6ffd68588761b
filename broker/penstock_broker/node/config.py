"""What a node is told about itself before it starts; it never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from penstock_broker.machine.metadata import FEATURE_LEVEL
from penstock_broker.node.retained import KEPT_BYTES
from penstock_broker.node.sharing.timers import GRAIN_BITS

CATCHING_UP: Final = 0.9
"""How fast time goes while a clock that is behind catches up: it was put back, or the clock of the
last leader was ahead of it."""


@dataclass(frozen=True)
class NodeConfig:
    """What a node is told about itself."""

    address: str
    version: str
    host: str = ""
    """Label of the machine: replicas of a partition keep apart by it."""
    join: Sequence[str] = ()
    """Addresses of brokers to form a cluster with; none: this one is a cluster of its own."""
    node_dead_after_ms: int = 30_000
    """Silence after which a node is taken for dead, and its replicas are made anew elsewhere."""
    feature_max: int = FEATURE_LEVEL
    """The highest feature level that this version knows."""
    kept_bytes: int = KEPT_BYTES
    """Of the applied entries of each group, so many stay in memory in any case."""
    gather_us: int = 0
    """How long a replicated publish may wait for others, microseconds; 0, unless the shell can wait
    so briefly."""
    timer_grain_bits: int = GRAIN_BITS
    """Leases and retries are watched by the 2 ** so many microseconds; 0 for clocks of tests."""
