"""What one seed is made of: the size of the group, its limits, and the mix of faults.

Every seed draws its own mix ("swarm testing"): some never lose a message but crash leaders all
the time, others have slow disks and a calm network. A mix that has a bit of everything finds less.
"""

import random
from collections.abc import Callable
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
    change_by_one: bool
    """Change one voter at a time, or any number."""
    duration: int


Mix = Callable[[random.Random], Swarm]


def any_mix(rng: random.Random) -> Swarm:
    """Draw a mix: of anything, or one of those that look for a certain kind of trouble."""
    return rng.choices((anything, figure_8, deposed, churn), (14, 2, 2, 2))[0](rng)


def anything(rng: random.Random) -> Swarm:
    """A mix of anything, most of it often left out."""
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
        disk_delay_max=rng.choice((1, 4, 20, 60, 150)),
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
        change_by_one=False,
        duration=1200,
    )


def _weights(**chosen: float) -> tuple[float, ...]:
    return tuple(chosen.get(name, 0.0) for name in FAULTS)


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
    """Leaders die with entries on a minority, as in figure 8 of the paper.

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
        eager_commit=True,
    )
    return replace(
        anything(rng),
        voters=rng.choice((3, 5, 5)),
        spares=0,
        options=options,
        drop=0.0,
        duplicate=0.0,
        delay_max=20,
        disk_delay_max=rng.choice((1, 4)),
        restart_delay_max=20,
        batch=0.0,
        assassinate=0.6,
        strand=rng.choice((0.5, 0.7)),
        ambush=rng.choice((0.8, 1.0)),
        fault_interval=rng.choice((40, 80)),
        weights=_weights(crash_leader=2.0, isolate=1.0, heal=2.0),
        propose_interval=rng.choice((8, 20)),
        burst_max=1,
        read_interval=0,
        change_interval=0,
        duration=2500,
    )


def deposed(rng: random.Random) -> Swarm:
    """Leaders are cut off and replaced, do not notice, go on, and come back; disks are slow."""
    options = replace(
        _options(rng, pre_vote=True, check_quorum=False), election_ticks=4, heartbeat_ticks=1
    )
    return replace(
        anything(rng),
        voters=rng.choice((3, 5)),
        options=options,
        drop=0.0,
        delay_max=rng.choice((2, 8)),
        disk_delay_max=rng.choice((1, 20, 150)),
        batch=0.0,
        assassinate=0.0,
        strand=0.0,
        ambush=0.0,
        fault_interval=rng.choice((60, 100)),
        weights=_weights(isolate_leader=2.0, heal=1.0),
        propose_interval=rng.choice((3, 8)),
        burst_max=1,
        read_interval=5,
        change_interval=0,
        duration=2000,
    )


def churn(rng: random.Random) -> Swarm:
    """Voters come and go one by one while leaders are cut off."""
    options = replace(
        _options(rng, pre_vote=True, check_quorum=True), election_ticks=4, heartbeat_ticks=1
    )
    return replace(
        anything(rng),
        voters=rng.choice((3, 4)),
        spares=2,
        options=options,
        drop=rng.choice((0.0, 0.2)),
        delay_max=8,
        disk_delay_max=rng.choice((1, 4)),
        batch=0.0,
        assassinate=0.0,
        strand=0.0,
        ambush=0.0,
        fault_interval=rng.choice((30, 50)),
        weights=_weights(split=4.0, heal=1.0, isolate_leader=1.0),
        propose_interval=40,
        burst_max=1,
        read_interval=0,
        change_interval=rng.choice((2, 5)),
        change_by_one=rng.random() < 0.5,
        duration=2000,
    )


MIXES: dict[str, Mix] = {
    "any": any_mix,
    "anything": anything,
    "churn": churn,
    "deposed": deposed,
    "figure-8": figure_8,
}
