"""A node with a topic and a shared group, and a member that can do without frames."""

from __future__ import annotations

import json
from typing import Any

from penstock.protocol.records import Record
from penstock.protocol.sharing import CreateGroup
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.ops import ACK, NACK, REJECT, Grant, Redrive, Settle, ShareOp
from penstock_broker.node.partition import PartitionGroup
from tests.node.harness import Harness
from tests.node.sharing.reading import records_of

DEAD = "dead.orders.billing"


class Works:
    """The topic `orders` with the group `billing`."""

    def __init__(self, config: dict[str, Any] | None = None, **settings: Any) -> None:
        self.node = Harness()
        self.gids = self.node.topic(**config or {})
        self.gid = self.gids[0]
        ask = CreateGroup(topic="orders", group="billing", settings=settings)
        self.node.client().ask(ask)
        self.node.pump()
        self.lease = 0

    @property
    def partition(self) -> PartitionGroup:
        return self.node.node.partitions[self.gid]

    def place(self, topic: str, partition: int = 0) -> PartitionGroup:
        found = self.node.node.groups.find(topic, partition)
        assert found is not None
        return found

    @property
    def dead(self) -> PartitionGroup:
        return self.place(DEAD)

    def group_of(self, partition: PartitionGroup, name: str = "billing") -> SharedGroup:
        return partition.machine.sharing.groups[name]

    @property
    def group(self) -> SharedGroup:
        return self.group_of(self.partition)

    def offer(self, op: ShareOp, partition: PartitionGroup | None = None) -> Any:
        """Have an op applied; returns its reply."""
        replies: list[Any] = []
        (partition or self.partition).shared.offer(op, replies.append)
        self.node.pump()
        return replies[0]

    def publish(self, count: int, **batch: Any) -> None:
        """Publish so many records, in one batch."""
        self.node.client().publish(self.gid, *(b"v%d" % n for n in range(count)), **batch)

    def grant(self, *spans: int, partition: PartitionGroup | None = None, lease_s: int = 30) -> int:
        """Lease records to the member `m`."""
        self.lease += 1
        lease = (1 << 40) + self.lease
        deadline = self.node.wall_us + lease_s * 1_000_000
        op = Grant(group="billing", lease=lease, member="m", host="h", spans=list(spans),
                   deadline_us=deadline)  # fmt: skip
        self.offer(op, partition)
        return lease

    def settle(
        self,
        verdict: int,
        *spans: int,
        lease: int = 0,
        partition: PartitionGroup | None = None,
        **fields: Any,
    ) -> Any:
        """Pass a verdict on records under the last lease."""
        lease = lease or (1 << 40) + self.lease
        op = Settle(group="billing", lease=lease, verdict=verdict, spans=list(spans), **fields)
        return self.offer(op, partition)

    def kill(self, *spans: int, reason: str = "poison", error: str = "boom") -> None:
        """Have records rejected: they become dead letters."""
        self.grant(*spans)
        self.settle(REJECT, *spans, reason=reason, error=error)

    def ack(self, *spans: int) -> None:
        self.grant(*spans)
        self.settle(ACK, *spans)

    def nack(self, *spans: int, **fields: Any) -> None:
        self.grant(*spans)
        self.settle(NACK, *spans, **fields)

    def redrive(self, *spans: int, force: bool = False) -> Any:
        return self.offer(Redrive(group="billing", spans=list(spans), force=force), self.dead)

    def dead_letters(self) -> list[Record]:
        return records_of(self.node, self.dead.gid)

    def stories(self) -> list[dict[str, Any]]:
        return [json.loads(record.headers["penstock-dead"]) for record in self.dead_letters()]
