"""A partition with one shared group, in two replicas, as the tests of single rules need it."""

from __future__ import annotations

from typing import Any

from penstock_broker.machine.commands import Command, ConfigureShared, ShareOps
from penstock_broker.machine.effects import Effect
from penstock_broker.machine.partition import PartitionMachine
from penstock_broker.machine.sharing import ops
from penstock_broker.machine.sharing.group import SharedGroup
from penstock_broker.machine.sharing.settings import parse
from penstock_broker.machine.sharing.state import NAMES
from tests.machine.replicas import SECOND, Replicas

LEASE = 30 * SECOND


class Partition(Replicas[PartitionMachine]):
    """The group `g` (of a kind, with settings) on a log of 100 records."""

    def __init__(self, kind: str = "shared", records: int = 100, **settings: Any) -> None:
        super().__init__(PartitionMachine)
        self.append(records if kind == "shared" else 0)
        self.settings = {"jitter": "none", **settings}
        self.configure(kind=kind)
        if kind != "shared":
            self.append(records)
        self.lease = 0

    @property
    def group(self) -> SharedGroup:
        return self.machine.sharing.groups["g"]

    def configure(self, revision: int = 1, kind: str = "shared", **more: Any) -> Any:
        fields: dict[str, Any] = {"start_offset": 0, "dead": 77, "id": "g-1", **more}
        settings = parse(self.settings)
        return self.apply(
            ConfigureShared(group="g", revision=revision, settings=settings, kind=kind, **fields)
        )

    def append(self, count: int) -> None:
        first = self.machine.end_offset
        self.index += 1
        self.machine.apply_appended((count, 0, 0, 0, 0), self.index, first, self.now_us, b"")

    def op(self, op: ops.ShareOp) -> Any:
        (reply,) = self.apply(ShareOps(ops=[op])).replies
        return reply

    def grant(self, *spans: int, member: str = "ann", lease_us: int = LEASE) -> int:
        """The new lease's id."""
        self.lease += 1
        self.op(ops.Grant("g", self.lease, member, "host", list(spans), self.now_us + lease_us))
        return self.lease

    def settle(self, lease: int, verdict: int, *spans: int, **more: Any) -> Any:
        return self.op(ops.Settle("g", lease, verdict, list(spans), **more))

    def ack(self, lease: int, *spans: int) -> Any:
        return self.settle(lease, ops.ACK, *spans)

    def nack(self, lease: int, *spans: int, **more: Any) -> Any:
        return self.settle(lease, ops.NACK, *spans, **more)

    def expire(self, *leases: int) -> Any:
        return self.op(ops.Expire("g", list(leases)))

    def state(self, offset: int) -> str:
        return NAMES[self.group.window.state(offset)]

    def wait(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND)

    def told(self, kind: type[Effect]) -> Any:
        (effect,) = self.effects_of(kind)
        return effect

    def command(self, command: Command) -> Any:
        return self.apply(command)
