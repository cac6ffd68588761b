"""What one seed is made of: the size of the group, its limits, and the mix of faults.

Every seed draws its own mix ("swarm testing"): some never lose a message but crash leaders all
the time, others have slow disks and a calm network. A mix that has a bit of everything finds less.
"""

import random
from dataclasses import dataclass, replace
from typing import Final

from penstock_broker.raft import Options

TICK: Final = 10
"""Length of a tick, in the world's units of time."""

FAULTS: Final = (
    "crash",
    "crash_leader",
    "cut_one_way",
    "isolate",
    "isolate_leader",
    "split",
    "heal",
    "pause",
    "slow_disk",
    "transfer",
    "compact",
    "campaign",
)


@dataclass(frozen=True, slots=True)
class Swarm:
    """The mix of one seed; times in units of which a tick has `TICK`."""

    voters: int
    spares: int
    options: Options
    drop: float
    duplicate: float
    delay_max: int
    disk_delay_max: int
    restart_delay_max: int
    batch: float
    """Chance that a node does not look at its work at once, but with the next event."""
    assassinate: float
    """Chance that a new leader is crashed soon."""
    strand: float
    """Chance that a new leader is cut off before it says anything."""
    ambush: float
    """Chance that a leader is crashed as it commits, before it says so."""
    fault_interval: int
    weights: tuple[float, ...]
    propose_interval: int
    burst_max: int
    read_interval: int
    """Between two reads; 0 for none."""
    change_interval: int
    """Between two changes of the members; 0 for none."""
    duration: int


def swarm_of(rng: random.Random) -> Swarm:
    """Draw a mix."""
    if rng.random() < 0.12:
        return figure_8(rng)
    voters = rng.choice((1, 3, 3, 3, 5, 5))
    pre_vote = rng.random() < 0.85
    check_quorum = rng.random() < 0.8
    weights = [rng.choice((0.0, 1.0, 1.0, 3.0)) for _ in FAULTS]
    for name in ("heal", "transfer", "compact"):  # they need company to matter
        weights[FAULTS.index(name)] *= 2.0
    weights[FAULTS.index("heal")] += 1.0
    polite = pre_vote and check_quorum  # else a removed voter may disturb the others for ever
    options = _options(rng, pre_vote=pre_vote, check_quorum=check_quorum)
    return Swarm(
        voters=voters,
        spares=rng.choice((1, 2)),
        options=options,
        drop=rng.choice((0.0, 0.0, 0.02, 0.1, 0.25)),
        duplicate=rng.choice((0.0, 0.05, 0.2)),
        delay_max=rng.choice((2, 8, 20, 60)),
        disk_delay_max=rng.choice((1, 4, 20, 60)),
        restart_delay_max=rng.choice((20, 100, 300)),
        batch=rng.choice((0.0, 0.3, 0.7)),
        assassinate=rng.choice((0.0, 0.0, 0.3)),
        strand=rng.choice((0.0, 0.0, 0.2)),
        ambush=rng.choice((0.0, 0.0, 0.05)),
        fault_interval=rng.choice((15, 30, 60, 150)),
        weights=tuple(weights),
        propose_interval=rng.choice((5, 15, 40)),
        burst_max=1 if options.append_entries_max == 1 else rng.choice((1, 5, 40)),
        read_interval=rng.choice((0, 10, 30)),
        change_interval=rng.choice((0, 20, 60)) if polite else 0,
        duration=1200,
    )


def _options(rng: random.Random, *, pre_vote: bool, check_quorum: bool) -> Options:
    return Options(
        election_ticks=rng.choice((4, 8)),
        heartbeat_ticks=rng.choice((1, 2)),
        pre_vote=pre_vote,
        check_quorum=check_quorum,
        external_heartbeats=rng.random() < 0.25,
        eager_commit=rng.random() < 0.6,
        append_entries_max=rng.choice((1, 2, 8, 1024)),
        append_bytes_max=rng.choice((16, 1 << 20)),
        window_messages_max=rng.choice((1, 4, 64)),
        window_bytes_max=rng.choice((64, 4 << 20)),
        committed_max=rng.choice((1, 7, 8192)),
        uncommitted_max=rng.choice((20, 400)),
        reads_max=rng.choice((2, 4096)),
        snapshot_periods=rng.choice((2, 6)),
    )


def figure_8(rng: random.Random) -> Swarm:
    """A mix in which leaders die with entries on a minority, as in figure 8 of the paper.

    Appends carry one entry, so that an old entry can reach a majority before the one that opens
    the new term does.
    """
    options = replace(
        _options(rng, pre_vote=rng.random() < 0.5, check_quorum=True),
        election_ticks=4,
        heartbeat_ticks=1,
        append_entries_max=1,
        window_messages_max=1,
        committed_max=8192,
        uncommitted_max=400,
        eager_commit=True,
    )
    weights = [0.0] * len(FAULTS)
    weights[FAULTS.index("crash_leader")] = 2.0
    weights[FAULTS.index("isolate")] = 1.0
    weights[FAULTS.index("heal")] = 2.0
    return Swarm(
        voters=rng.choice((3, 5, 5)),
        spares=0,
        options=options,
        drop=rng.choice((0.0, 0.1, 0.2)),
        duplicate=0.0,
        delay_max=rng.choice((8, 20, 30)),
        disk_delay_max=rng.choice((1, 4)),
        restart_delay_max=rng.choice((20, 60)),
        batch=0.0,
        assassinate=rng.choice((0.3, 0.8)),
        strand=rng.choice((0.2, 0.5)),
        ambush=rng.choice((0.2, 0.5)),
        fault_interval=rng.choice((40, 80)),
        weights=tuple(weights),
        propose_interval=rng.choice((8, 20)),
        burst_max=1,
        read_interval=0,
        change_interval=0,
        duration=2500,
    )
