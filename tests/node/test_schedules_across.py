"""Schedules and retention floors where the partitions of a topic are led by several nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.errors import PreconditionFailed, ScheduleNotFound, Throttled
from penstock.protocol import messages as m
from penstock.protocol import sharing as s
from penstock.protocol.codec import encode_message
from tests.node.cluster import Cluster
from tests.node.harness import error_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(3)
    made.topic("orders", partitions=6)
    made.advance(3.0)
    yield made
    assert not made.errors


def create(name: str, partition: int = 0, **fields: Any) -> s.CreateSchedule:
    asked: dict[str, Any] = {"cron": "@every 1h", "value": b"v", "topic": "orders", **fields}
    return s.CreateSchedule(name=name, partition=partition, **asked)


def test_any_node_makes_a_schedule_in_any_partition_and_all_list_it(cluster: Cluster) -> None:
    names = []
    for number, member in cluster.members.items():
        for partition in range(6):
            names.append(f"s{number}.{partition}")
            reply = cluster.ask(member.client(), create(names[-1], partition))
            assert reply.schedule.partition == partition
    for member in cluster.members.values():
        found = cluster.ask(member.client(), s.ListSchedules(topic="orders")).schedules
        assert [each.name for each in found] == names


def test_a_name_is_given_once_in_all_partitions(cluster: Cluster) -> None:
    cluster.ask(cluster.members[1].client(), create("only", 3))
    for member in cluster.members.values():
        for partition in (0, 1, 2, 4, 5):
            asked = create("only", partition, replace=True)
            error = error_of(cluster.ask, member.client(), asked)
            assert isinstance(error, PreconditionFailed)
            assert error.detail["partition"] == 3


def test_of_two_that_want_a_name_at_once_one_gets_it(cluster: Cluster) -> None:
    clients = [cluster.members[1].client(), cluster.members[2].client()]
    for partition, client in enumerate(clients):
        client.send(encode_message(create("race", partition + 1), 77))
    cluster.run_until(lambda: all(client.session.out for client in clients))
    outcomes = []
    for client in clients:
        ((frame, data),) = client.take()
        try:
            outcomes.append(client.decode(frame, data).schedule.name)
        except (PreconditionFailed, Throttled) as error:
            outcomes.append(type(error).__name__)
    assert outcomes.count("race") == 1


def test_any_node_pauses_and_deletes_a_schedule_wherever_it_is(cluster: Cluster) -> None:
    for partition, member in enumerate(cluster.members.values()):
        name = f"paused{partition}"
        cluster.ask(member.client(), create(name, partition + 2))
        for other in cluster.members.values():
            asked = s.PauseSchedule(topic="orders", name=name, paused=True)
            assert cluster.ask(other.client(), asked).schedule.paused
        cluster.ask(member.client(), s.DeleteSchedule(topic="orders", name=name))
        for other in cluster.members.values():
            gone = s.DeleteSchedule(topic="orders", name=name)
            assert isinstance(error_of(cluster.ask, other.client(), gone), ScheduleNotFound)


def test_what_a_group_still_needs_is_kept_wherever_the_partition_is_led() -> None:
    cluster = Cluster(3)
    gids = cluster.topic("kept", partitions=6, retention="until_acked")
    client = cluster.members[2].client()
    asked = m.SeekGroup(group="billing", topic="kept", to=-2, create=True)
    cluster.ask(client, asked)

    def floors() -> list[int | None]:
        led = (cluster.leader(gid).node.partitions[gid] for gid in gids)
        return [partition.machine.floor for partition in led]

    cluster.run_until(lambda: floors() == [0] * 6)
    cluster.ask(client, m.DeleteGroup(group="billing"))
    cluster.run_until(lambda: floors() == [None] * 6)
