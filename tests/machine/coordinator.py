"""A coordinator of ordered groups in two replicas, and the topics that its groups use."""

from __future__ import annotations

from typing import Any

from penstock_broker.machine.commands import Commit, Join, Release, Seek, TopicRef
from penstock_broker.machine.group_views import MemberView
from penstock_broker.machine.groups import GroupsMachine
from tests.machine.replicas import Replicas

ORDERS = TopicRef(name="orders", id="orders-1", partitions=4, revision=10)
GONE = TopicRef(name="orders", id="orders-1", partitions=0, revision=11)
ANEW = TopicRef(name="orders", id="orders-2", partitions=4, revision=12)
MORE = TopicRef(name="orders", id="orders-1", partitions=6, revision=13)


class Coordinator(Replicas[GroupsMachine]):
    """Speaks for the members of the group `billing`."""

    def __init__(self) -> None:
        super().__init__(GroupsMachine)

    def join(self, member: str, refs: list[TopicRef] | None = None, **more: Any) -> Any:
        fields: dict[str, Any] = {"group": "billing", "topics": ["orders"]}
        fields |= {"session_timeout_ms": 10_000, **more}
        refs = [ORDERS] if refs is None else refs
        return self.apply(Join(member=member, refs=refs, **fields))

    def release(self, member: str, generation: int, *partitions: int) -> Any:
        released = {"orders": list(partitions)}
        return self.apply(
            Release(group="billing", member=member, generation=generation, partitions=released)
        )

    def heartbeat(self, member: str, generation: int) -> MemberView:
        view = self.machine.heartbeat("billing", member, generation)
        assert isinstance(view, MemberView), view
        return view

    @property
    def generation(self) -> int:
        found = self.machine.describe("billing")
        assert found is not None
        return found.generation

    def positions(self, topic: str = "orders") -> dict[int, int]:
        found = self.machine.describe("billing")
        assert found is not None
        return {p: offset for p, (offset, _) in found.positions.get(topic, {}).items()}


def commit(member: str, generation: int, offsets: dict[int, int]) -> Commit:
    return Commit(
        group="billing", member=member, generation=generation, offsets={"orders": offsets}
    )


def seek(positions: dict[int, int], topic: TopicRef = ORDERS) -> Seek:
    return Seek(group="billing", topic=topic, positions=positions)
