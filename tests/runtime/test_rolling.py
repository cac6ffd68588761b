"""A rolling restart: one member after the other, and none while anything is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from penstock.protocol.cluster import ClusterStatusReply, MetadataStatus, NodeStatus
from penstock.testing import cluster
from penstock_broker.runtime.embed import start
from penstock_broker.runtime.rolling import (
    LOOK_SECONDS,
    MEMBER_SECONDS_MAX,
    WELL_LOOKS,
    Rolling,
    complaint,
    trouble,
)


@dataclass
class FakeMember:
    number: int
    starts: int = 1
    code: int | None = None

    @property
    def address(self) -> str:
        return f"member-{self.number}:1"


class Machine:
    """Three members, what they say is wrong, and the time."""

    def __init__(self) -> None:
        self.members = [FakeMember(number) for number in range(3)]
        self.wrong = ""
        self.asked: list[str] = []
        self.now = 100.0
        self.rolling = Rolling(self.members, self.now, self.ask)

    def ask(self, address: str) -> str:
        self.asked.append(address)
        return self.wrong

    def told(self, looks: int = WELL_LOOKS) -> list[int]:
        """Who is told in so many looks."""
        found = []
        for _ in range(looks):
            number = self.rolling.step(self.now)
            found += [] if number is None else [number]
            self.now += LOOK_SECONDS
        return found

    def restart(self, number: int) -> None:
        self.members[number].starts += 1
        self.members[number].code = None


def test_members_are_told_one_after_the_other() -> None:
    machine = Machine()
    for number in range(3):
        assert machine.told() == [number]
        assert machine.told(20) == []  # it has not ended yet
        machine.members[number].code = 0
        assert machine.told(20) == []  # it is not started yet
        machine.restart(number)
    assert not machine.rolling.over
    assert machine.told() == []
    assert machine.rolling.over


def test_nobody_is_told_before_all_has_been_well_for_a_while() -> None:
    machine = Machine()
    machine.wrong = "1 partitions lack a copy"
    assert machine.told(20) == []
    machine.wrong = ""
    assert machine.told(WELL_LOOKS - 1) == []
    machine.wrong = "again"
    assert machine.told(1) == []
    machine.wrong = ""
    assert machine.told(WELL_LOOKS) == [0]


def test_the_member_that_was_restarted_is_asked() -> None:
    machine = Machine()
    assert machine.told() == [0]
    machine.restart(0)
    machine.asked.clear()
    assert machine.told() == [1]
    assert set(machine.asked) == {"member-0:1"}


def test_a_restart_that_never_gets_well_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    assert machine.told() == [0]
    machine.restart(0)
    machine.wrong = "node 3 is not heard of"
    machine.now += MEMBER_SECONDS_MAX
    assert machine.told(1) == []
    assert machine.rolling.over
    assert machine.told(20) == []
    assert "given up" in caplog.text


def test_what_a_broker_says_of_its_cluster() -> None:
    assert "127.0.0.1:9" in complaint("127.0.0.1:9")
    with start(join=["127.0.0.1:9"]) as alone:
        assert complaint(alone.address) == ""  # there is no cluster that could suffer
    with cluster(2) as running:
        first, second = running.address.split(",")
        assert {complaint(first), complaint(second)} <= {"", "8 partitions lack a copy"}
        running.stop(1)
        assert complaint(first)


def test_no_broker_is_restarted_while_the_metadata_counts_on_one_that_is_gone() -> None:
    nodes = [NodeStatus(id=n, address="", host="", state="active", alive=True, answered=True)
             for n in (1, 3, 4)]  # fmt: skip
    metadata = MetadataStatus(leader=1, term=2, voters=[1, 3, 4], learners=[])
    status = ClusterStatusReply(
        cluster="c", node=1, metadata=metadata, nodes=nodes, feature_level=1, feature_max=1,
        partitions=4, leaderless=0, under_replicated=0, moving=0,
    )  # fmt: skip
    assert trouble(status) == ""
    counts = replace(status, metadata=replace(metadata, voters=[1, 2, 3]))
    assert trouble(counts) == "the metadata counts on node 2, which is gone"
