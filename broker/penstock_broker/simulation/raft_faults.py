"""What goes wrong in a simulated Raft group: each fault is one function over the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock_broker.raft import Raft, Refused
from penstock_broker.simulation.raft_swarm import FAULTS, TICK

if TYPE_CHECKING:
    from penstock_broker.simulation.raft_world import Host, World

Fault = Callable[["World", "Host"], None]


def strike(world: World) -> None:
    """Let one thing go wrong, and come again."""
    if world.calm:
        return
    interval = world.swarm.fault_interval
    world.later(1 + world.rng.randrange(2 * interval), strike, world)
    (name,) = world.rng.choices(FAULTS, world.swarm.weights)
    host = world.rng.choice(list(world.hosts.values()))
    world.counts.faults += 1
    _FAULTS[name](world, host)


def stop_all(world: World) -> None:
    """Heal what is cut, start what is down, and let disks be quick."""
    world.cuts.clear()
    for host in world.hosts.values():
        host.paused_until = 0
        host.disk.slowness = 1
        world.start(host)


def _crash(world: World, host: Host) -> None:
    world.crash(host)


def _leader(world: World) -> Host | None:
    for host in world.hosts.values():
        if host.raft is not None and host.raft.is_leader:
            return host
    return None


def _crash_leader(world: World, _: Host) -> None:
    leader = _leader(world)
    if leader is not None:
        world.crash(leader)


def _cut_one_way(world: World, host: Host) -> None:
    for node in world.hosts:
        if node != host.id and world.rng.random() < 0.5:
            link = (node, host.id) if world.rng.random() < 0.5 else (host.id, node)
            world.cuts[link] = None


def _isolate(world: World, host: Host) -> None:
    for node in world.hosts:
        if node != host.id:
            world.cuts[node, host.id] = world.cuts[host.id, node] = None


def _isolate_leader(world: World, _: Host) -> None:
    leader = _leader(world)
    if leader is not None:
        _isolate(world, leader)


def _split(world: World, _: Host) -> None:
    world.cuts.clear()
    side = {node: world.rng.random() < 0.5 for node in world.hosts}
    for one in world.hosts:
        for other in world.hosts:
            if side[one] and not side[other]:
                world.cuts[one, other] = world.cuts[other, one] = None


def _heal(world: World, _: Host) -> None:
    world.cuts.clear()


def _pause(world: World, host: Host) -> None:
    host.paused_until = world.now + world.rng.randrange(
        3 * TICK * world.swarm.options.election_ticks
    )


def _slow_disk(world: World, host: Host) -> None:
    host.disk.slowness = world.rng.choice((1, 10, 40))


def _transfer(world: World, host: Host) -> None:
    for leader in world.hosts.values():
        if leader.raft is not None and leader.raft.is_leader:
            try:
                leader.raft.transfer(host.id)
            except Refused:
                continue
            world.counts.transfers += 1
            world.touch(leader)


def _compact(world: World, one: Host) -> None:
    everywhere = world.rng.random() < 0.5
    for host in list(world.hosts.values()):
        if host.raft is not None and (everywhere or host is one):
            _compact_host(world, host, host.raft)


def _compact_host(world: World, host: Host, raft: Raft) -> None:
    log = raft.log
    top = min(log.handed, log.durable)
    if top <= log.base_index:
        return
    keep = world.rng.randrange(top - log.base_index) if world.rng.random() < 0.5 else 0
    index = top - keep
    term, configuration = log.term_at(index), raft.history.at(index)
    host.disk.compact(index, term, configuration, world.checker.machines[index])
    raft.compact(index)
    world.touch(host)


def _campaign(world: World, host: Host) -> None:
    if host.raft is not None:
        host.raft.campaign()
        world.touch(host)


_FAULTS: dict[str, Fault] = {
    "crash": _crash,
    "crash_leader": _crash_leader,
    "cut_one_way": _cut_one_way,
    "isolate": _isolate,
    "isolate_leader": _isolate_leader,
    "split": _split,
    "heal": _heal,
    "pause": _pause,
    "slow_disk": _slow_disk,
    "transfer": _transfer,
    "compact": _compact,
    "campaign": _campaign,
}
