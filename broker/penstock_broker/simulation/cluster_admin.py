"""An operator of a simulated cluster: moves replicas and leads, drains and removes brokers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from penstock.errors import PenstockError, PreconditionFailed
from penstock.protocol.cluster import MovePartition, SetNodeState, TransferLeader
from penstock.protocol.messages import Message
from penstock_broker.simulation.cluster_clients import Link
from penstock_broker.simulation.disk import SimDisk

if TYPE_CHECKING:
    from penstock_broker.simulation.cluster_world import ClusterWorld

DRAIN_SECONDS: Final = 5.0
REMOVED_SECONDS: Final = 1.0


class Operator:
    """Asks any broker for something, now and then; what is refused is not asked again."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self._drained: set[int] = set()
        self._stopped = False
        self.link = Link(world, self._opened)
        self.link.go()
        self.world.after(self._pause(), self._act)

    def __str__(self) -> str:
        return f"operator who has drained {sorted(self._drained)}"

    @property
    def idle(self) -> bool:
        """Whether no broker is drained."""
        return not self._drained

    def stop(self) -> None:
        """Have every broker take part again."""
        self._stopped = True
        self._restore()

    def _opened(self) -> None:
        """Nothing is asked twice."""

    def _pause(self) -> float:
        return self.world.random.expovariate(1 / self.world.swarm.operate_every)

    def _act(self) -> None:
        if self._stopped:
            return
        world = self.world
        world.after(self._pause(), self._act)
        nodes = sorted({host.node.node_id for host in world.alive if host.node is not None} - {0})
        if len(nodes) == len(world.hosts):
            kinds = (self._move, self._transfer, self._drain, self._remove)
            world.random.choice(kinds)(nodes)

    def _ask(self, message: Message, done: Callable[[], None] = lambda: None) -> None:
        def answered(reply: object) -> None:
            if not isinstance(reply, PenstockError):
                self.world.counts.operations += 1
                done()
            elif isinstance(reply, PreconditionFailed):
                done()  # a wiped disk took the node's place: what was drained is no more

        self.link.ask(message, answered)

    def _partition(self) -> int:
        return self.world.random.randrange(self.world.swarm.partitions)

    def _move(self, nodes: list[int]) -> None:
        replicas = self.world.random.sample(nodes, min(3, len(nodes)))
        self._ask(MovePartition(topic="t", partition=self._partition(), replicas=replicas))

    def _transfer(self, nodes: list[int]) -> None:
        to = self.world.random.choice(nodes)
        self._ask(TransferLeader(topic="t", partition=self._partition(), to=to))

    def _drain(self, nodes: list[int]) -> None:
        if self._drained:
            return
        node = self.world.random.choice(nodes)
        self._drained.add(node)
        self._ask(SetNodeState(node=node, state="draining"))
        self.world.after(self.world.random.expovariate(1 / DRAIN_SECONDS), self._restore)

    def _remove(self, _: list[int]) -> None:
        """End a broker for good in the midst of its work; its machine comes back empty."""
        world = self.world
        if not world.faulty or world.waits_for_replicas():
            return  # one loss at a time
        host = world.random.choice(world.hosts)
        assert host.node is not None
        world.counts.removed += 1
        self._ask(SetNodeState(node=host.node.node_id, state="removed", force=True))
        host.died(power=True, down=world.random.expovariate(1 / REMOVED_SECONDS))
        host.wipe(SimDisk(world.random.getrandbits(32)))

    def _restore(self) -> None:
        """Until it is answered."""
        for node in self._drained:
            self.link.ask(SetNodeState(node=node, state="active"), self._restored)
            self.world.after(1.0, self._restore)
            if not self.link.open:
                self.link.go()

    def _restored(self, reply: object) -> None:
        """It takes part again, or never will: another took the place of one that was wiped."""
        if not isinstance(reply, PenstockError) or not reply.retriable:
            self.world.counts.operations += 1
            self._drained.clear()
