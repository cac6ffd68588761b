"""Requests that another node does not answer: told so in time, and never carried out twice."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import (
    BadRequest,
    LeaderUnknown,
    NotLeader,
    PenstockError,
    RemoteProtocolError,
    Throttled,
    TimedOut,
    TopicNotFound,
)
from penstock.protocol import frames
from penstock.protocol import messages as m
from penstock.protocol import sharing as s
from penstock.protocol.codec import encode_message
from penstock.protocol.leases import ACQUIRE
from penstock_broker.machine.commands import DeleteTopic
from penstock_broker.machine.topology import TopicDeleted
from penstock_broker.node import relay
from penstock_broker.node.deliveries import DELIVER
from penstock_broker.node.peers.frames import RELAY, RELAYED, checked_frame
from penstock_broker.node.questions import MetadataIndex, Propose
from penstock_broker.node.relay import ANSWER_SECONDS_MAX
from tests.node.cluster import Cluster, Member
from tests.node.harness import Client


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(3)
    made.topic("orders", partitions=6)
    made.advance(2.0)
    return made


def follower(cluster: Cluster) -> Member:
    leader = cluster.leader(0)
    return next(member for member in cluster.alive if member is not leader)


def sent(member: Member, message: m.Message) -> Client:
    """A request under way: nothing is pumped after it."""
    client = member.client()
    client.send(encode_message(message, 7))
    return client


def both_sent(member: Member, message: m.Message) -> list[Client]:
    """A request of each of two clients, under way together."""
    clients = [member.client(), member.client()]
    for client in clients:
        client.send(encode_message(message, 7))
    return clients


def outcome(client: Client) -> Any:
    ((frame, data),) = client.take()
    assert frame.correlation == 7
    try:
        return client.decode(frame, data)
    except PenstockError as error:
        return error


def test_a_node_that_dies_with_a_request_leaves_the_outcome_open(cluster: Cluster) -> None:
    here, leader = follower(cluster), cluster.leader(0)
    client = sent(here, m.CreateTopic(name="new"))
    here.work()
    cluster.kill(leader.number)
    cluster.run_until(lambda: client.session.out)
    assert isinstance(outcome(client), TimedOut)
    assert not here.node.relay


def test_a_node_that_says_nothing_is_not_waited_for_for_ever(cluster: Cluster) -> None:
    here, leader = follower(cluster), cluster.leader(0)
    cluster.cut(here.number, leader.number)
    client = sent(here, m.CreateTopic(name="new"))
    begun = cluster.clock
    cluster.run_until(lambda: client.session.out, ANSWER_SECONDS_MAX + 2)
    assert isinstance(outcome(client), TimedOut)
    assert cluster.clock - begun <= ANSWER_SECONDS_MAX + 1


def test_what_was_never_sent_may_be_asked_again(cluster: Cluster) -> None:
    here = follower(cluster)
    for line in [line for peer in here.node.peers.all().values() for line in peer.lines]:
        line.up = False
    client = sent(here, m.CreateTopic(name="new"))
    assert isinstance(outcome(client), LeaderUnknown)


def test_requests_to_others_have_a_limit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "UNDER_WAY_MAX", 1)
    here = follower(cluster)
    first, second = both_sent(here, m.CreateTopic(name="new"))
    assert isinstance(outcome(second), Throttled)
    cluster.run_until(lambda: first.session.out)
    assert outcome(first).created


def test_a_client_that_left_gets_nothing(cluster: Cluster) -> None:
    here = follower(cluster)
    client = sent(here, m.CreateTopic(name="new"))
    here.node.disconnected(client.session)
    cluster.advance(0.5)
    assert not client.session.out
    assert not here.node.relay


def test_a_relayed_request_is_not_relayed_again(cluster: Cluster) -> None:
    asking = follower(cluster)
    third = next(m_ for m_ in cluster.alive if m_ not in (asking, cluster.leader(0)))
    replies: list[object] = []
    asking.node.ask(third.node.node_id, m.CreateTopic(name="new"), replies.append)
    cluster.run_until(lambda: replies)
    assert isinstance(replies[0], NotLeader | LeaderUnknown)


@pytest.mark.parametrize("question", [MetadataIndex(), Propose(group=0, command=b"")])
def test_clients_may_not_ask_what_nodes_ask(cluster: Cluster, question: m.Message) -> None:
    client = sent(cluster.leader(0), question)
    assert isinstance(outcome(client), BadRequest)


@pytest.mark.parametrize("type_", [frames.PUBLISH, frames.FETCH, ACQUIRE])
def test_hot_frames_are_not_relayed(cluster: Cluster, type_: int) -> None:
    replies: list[object] = []
    here = follower(cluster)
    made = bytearray(frames.frame(type_, 0, 0, bytes(40)))
    here.node.relay.ask_frame(cluster.leader(0).node.node_id, made, replies.append)
    cluster.run_until(lambda: replies)
    assert isinstance(replies[0], BadRequest)


@pytest.mark.parametrize("body", [b"", b"short", frames.frame(2, 0, 1, b"a")[:-1]])
@pytest.mark.parametrize("type_", [RELAY, RELAYED])
def test_what_is_no_frame_closes_the_connection(cluster: Cluster, type_: int, body: bytes) -> None:
    here = follower(cluster)
    made = memoryview(checked_frame(type_, body))
    receive = here.node.peers.receivers[type_]
    if type_ == RELAYED and not body:
        receive(3, made, 0, len(made), False)  # no reply at all: nothing happens
        return
    with pytest.raises(RemoteProtocolError):
        receive(3, made, 0, len(made), False)


def test_a_damaged_frame_closes_the_connection(cluster: Cluster) -> None:
    made = bytearray(checked_frame(RELAY, frames.frame(2, 0, 1, b"abc")))
    made[-1] ^= 1
    with pytest.raises(RemoteProtocolError):
        follower(cluster).node.peers.receivers[RELAY](3, memoryview(made), 0, len(made), False)


def test_an_answer_of_a_node_that_was_not_asked_is_none(cluster: Cluster) -> None:
    here = follower(cluster)
    client = sent(here, m.CreateTopic(name="new"))
    (correlation,) = here.node.relay._under_way
    wrong = frames.frame(3, frames.FLAG_RESPONSE, correlation, b"")
    stranger = next(m_ for m_ in cluster.alive if m_ not in (here, cluster.leader(0)))
    made = memoryview(checked_frame(RELAYED, wrong))
    here.node.peers.receivers[RELAYED](stranger.node.node_id, made, 0, len(made), False)
    cluster.run_until(lambda: client.session.out)
    assert outcome(client).created


@pytest.mark.parametrize("data", [b"", bytes(8), bytes(8) + b"x" * 96, bytes(300)])
def test_a_delivery_that_is_none_is_refused(cluster: Cluster, data: bytes) -> None:
    here, replies = follower(cluster), []  # type: Member, list[object]
    gid = next(gid for gid in here.node.partitions if cluster.leader(gid) is not here)
    made = bytearray(frames.frame(DELIVER, 0, 0, data, gid))
    here.node.relay.ask_frame(cluster.leader(gid).node.node_id, made, replies.append)
    cluster.run_until(lambda: replies)
    assert isinstance(replies[0], PenstockError)
    cluster.advance(0.5)
    assert cluster.contents(cluster.leader(gid).number, gid) == []


def test_any_node_has_a_command_of_the_metadata_applied(cluster: Cluster) -> None:
    for number, member in cluster.members.items():
        cluster.topic(f"t{number}")
        assert isinstance(deleted(cluster, member, f"t{number}"), TopicDeleted)
        assert isinstance(deleted(cluster, member, f"t{number}"), TopicNotFound)


def deleted(cluster: Cluster, member: Member, topic: str) -> object:
    replies: list[object] = []
    member.node.ask_metadata(DeleteTopic(name=topic), replies.append)
    cluster.run_until(lambda: replies)
    return replies[0]


def test_a_node_cut_off_denies_nothing_that_it_does_not_know(cluster: Cluster) -> None:
    for here in (follower(cluster), cluster.leader(0)):
        cluster.isolate(here.number)
        client = sent(here, s.HeldRuns(topic="absent", partition=0, group="g"))
        assert isinstance(outcome_of(cluster, client), LeaderUnknown)
        cluster.heal()
        cluster.advance(2.0)


def outcome_of(cluster: Cluster, client: Client) -> Any:
    cluster.run_until(lambda: client.session.out, ANSWER_SECONDS_MAX + 2)
    return outcome(client)


def test_those_that_wait_for_certainty_have_a_limit(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_broker.node.asking.WAITING_MAX", 1)
    here = follower(cluster)
    waits, at_once = both_sent(here, m.DescribeTopic(name="absent"))
    assert isinstance(outcome(at_once), Throttled)
    cluster.run_until(lambda: waits.session.out)
    assert isinstance(outcome(waits), TopicNotFound)
