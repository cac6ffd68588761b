"""What has gone wrong in other systems' groups, played on purpose; tests/README.md lists all."""

from __future__ import annotations

import pytest

from penstock_broker.machine.commands import Leave, Trim
from penstock_broker.machine.sharing import ops
from tests.machine.coordinator import Coordinator
from tests.machine.sharing.sample import Partition


def test_a_partition_that_comes_back_before_it_was_released_keeps_its_owner() -> None:
    """Kafka 15212: asked to release, then given the same again, its owner was forgotten."""
    coordinator = Coordinator()
    coordinator.join("a")
    coordinator.join("b")
    assert coordinator.heartbeat("a", 1).revoked == {"orders": [2, 3]}
    coordinator.apply(Leave(group="billing", member="b"))
    assert coordinator.heartbeat("a", 2).owned == {"orders": [0, 1, 2, 3]}
    coordinator.join("c")
    assert coordinator.heartbeat("c", 4).owned == {}
    revoked = coordinator.heartbeat("a", 4).revoked["orders"]
    coordinator.release("a", coordinator.generation, *revoked)
    assert coordinator.heartbeat("c", 4).owned == {"orders": revoked}
    assert not set(coordinator.heartbeat("a", 4).owned["orders"]) & set(revoked)


def test_a_timeout_that_comes_after_the_ack_takes_nothing_back() -> None:
    """Kafka 20286: a timer that was under way when it was cancelled freed what was acknowledged."""
    partition = Partition()
    lease = partition.grant(0, 3)
    partition.wait(31)
    partition.ack(lease, 0, 2)
    partition.expire(lease)
    assert partition.group.start == 2
    assert partition.state(2) == "DELAYED"
    assert partition.group.counters.timed_out == 1
    assert partition.group.window.runs(0) == []


@pytest.mark.parametrize("verdict", [ops.ACK, ops.NACK, ops.REJECT, ops.RELEASE])
def test_no_verdict_that_comes_after_a_trim_brings_a_record_back(verdict: int) -> None:
    """Kafka 20286: the answer to a write that was under way undid what a trim had settled."""
    partition = Partition()
    lease = partition.grant(0, 4)
    partition.apply(Trim(offset=3))
    assert partition.group.start == 3
    partition.settle(lease, verdict, 0, 4)
    partition.wait(31)
    partition.expire(lease)
    assert partition.group.start >= 3
    assert not partition.group.leases
    assert all(first >= 3 for first, _ in partition.group.window.runs(0))
    assert not any(offset < 3 for offset in range(3) if offset in partition.group.troubles)


def test_a_record_that_is_released_and_granted_at_once_runs_out_under_its_new_lease() -> None:
    """Kafka 17965: granted again while its release was under way, its time never ended."""
    partition = Partition()
    first = partition.grant(0, 1)
    partition.settle(first, ops.RELEASE, 0, 1)
    second = partition.grant(0, 1, member="bob")
    partition.wait(31)
    partition.expire(first)
    assert partition.state(0) == "LEASED"
    partition.expire(second)
    assert partition.state(0) == "DELAYED"
    assert partition.group.attempts(0)[2] == 1


def test_an_ack_of_what_nobody_knows_to_be_delivered_skips_nothing_before_it() -> None:
    """NATS 6469: the new leader took an ack for a sign that all before it had been delivered."""
    partition = Partition()
    partition.ack(77, 3, 1)
    group = partition.group
    assert group.start == 0
    assert group.window.runs(0) == [(0, 3)]
    assert (
        partition.op(ops.Grant("g", 5, "bob", "host", [0, 3, 4, 2], partition.now_us)) is not None
    )
    assert [partition.state(offset) for offset in range(6)] == [
        *["LEASED"] * 3,
        "DONE",
        *["LEASED"] * 2,
    ]
