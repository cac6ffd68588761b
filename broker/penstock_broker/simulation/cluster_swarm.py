"""What one seed of the cluster's world is like: how big, how busy, and what goes wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from penstock_broker.storage import StorageConfig

FAULTS: Final = (
    "kill", "power", "kill-all", "power-all", "pause", "cut", "cut-one-way", "isolate", "split",
    "slow-link", "break", "slow-disk", "bad-disk", "full-disk", "clock", "crash-leader",
    "pause-leader", "strand-leader", "wipe", "failpoint",
)  # fmt: skip
LONELY: Final = frozenset((
    "kill", "power", "pause", "break", "slow-disk", "bad-disk", "full-disk", "clock", "failpoint",
))  # fmt: skip
"""Those that a cluster of one can have."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """Drawn from the seed; times are seconds."""

    nodes: int
    hosts_of: tuple[str, ...]
    """Label of each node's machine."""
    partitions: int
    producers: int
    publishes: float
    """Of one producer, a second."""
    members: int
    faults: tuple[str, ...]
    """Kinds of fault that this seed has."""
    fault_every: float
    disk_crash: float
    """Probability that a job of the disk is the end of its process."""
    client_break: float
    """Probability that a request of a client breaks its connection."""
    disk_delay: float
    operate_every: float
    """0: nobody operates the cluster."""
    dead_after_ms: int
    storage: StorageConfig
    shared: int
    """Members of a shared group; 0: there is none."""
    by_key: bool
    attempts_max: int
    lease_seconds: float
    strict: str
    topics: bool
    """Whether topics come and go."""
    delays: bool
    """Whether records are published for later, and by a schedule."""
    pairs: bool = False
    """Whether a topic with two copies loses one for ever, now and then."""


def draw(random: Random, nodes: int) -> Swarm:
    """Draw what one seed is like."""
    pick = random.choice
    kinds = [kind for kind in FAULTS if nodes > 1 or kind in LONELY]
    # Swarm testing: each seed has some kinds of fault only, so that none hides another.
    chosen = random.sample(kinds, random.randint(1, min(len(kinds), 8)))
    # Each record of a shared group is several commands: there are fewer of them.
    shared = pick((0, 0, 1, 2))
    drawn = Swarm(
        nodes=nodes,
        hosts_of=tuple(f"machine{1 + at % pick((nodes, nodes, 3))}" for at in range(nodes)),
        partitions=2,
        producers=pick((1, 2)),
        publishes=pick((1.0, 2.0, 4.0) if shared else (4.0, 10.0, 30.0)),
        members=pick((0, 1, 3)),
        faults=tuple(sorted(chosen)),
        fault_every=pick((0.5, 1.5, 4.0)),
        disk_crash=pick((0.0, 0.0, 0.003)),
        client_break=pick((0.0, 0.002, 0.01)),
        disk_delay=pick((0.0002, 0.001, 0.01)),
        operate_every=pick((0.0, 0.0, 1.0, 4.0)) if nodes > 1 else 0.0,
        dead_after_ms=pick((3_000, 10_000)),
        storage=StorageConfig(
            wal_file_bytes=pick((64 << 10, 256 << 10)),
            segment_bytes=pick((8 << 10, 64 << 10)),
            tail_bytes_max=pick((4 << 10, 1 << 20)),
            write_bytes=pick((1 << 10, 64 << 10)),
            index_interval_bytes=1024,
            checkpoint_rewrite_bytes=16 << 10,
            reserve_bytes=0,
        ),
        shared=shared,
        by_key=pick((False, True)),
        attempts_max=pick((2, 4)),
        lease_seconds=pick((1.0, 1.5)),
        strict=pick(("no", "yes")),
        topics=pick((False, True)),
        delays=pick((False, False, True)),
    )
    return replace(drawn, pairs=nodes > 2 and not drawn.shared and not drawn.delays)
