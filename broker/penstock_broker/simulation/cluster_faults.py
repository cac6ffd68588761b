"""What goes wrong in the cluster's world: one fault at a time strikes, and ends after a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from penstock_broker.failpoints import Rule, points
from penstock_broker.simulation.cluster_network import OUTSIDE
from penstock_broker.simulation.disk import DiskFaults, SimDisk

POINTS: Final = points()

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_host import Host
    from penstock_broker.simulation.cluster_world import ClusterWorld


def strike(world: ClusterWorld) -> None:
    """Let something go wrong, and come again."""
    if not world.faulty:
        return
    world.after(world.random.expovariate(1 / world.swarm.fault_every), lambda: strike(world))
    kind = world.random.choice(world.swarm.faults)
    world.counts.faults[kind] += 1
    KINDS[kind](world)


def stop_all(world: ClusterWorld) -> None:
    """Everything that went wrong is over; who is down comes up."""
    world.network.heal()
    for host in world.hosts:
        _mend(host)
        host.paused_until = host.stops_for = 0.0
        host.disk.crash_at = None


def _mend(host: Host) -> None:
    host.disk.faults = DiskFaults()
    host.disk.capacity = 1 << 40
    host.disk_delay = host.world.swarm.disk_delay


def _any(world: ClusterWorld) -> Host:
    return world.random.choice(world.hosts)


def _while(world: ClusterWorld) -> float:
    """How long something lasts: a blink, about an election, or long."""
    return world.random.expovariate(1 / world.random.choice((0.2, 1.5, 5.0)))


# ----- processes and machines


def _kill(world: ClusterWorld, *, power: bool = False) -> None:
    host = _any(world)
    if host.node is not None:
        host.died(power=power, down=_while(world))


def _kill_all(world: ClusterWorld, *, power: bool = False) -> None:
    for host in world.hosts:
        if host.node is not None:
            host.died(power=power)


def _crash_leader(world: ClusterWorld) -> None:
    host = world.leader_of(world.random.choice(world.gids))
    if host is not None:
        host.died(power=world.random.random() < 0.5, down=_while(world))


def _pause(world: ClusterWorld) -> None:
    host = _any(world)
    host.paused_until = max(host.paused_until, world.now + _while(world))


def _pause_leader(world: ClusterWorld) -> None:
    """Long enough that another one is elected meanwhile; between two rounds, or inside one."""
    host = world.leader_of(world.random.choice(world.gids))
    if host is not None:
        seconds = world.random.uniform(1.0, 6.0)
        if world.random.random() < 0.5:
            host.stops_for = seconds
        else:
            host.paused_until = max(host.paused_until, world.now + seconds)


def _strand_leader(world: ClusterWorld) -> None:
    """A leader is cut off from the other brokers; clients reach it."""
    host = world.leader_of(world.random.choice(world.gids))
    if host is not None:
        others = [other.number for other in world.hosts if other is not host]
        ways = [(host.number, other) for other in others]
        _cut(world, ways + [(other, one) for one, other in ways])


def _wipe(world: ClusterWorld) -> None:
    """A disk is replaced by an empty one, when all replicas were whole: one loss at a time."""
    if world.waits_for_replicas():
        return
    host = _any(world)
    assert host.node is not None
    host.died(power=True, down=_while(world))
    host.wipe(SimDisk(world.random.getrandbits(32)))


def _jump_clock(world: ClusterWorld) -> None:
    world.clocks_moved = True
    host = _any(world)
    if world.delays is not None:
        world.delays.times.put_back(world.now, host.wall_us)
    host.clock_off_us += int(world.random.uniform(-5e6, 5e6))


def _failpoint(world: ClusterWorld) -> None:
    """The first process that comes to some step dies there."""
    assert world.failpoints is not None
    name = world.random.choice(POINTS)
    later = world.random.choice((1, 1, 2, 10))
    world.failpoints.rules[name] = Rule("crash", count=world.failpoints.reached[name] + later)


# ----- the network


def _cut(world: ClusterWorld, ways: list[tuple[int, int]]) -> None:
    for way in ways:
        world.network.cut(*way)
    world.after(_while(world), partial(world.network.restore, ways))


def _cut_two(world: ClusterWorld) -> None:
    one, other = world.random.sample(range(1, len(world.hosts) + 1), 2)
    _cut(world, [(one, other), (other, one)])


def _cut_one_way(world: ClusterWorld) -> None:
    one, other = world.random.sample(range(1, len(world.hosts) + 1), 2)
    _cut(world, [(one, other)])


def _isolate(world: ClusterWorld) -> None:
    """One host is alone: with its clients, or without, or it is heard and hears nothing."""
    lone = _any(world).number
    others = [host.number for host in world.hosts if host.number != lone]
    others += [OUTSIDE] * (world.random.random() < 0.5)
    inward = [(other, lone) for other in others]
    outward = [(lone, other) for other in others]
    _cut(world, world.random.choice((inward, outward, inward + outward, inward + outward)))


def _split(world: ClusterWorld) -> None:
    numbers = [host.number for host in world.hosts]
    world.random.shuffle(numbers)
    size = world.random.randint(1, len(numbers) - 1)
    ways = [(one, other) for one in numbers[:size] for other in numbers[size:]]
    _cut(world, ways + [(other, one) for one, other in ways])


def _slow_link(world: ClusterWorld) -> None:
    one, other = world.random.sample(range(1, len(world.hosts) + 1), 2)
    world.network.slow[one, other] = world.random.choice((0.01, 0.1, 0.5))

    def over() -> None:
        world.network.slow.pop((one, other), None)

    world.after(_while(world), over)


def _break(world: ClusterWorld) -> None:
    host = _any(world)
    for end in world.network.ends_at(host.number):
        if end.other.place != OUTSIDE and world.random.random() < 0.5:
            world.network.break_one(end)


# ----- disks


def _slow_disk(world: ClusterWorld) -> None:
    host = _any(world)
    host.disk_delay = world.random.choice((0.05, 0.3, 2.0))
    world.after(_while(world), partial(_mend, host))


def _bad_disk(world: ClusterWorld) -> None:
    """The next failing sync or write ends the process."""
    host = _any(world)
    host.disk.faults = DiskFaults(sync_error=0.1, write_error=0.05)
    world.after(_while(world), partial(_mend, host))


def _full_disk(world: ClusterWorld) -> None:
    host = _any(world)
    host.disk.capacity = host.disk.used() + world.random.choice((0, 10_000, 100_000))
    world.after(_while(world), partial(_mend, host))


KINDS: Final[Mapping[str, Callable[[ClusterWorld], None]]] = {
    "kill": _kill,
    "power": partial(_kill, power=True),
    "kill-all": _kill_all,
    "power-all": partial(_kill_all, power=True),
    "crash-leader": _crash_leader,
    "failpoint": _failpoint,
    "pause": _pause,
    "pause-leader": _pause_leader,
    "strand-leader": _strand_leader,
    "clock": _jump_clock,
    "cut": _cut_two,
    "cut-one-way": _cut_one_way,
    "isolate": _isolate,
    "split": _split,
    "slow-link": _slow_link,
    "wipe": _wipe,
    "break": _break,
    "slow-disk": _slow_disk,
    "bad-disk": _bad_disk,
    "full-disk": _full_disk,
}
